"""Gradients put into a graph, and slopes of f taken out of one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.integrand import Integrand, no_slope
from softhot.kernels.routes import unseen
from softhot.kernels.streams import drawn

__all__ = ["carry", "detached", "exponential", "scored", "sloped", "with_slope"]


def carry(
    value: Float[Tensor, "*batch"], logits: Float[Tensor, "*batch N K"], gradient: Float[Tensor, "*batch N K"]
) -> Float[Tensor, "*batch"]:
    """The value, with its own graph, that beside it carries a gradient to the logits; none to impossible classes.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> carry(torch.tensor(3.0), logits, torch.tensor([[1.0, -1.0]])).backward()
        >>> logits.grad
        tensor([[ 1., -1.]])
    """
    finite = logits.masked_fill(logits == -math.inf, 0.0)
    moving = (gradient.detach() * (finite - finite.detach())).sum((-1, -2))
    return value + moving.to(value.dtype)


def detached(logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch N K"]:
    """The logits without their graph, half precision as float32: what gradients are computed from."""
    return logits.detach().to(torch.promote_types(logits.dtype, torch.float32))


def scored(
    signal: Float[Tensor, "*sample"], z: Float[Tensor, "*sample N K"], logits: Float[Tensor, "*batch N K"]
) -> Float[Tensor, "*sample N K"]:
    """The score of q at z, which is z - pi in the logits, times a signal for each sample.

    Example:
        >>> import torch
        >>> scored(torch.tensor(2.0), torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2))
        tensor([[ 1., -1.]])
    """
    return signal[..., None, None] * (z - logits.softmax(-1))


def exponential(
    shape: Sequence[int], like: Float[Tensor, "..."], generator: torch.Generator | None
) -> Float[Tensor, "..."]:
    """Standard exponential variables of a shape, in the dtype and on the device of another tensor."""
    return drawn(
        lambda own: torch.empty(shape, dtype=like.dtype, device=like.device).exponential_(generator=own), generator
    )


def with_slope(
    f: Integrand, z: Float[Tensor, "*sample N K"], who: object
) -> tuple[Float[Tensor, "*sample"], Float[Tensor, "*sample N K"]]:
    """f at z, with its own graph, and its slope there, without one.

    Raises:
        ValueError: If f cannot be differentiated in z.

    Example:
        >>> import torch
        >>> with_slope(lambda z: (z**2).sum((-1, -2)), torch.tensor([[1.0, 3.0]]), "An estimator")
        (tensor(10., grad_fn=<SumBackward1>), tensor([[2., 6.]]))
    """
    value, slope = sloped(f, z)
    if slope is None:
        raise no_slope(who)
    return value if torch.is_grad_enabled() else value.detach(), slope


def sloped(
    f: Integrand, z: Float[Tensor, "*point"], *, graph: bool = False
) -> tuple[Float[Tensor, "*sample"], Float[Tensor, "*point"] | None]:
    """f at z, with its own graph, and its slope there, with a graph if asked for; None where f has no slope.

    A mapped f is differentiated by torch.func, which does not tell whether there is a slope: it is zero then.
    """
    z = z.detach()
    with torch.enable_grad():
        if unseen(z):
            value, pull = torch.func.vjp(f, z)[:2]
            (slope,) = pull(torch.ones_like(value))
            return value, slope if graph else slope.detach()
        z = z.requires_grad_()
        value = f(z)
        if not value.requires_grad:
            return value, None
        (slope,) = torch.autograd.grad(value.sum(), z, create_graph=graph, retain_graph=True, allow_unused=True)
        return value, slope
