"""One-hot and relaxed one-hot samples from logits."""

from __future__ import annotations

# mypy: disable-error-code="no-any-return"
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import floating, per_row, tensor, wide
from softhot.functional.log_space import remember_log
from softhot.kernels import sampler
from softhot.kernels.routes import FULL
from softhot.kernels.sampler import with_gradient_of

__all__ = [
    "gumbel_log_softmax",
    "gumbel_softmax",
    "one_hot_sample",
    "relaxed_sample",
    "straight_through",
    "with_gradient_of",
]


def gumbel_softmax(
    logits: Float[Tensor, "..."],
    tau: float | Tensor = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "..."]:
    r"""A relaxed one-hot sample, :math:`z = \operatorname{softmax}((\ell + G) / \tau)` with Gumbel noise G.

    In place of :func:`torch.nn.functional.gumbel_softmax`, with a generator. Half precision is computed in float32.

    Arguments:
        logits: of any shape; -inf marks an impossible class.
        tau: the temperature, a number, or a tensor of them whose dimension of the classes has size one.
        hard: return the exact one-hot vector of the largest entry, with the gradient of the relaxed sample.
        eps: ignored, as in torch.
        dim: the dimension of the classes.
        generator: the source of randomness; torch's default generator if not given.

    Raises:
        ValueError: If tau is not positive, or the logits are no floats.
        IndexError: If there is no such dimension, as in torch.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.gumbel_softmax(torch.zeros(2, 3), tau=0.5, hard=True).sum(-1)
        tensor([1., 1.])

    References:
        Jang, Gu, Poole (2017), "Categorical reparameterization with Gumbel-softmax", eq. 2.
        Maddison, Mnih, Teh (2017), "The Concrete distribution", eq. 10.
    """
    tensor("logits", logits)
    also: sampler.Also = "hard" if hard else ""
    if dim == -1 or dim == logits.dim() - 1:
        return _sample(logits, per_row("tau", tau, logits), generator, also)
    last = logits.movedim(dim, -1)
    if isinstance(tau, Tensor) and tau.dim() == logits.dim():
        tau = tau.movedim(dim, -1)
    return _sample(last, per_row("tau", tau, last), generator, also).movedim(-1, dim)


def straight_through(
    logits: Float[Tensor, "..."], dim: int = -1, *, generator: torch.Generator | None = None
) -> Float[Tensor, "..."]:
    r"""An exact one-hot sample of the categorical variable, with the gradient of :math:`\operatorname{softmax}(\ell)`.

    Arguments:
        logits: of any shape; -inf marks an impossible class.
        dim: the dimension of the classes.
        generator: the source of randomness; torch's default generator if not given.

    Raises:
        ValueError: If the logits are no floats.
        IndexError: If there is no such dimension, as in torch.

    Example:
        >>> import torch, softhot
        >>> logits = torch.tensor([0.0, 0.0], requires_grad=True)
        >>> z = softhot.functional.straight_through(logits)
        >>> torch.autograd.grad(z[0], logits)[0]
        tensor([ 0.2500, -0.2500])

    Reference:
        Bengio, Léonard, Courville (2013), "Estimating or propagating gradients through stochastic neurons".
    """
    tensor("logits", logits)
    return _sample(logits.movedim(dim, -1), 1.0, generator, "straight").movedim(-1, dim)


def one_hot_sample(
    logits: Float[Tensor, "*batch K"], *, generator: torch.Generator | None = None
) -> Float[Tensor, "*batch K"]:
    """A one-hot sample over the last dimension, without gradient: the largest of logits plus Gumbel noise.

    Arguments:
        logits: of shape (*batch, K); -inf marks an impossible class.
        generator: the source of randomness; torch's default generator if not given.

    Raises:
        ValueError: If the logits are no floats.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.one_hot_sample(torch.tensor([-torch.inf, 0.0]))
        tensor([0., 1.])
    """
    return sampler.one_hot_sample(wide(logits), None, generator).to(logits.dtype)


def relaxed_sample(
    logits: Float[Tensor, "*batch K"],
    temperature: float | Tensor = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch K"]:
    r"""A relaxed one-hot sample over the last dimension, :math:`\operatorname{softmax}((\ell + G) / t)`.

    Its logarithm is kept beside it: :func:`log_of` finds it, as long as the sample lives.

    Arguments:
        logits: of shape (\*batch, K); -inf marks an impossible class.
        temperature: t, a number, or a tensor of them that broadcasts to the batch.
        generator: the source of randomness; torch's default generator if not given.

    Raises:
        ValueError: If the temperature is not positive, or the logits are no floats.

    Example:
        >>> import torch, softhot
        >>> z = softhot.functional.relaxed_sample(torch.tensor([[0.0, 0.0, -torch.inf]]), temperature=0.5)
        >>> z[..., 2], softhot.functional.log_of(z).logsumexp(-1).abs() < 1e-6
        (tensor([0.]), tensor([True]))
    """
    floating("logits", logits)
    soft, log = _sample(logits, per_row("temperature", temperature, logits), generator, "log")
    return remember_log(soft, log.detach())


def gumbel_log_softmax(
    logits: Float[Tensor, "*batch K"],
    temperature: float | Tensor = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch K"]:
    r"""The logarithm of a relaxed one-hot sample, :math:`\log\operatorname{softmax}((\ell + G) / t)`.

    Finite wherever a class is possible, at every temperature; in float32 where the logits are of half precision.

    Arguments:
        logits: of shape (\*batch, K); -inf marks an impossible class.
        temperature: t, a number, or a tensor of them that broadcasts to the batch.
        generator: the source of randomness; torch's default generator if not given.

    Raises:
        ValueError: If the temperature is not positive, or the logits are no floats.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.gumbel_log_softmax(torch.tensor([0.0, 9.0]), temperature=0.001).isfinite()
        tensor([True, True])
    """
    floating("logits", logits)
    return _sample(logits, per_row("temperature", temperature, logits), generator, "log")[1]


def _sample(logits: Tensor, temperature: float | Tensor, generator: torch.Generator | None, also: sampler.Also) -> Any:
    if logits.dtype in FULL:
        return sampler.relaxed_sample(logits, temperature, None, also, generator)
    sample = sampler.relaxed_sample(wide(logits), temperature, None, also, generator)
    return (sample[0].to(logits.dtype), sample[1]) if also == "log" else sample.to(logits.dtype)
