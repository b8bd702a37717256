"""One-hot and relaxed one-hot samples from logits."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import positive
from softhot.functional.temper import tempered

__all__ = ["gumbel_log_softmax", "gumbel_softmax", "one_hot_sample", "straight_through", "with_gradient_of"]


def gumbel_softmax(
    logits: Float[Tensor, "..."],
    tau: float = 1,
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
        tau: the temperature.
        hard: return the exact one-hot vector of the largest entry, with the gradient of the relaxed sample.
        eps: ignored, as in torch.
        dim: the dimension of the classes.
        generator: the source of randomness; torch's default generator if not given.

    Raises:
        ValueError: If tau is not positive.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.gumbel_softmax(torch.zeros(2, 3), tau=0.5, hard=True).sum(-1)
        tensor([1., 1.])

    References:
        Jang, Gu, Poole (2017), "Categorical reparameterization with Gumbel-softmax", eq. 2.
        Maddison, Mnih, Teh (2017), "The Concrete distribution", eq. 10.
    """
    moved = logits.movedim(dim, -1)
    temperature = positive("tau", tau, moved.shape[:-1])
    soft = gumbel_log_softmax(moved, temperature, generator=generator).exp().to(logits.dtype)
    sample = with_gradient_of(_one_hot(soft.detach()), soft) if hard else soft
    return sample.movedim(-1, dim)


def straight_through(
    logits: Float[Tensor, "..."], dim: int = -1, *, generator: torch.Generator | None = None
) -> Float[Tensor, "..."]:
    r"""An exact one-hot sample of the categorical variable, with the gradient of :math:`\operatorname{softmax}(\ell)`.

    Arguments:
        logits: of any shape; -inf marks an impossible class.
        dim: the dimension of the classes.
        generator: the source of randomness; torch's default generator if not given.

    Example:
        >>> import torch, softhot
        >>> logits = torch.tensor([0.0, 0.0], requires_grad=True)
        >>> z = softhot.functional.straight_through(logits)
        >>> torch.autograd.grad(z[0], logits)[0]
        tensor([ 0.2500, -0.2500])

    Reference:
        Bengio, Léonard, Courville (2013), "Estimating or propagating gradients through stochastic neurons".
    """
    moved = logits.movedim(dim, -1)
    hard = one_hot_sample(moved.detach(), generator=generator)
    return with_gradient_of(hard, moved.softmax(-1)).movedim(-1, dim)


def one_hot_sample(
    logits: Float[Tensor, "*batch K"], *, generator: torch.Generator | None = None
) -> Float[Tensor, "*batch K"]:
    """A one-hot sample over the last dimension, without gradient: the largest of logits plus Gumbel noise."""
    with torch.no_grad():
        return _one_hot(_perturbed(logits, generator)).to(logits.dtype)


def gumbel_log_softmax(
    logits: Float[Tensor, "*batch K"],
    temperature: float | Tensor = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch K"]:
    r"""The logarithm of a relaxed one-hot sample, :math:`\log\operatorname{softmax}((\ell + G) / t)`.

    Finite wherever a class is possible, at every temperature; in float32 if the logits are in half precision.
    """
    temperature = positive("temperature", temperature, logits.shape[:-1])
    return tempered(_perturbed(logits, generator), temperature).log_softmax(-1)


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """The value exactly, to the last bit, with the gradient that the surrogate has."""
    replaced: Tensor = _Replace.apply(value, surrogate)  # type: ignore[no-untyped-call]
    return replaced


class _Replace(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, surrogate: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def _perturbed(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    exponential = torch.empty_like(logits, requires_grad=False).exponential_(generator=generator)
    return logits - exponential.clamp_min_(torch.finfo(logits.dtype).tiny).log_()


def _one_hot(score: Tensor) -> Tensor:
    return torch.zeros_like(score).scatter_(-1, score.argmax(-1, keepdim=True), 1.0)
