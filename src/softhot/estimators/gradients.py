"""Gradients put into a graph, and slopes of f taken out of one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.estimator import Integrand

__all__ = ["carry", "no_slope", "scored", "wide", "with_slope"]


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


def wide(logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch N K"]:
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
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = f(z)
        slope = None
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), z, retain_graph=True, allow_unused=True)
    if slope is None:
        raise no_slope(who)
    return value if torch.is_grad_enabled() else value.detach(), slope


def no_slope(who: object) -> ValueError:
    """The error for an f that cannot be differentiated in z, where an estimator must."""
    return ValueError(
        f"{who} needs the slope of f, and f has none: its value does not depend on z by differentiable operations, or "
        "torch.inference_mode() is on; use LeaveOneOut(), which needs none."
    )
