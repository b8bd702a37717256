r"""The function f whose expectation is estimated, and what is wrong with one that is no such function.

It is given z of shape (\*sample, \*batch, N, K), and gives a number for each of them, of shape (\*sample, \*batch).
Another shape would often broadcast, to what is no expectation of anything.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["Integrand", "no_slope", "numbers"]

Integrand = Callable[[Tensor], Tensor]
r"""The function f, from z of shape (\*sample, \*batch, N, K) to numbers of shape (\*sample, \*batch)."""


def numbers(f: Integrand, name: str = "f", *, slope: str | None = None) -> Integrand:
    """The function, if it is one, which raises ValueError if what it gives is not one number for each z.

    Arguments:
        f: the function.
        name: what to call it.
        slope: who needs its slope in z, if anyone.

    Example:
        >>> import torch
        >>> numbers(lambda z: z.sum())(torch.zeros(5, 2, 3))
        Traceback (most recent call last):
            ...
        ValueError: f gives shape () for z of shape (5, 2, 3), not one number for each z, of shape (5,); sum over the \
last two dimensions alone, as in z.sum((-1, -2)).
    """
    if not callable(f):
        raise ValueError(f"{name} is a {type(f).__name__}, not a function of z; use a function, and give it first.")

    def checked(z: Tensor) -> Tensor:
        value = f(z)
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name} gives a {type(value).__name__}, not a tensor with a number for each z; use operations of "
                "torch, as in z[..., 0].sum(-1)."
            )
        if value.shape != z.shape[:-2]:
            raise ValueError(
                f"{name} gives shape {tuple(value.shape)} for z of shape {tuple(z.shape)}, not one number for each z, "
                f"of shape {tuple(z.shape[:-2])}; sum over the last two dimensions alone, as in z.sum((-1, -2))."
            )
        if not value.is_floating_point():
            raise ValueError(f"{name} gives a tensor of {value.dtype}, not of floats; use .to(z.dtype) on it.")
        if slope and z.requires_grad and not value.requires_grad:
            raise no_slope(slope)
        return value

    return checked


def no_slope(who: object) -> ValueError:
    """The error for an f that cannot be differentiated in z, where an estimator must."""
    return ValueError(
        f"{who} needs the slope of f, and f has none: its value does not depend on z by differentiable operations, or "
        "torch.inference_mode() is on; use LeaveOneOut(), which needs none."
    )
