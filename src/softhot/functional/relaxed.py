r"""Exact values of the relaxed one-hot variable (Concrete, Gumbel-softmax).

.. math:: z = \operatorname{softmax}((\ell + G) / t), \qquad
    \log q(z) = \log\Gamma(K) + (K - 1) \log t + \sum_k (\ell_k - (t + 1) \log z_k)
        - K \operatorname{logsumexp}_k(\ell_k - t \log z_k)

is a density on the simplex of K classes (Lebesgue measure of K - 1 coordinates). Impossible classes, with a logit of
-inf, do not count: the variable lives on the face of the others. Values are in nats and in the dtype of the logits;
float64 logits give them to rounding.

References:
    Maddison, Mnih, Teh (2017), "The Concrete distribution", eq. 10.
    docs/mathematics.md derives what is not in the paper.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import alike, floating, per_row
from softhot.functional.choice import EULER, choice_probabilities
from softhot.kernels.choice import Affine, contrast
from softhot.kernels.choice_reference import Choice
from softhot.kernels.density import log_density
from softhot.kernels.temper import column

__all__ = ["relaxed_entropy", "relaxed_kl", "relaxed_log_prob", "relaxed_mean", "relaxed_variance"]


def relaxed_mean(logits: Float[Tensor, "*batch K"], temperature: float | Tensor) -> Float[Tensor, "*batch K"]:
    r"""The exact mean :math:`E[z] = P(\arg\max_k (\ell_k + G_k + t G'_k) = k)`.

    Arguments:
        logits: of shape (\*batch, K).
        temperature: t > 0, a number or a tensor that broadcasts with the batch.

    Returns:
        A tensor of shape (\*batch, K), differentiable in logits and temperature.

    Raises:
        ValueError: If the logits are no floats, or the temperature is not positive or does not broadcast.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.relaxed_mean(torch.tensor([0.5, 0.25, 0.125, 0.125]).log(), 1.0)
        tensor([0.4205, 0.2609, 0.1593, 0.1593])
    """
    floating("logits", logits)
    return choice_probabilities(logits, per_row("temperature", temperature, logits))


def relaxed_variance(logits: Float[Tensor, "*batch K"], temperature: float | Tensor) -> Float[Tensor, "*batch K"]:
    r"""The exact variance of each entry, from :math:`E[z_k (1 - z_k)] = t \, \partial E[z_k] / \partial \ell_k`.

    Arguments, errors and differentiability as in :func:`relaxed_mean`.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.relaxed_variance(torch.zeros(2), 1.0)  # a uniform variable
        tensor([0.0833, 0.0833])
    """
    floating("logits", logits)
    temperature = per_row("temperature", temperature, logits)
    choice = Choice(logits, temperature, "gumbel", torch.float64)
    mean = choice.probabilities()
    variance = mean * (1 - mean) - column(temperature) * choice.slopes()
    return variance.clamp_min(0.0).to(logits.dtype)


def relaxed_entropy(logits: Float[Tensor, "*batch K"], temperature: float | Tensor) -> Float[Tensor, "*batch"]:
    r"""The exact differential entropy of z on the simplex, in nats.

    .. math:: -H = \log\Gamma(K) + (K - 1) \log t + \tfrac{1}{t} \Big( K M - \sum_k \ell_k \Big)
        - K \gamma (2 + \tfrac{1}{t}) - K \psi(K), \qquad M = E[\max_k (\ell_k + G_k + t G'_k)]

    Arguments, errors and differentiability as in :func:`relaxed_mean`; the result has shape (\*batch).

    Example:
        >>> import torch, softhot
        >>> softhot.functional.relaxed_entropy(torch.zeros(3), 1.0)
        tensor(-0.8810)
    """
    floating("logits", logits)
    t = per_row("temperature", temperature, logits)
    return contrast(logits, None, t, "gumbel", _ENTROPY)


def relaxed_kl(
    logits: Float[Tensor, "*#batch K"],
    temperature: float | Tensor,
    prior_logits: Float[Tensor, "*#batch K"],
    prior_temperature: float | Tensor,
) -> Float[Tensor, "*batch"]:
    r"""The exact Kullback-Leibler divergence of two relaxed one-hot variables, in nats.

    With :math:`r = s / t` the ratio of the prior's temperature to the posterior's and :math:`b = \ell' - r \ell`,

    .. math:: KL = K W - \sum_k b_k - (K - 1) \log r + K (\gamma (r - 1) - \psi(K)), \qquad
        W = E[\max_k (b_k + G'_k - r G_k)] - \gamma

    It depends on the temperatures through their ratio alone, and is never below the categorical divergence. It is the
    same for the variables in log space. If one variable allows a class that the other does not, it is infinite.

    Arguments:
        logits, prior_logits: of shapes (\*batch, K) that broadcast.
        temperature, prior_temperature: positive numbers, or tensors that broadcast with the batch.

    Returns:
        A tensor of shape (\*batch), differentiable in all four arguments.

    Raises:
        ValueError: If a temperature is not positive or does not broadcast, or the logits are not of as many classes.

    Example:
        >>> import torch, softhot
        >>> q, p = torch.tensor([0.5, 0.25, 0.125, 0.125]).log(), torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
        >>> softhot.functional.relaxed_kl(q, 0.5, p, 0.5)
        tensor(1.5524)
    """
    alike("logits", logits, "prior_logits", prior_logits)
    if logits.shape != prior_logits.shape:
        logits, prior_logits = torch.broadcast_tensors(logits, prior_logits)
    t = per_row("temperature", temperature, logits)
    s = per_row("prior_temperature", prior_temperature, logits)
    ratio = s / t if not isinstance(s, Tensor) and not isinstance(t, Tensor) else _double(s) / _double(t)
    ratio = ratio.to(logits.device) if isinstance(ratio, Tensor) else ratio
    return contrast(logits, prior_logits, ratio, "-gumbel", _DIVERGENCE)


def relaxed_log_prob(
    log_sample: Float[Tensor, "*#batch K"], logits: Float[Tensor, "*#batch K"], temperature: float | Tensor
) -> Float[Tensor, "*batch"]:
    r"""The log-density of z on the simplex, at a point given by its logarithm.

    At the boundary, where entries of z are zero, it is the limit as they fall together.

    Arguments:
        log_sample: log z, of shape (\*batch, K).
        logits: of a shape that broadcasts with it.
        temperature: a positive number, or a tensor that broadcasts with the batch.

    Raises:
        ValueError: If the temperature is not positive or does not broadcast, or the classes are not as many.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.relaxed_log_prob(torch.tensor([0.25, 0.75]).log(), torch.zeros(2), 2.0)
        tensor(-0.0408)
    """
    alike("log_sample", log_sample, "logits", logits)
    if log_sample.shape != logits.shape:
        log_sample, logits = torch.broadcast_tensors(log_sample, logits)
    t = per_row("temperature", temperature, logits)
    dtype = torch.promote_types(log_sample.dtype, logits.dtype)
    wide = torch.promote_types(dtype, torch.float32)
    if log_sample.dtype == logits.dtype == wide:
        return log_density(log_sample, logits, t)
    return log_density(log_sample.to(wide), logits.to(wide), t).to(dtype)


def _double(value: float | Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _log(value: float | Tensor) -> float | Tensor:
    return value.log() if isinstance(value, Tensor) else math.log(value)


def _log_gamma(count: Tensor | float) -> Tensor | float:
    return torch.lgamma(count) if isinstance(count, Tensor) else math.lgamma(count)


def _digamma(count: Tensor | float) -> Tensor | float:
    return torch.digamma(count) if isinstance(count, Tensor) else _digamma_of(count)


@lru_cache
def _digamma_of(count: float) -> float:
    return torch.digamma(torch.tensor(count, dtype=torch.float64, device="cpu")).item()


_ENTROPY = Affine(
    lambda t: -1 / t,
    lambda t, count: count * (EULER * (2 + 1 / t) + _digamma(count)) - _log_gamma(count) - (count - 1) * _log(t),
)
_DIVERGENCE = Affine(
    lambda ratio: 1.0,
    lambda ratio, count: count * (EULER * (ratio - 2) - _digamma(count)) - (count - 1) * _log(ratio),
)
