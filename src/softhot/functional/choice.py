r"""Exact expected maxima, choice probabilities and expected log-sum-exps.

Let :math:`y_k = m_k + s Z_k` with locations m, scale s and independent noise Z. Adding a Gumbel variable to each and
taking the largest adds one Gumbel variable to their logsumexp, so that

.. math:: E[\operatorname{logsumexp}(y)] = E[\max_k (m_k + G_k + s Z_k)] - \gamma

and the right side is one integral of a product of CDFs F of the noise :math:`G + s Z`:

.. math::
    E[\max_k (m_k + \varepsilon_k)] = c + \gamma + \int \Big( \exp(-e^{-(x - c)}) - \prod_k F(x - m_k) \Big) dx, \qquad
    P(\arg\max = k) = \int f(x - m_k) \prod_{j \ne k} F(x - m_j) \, dx

Both integrands are analytic and decay on both sides, so the trapezoid rule is exact to rounding.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import floating, per_row
from softhot.kernels.choice import expected, probabilities
from softhot.kernels.choice_reference import EULER, Choice
from softhot.kernels.noise import NOISES, Noise
from softhot.names import unknown

__all__ = ["EULER", "choice_probabilities", "choice_slopes", "expected_logsumexp", "expected_max"]


def expected_max(
    locations: Float[Tensor, "*batch K"], scale: float | Tensor = 1.0, noise: Noise = "gumbel"
) -> Float[Tensor, "*batch"]:
    r"""The expected maximum :math:`E[\max_k (m_k + G_k + s Z_k)]`, exact to rounding.

    Arguments:
        locations: m, of shape (\*batch, K); -inf marks an impossible class.
        scale: s > 0, a number or a tensor that broadcasts with the batch.
        noise: the law of Z: "gumbel", "-gumbel" (the negative of a Gumbel variable) or "normal" (standard).

    Returns:
        A tensor of shape (\*batch), differentiable in locations and scale.

    Raises:
        ValueError: If the locations are no floats, the scale is not positive or does not broadcast, or the noise has
            another name.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.expected_max(torch.tensor([0.0, 1.0]), 2.0)
        tensor(3.8557)

    Reference:
        McFadden (1978), "Modelling the choice of residential location": the mean of a maximum as a function whose
        gradient is the choice probability.
    """
    return expected(locations, None, _checked(locations, scale, noise), noise).to(locations.dtype)


def choice_probabilities(
    locations: Float[Tensor, "*batch K"], scale: float | Tensor = 1.0, noise: Noise = "gumbel"
) -> Float[Tensor, "*batch K"]:
    r"""The probability that each class is the largest, :math:`P(\arg\max_k (m_k + G_k + s Z_k) = k)`.

    This is the gradient of :func:`expected_max` in the locations, and :math:`E[\operatorname{softmax}(m + s Z)]`.
    Arguments, errors and differentiability as in :func:`expected_max`.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.choice_probabilities(torch.zeros(4, dtype=torch.float64), 3.0, "normal")
        tensor([0.2500, 0.2500, 0.2500, 0.2500], dtype=torch.float64)
    """
    return probabilities(locations, _checked(locations, scale, noise), noise)


def choice_slopes(
    locations: Float[Tensor, "*batch K"], scale: float | Tensor = 1.0, noise: Noise = "gumbel"
) -> Float[Tensor, "*batch K"]:
    r"""The derivative of each choice probability in its own location, :math:`\partial P_k / \partial m_k`.

    Equal to :math:`E[z_k (1 - z_k)]` for :math:`z = \operatorname{softmax}(m + s Z)`.
    Arguments, errors and differentiability as in :func:`expected_max`.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.choice_slopes(torch.zeros(2, dtype=torch.float64), 1e-6)
        tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    return Choice(locations, _checked(locations, scale, noise), noise).slopes().to(locations.dtype)


def expected_logsumexp(
    locations: Float[Tensor, "*batch K"], scale: float | Tensor = 1.0, noise: Noise = "gumbel"
) -> Float[Tensor, "*batch"]:
    r"""The exact :math:`E[\log \sum_k \exp(m_k + s Z_k)]`.

    Arguments, errors and differentiability as in :func:`expected_max`.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.expected_logsumexp(torch.zeros(1, dtype=torch.float64), 2.0)  # 2 * Euler's constant
        tensor(1.1544, dtype=torch.float64)
    """
    return (expected(locations, None, _checked(locations, scale, noise), noise) - EULER).to(locations.dtype)


def _checked(locations: Tensor, scale: float | Tensor, noise: str) -> float | Tensor:
    if noise not in NOISES:
        raise unknown("noise", noise, NOISES)
    floating("locations", locations)
    return per_row("scale", scale, locations, column=False)
