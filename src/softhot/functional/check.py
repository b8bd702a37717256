"""Errors for logits, temperatures, scales and numbers of draws, before any work is done."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from softhot.kernels.routes import broadcast, unseen

__all__ = ["alike", "counted", "floating", "per_row", "positive", "sizes", "tensor", "variables", "wide"]

_HALF = (torch.float16, torch.bfloat16)  # computed in float32
_NUMBERS = (Real, torch.SymFloat, torch.SymInt)  # Real: NumPy's, too


def positive(
    name: str, value: float | Tensor, batch: torch.Size, *, column: bool = True, device: torch.device | None = None
) -> float | Tensor:
    """The value, if it is a finite positive number or a tensor of such that broadcasts with the batch.

    A column, with a last dimension of one for the classes, loses that dimension. Where values cannot be seen, since
    they are compiled or mapped, only their shape is checked. With a device, which is the batch's, the tensor has to be
    there or on the CPU: of one on the meta device an operator would return memory that nobody wrote.
    """
    if type(value) is float or not isinstance(value, Tensor):
        number = value if isinstance(value, (float, int)) else _number(name, value)
        if not 0 < number < math.inf:
            raise ValueError(f"{name}={value} is not a positive finite number; use {name}=1.0, for example.")
        return float(number)
    if device is not None and not value.is_cpu and value.device != device:
        raise ValueError(
            f"{name} is on the device {value.device}, what it belongs to on {device}; use {name}.to({str(device)!r})."
        )
    if value.numel() != 1:
        if column and value.dim() == len(batch) + 1 and value.shape[-1] == 1:
            value = value.squeeze(-1)
        if broadcast(value.shape, batch) != batch:
            raise ValueError(
                f"{name} of shape {tuple(value.shape)} does not broadcast to the batch shape {tuple(batch)}, which "
                f"excludes the classes; use a number, or {name}.reshape(...) to a shape that does."
            )
    elif value.dim():
        value = value.reshape(())
    if unseen(value) or not value.numel():
        return value
    low, high = value.detach().aminmax() if value.dim() else (value.item(),) * 2
    if not (low > 0 and high < math.inf):
        raise ValueError(
            f"{name} holds values from {float(low):g} to {float(high):g}, but all must be positive and finite; "
            f"use {name}.exp() or torch.nn.functional.softplus({name}) for an unconstrained parameter."
        )
    return value


def per_row(name: str, value: float | Tensor, logits: Tensor, *, column: bool = True) -> float | Tensor:
    """The value, if it is `positive` for each row of the logits, and where they are or on the CPU."""
    return positive(name, value, logits.shape[:-1], column=column, device=logits.device)


def tensor(name: str, value: object) -> None:
    """An error if this is no tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}, not a tensor; use torch.as_tensor({name}).")


def floating(name: str, value: Tensor, *, least: int = 0) -> None:
    """An error if these are no floating-point numbers over a last dimension of classes, at least so many."""
    tensor(name, value)
    if not value.is_floating_point():
        raise ValueError(f"{name} is a tensor of {value.dtype}, not of floats; use {name}.float().")
    if value.dim() < 1 or value.shape[-1] < least:
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} has no classes; use a tensor of shape (*batch, K) with K >= 1."
        )


def alike(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """An error if these are no floats over as many classes, on one device, of batches that broadcast."""
    floating(name, value)
    floating(other_name, other)
    if value.device != other.device:
        raise ValueError(
            f"{name} is on the device {value.device} and {other_name} on {other.device}; "
            f"use {other_name}.to({name}.device)."
        )
    if value.dim() == other.dim() and value.shape == other.shape:
        return
    as_many = value.shape[-1] == other.shape[-1]
    if as_many and broadcast(value.shape, other.shape) is not None:
        return
    shapes = f"{name} of shape {tuple(value.shape)} and {other_name} of shape {tuple(other.shape)}"
    if not as_many:
        raise ValueError(f"{shapes} differ in the number of classes, their last dimension; use as many in both.")
    raise ValueError(f"{shapes} do not broadcast; use {other_name}.reshape(...) to a shape that does.")


def variables(name: str, value: Tensor) -> None:
    """An error if these are no floating-point numbers of N variables of K classes, at least one of each."""
    floating(name, value)
    if value.dim() < 2 or not (value.shape[-1] and value.shape[-2]):
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} are not those of N variables of K classes, at least one of each; "
            f"use shape (*batch, N, K), as {name}.unsqueeze(-2) has for one variable of each element."
        )


def sizes(cardinalities: Any, latents: int | None = None, most: int | None = None) -> tuple[int, ...]:
    """The number of classes of each variable, if they are whole and from 1, for as many variables and to the most."""
    given = cardinalities.tolist() if hasattr(cardinalities, "tolist") else cardinalities
    own = tuple(given) if isinstance(given, Iterable) else ()
    whole = all(type(size) is not bool and isinstance(size, Integral) and int(size) >= 1 for size in own)
    if not own or not whole or len(own) != (latents or len(own)) or max(own) > (most or max(own)):
        example = [most or 2] * (latents or 2)
        raise ValueError(
            f"cardinalities={given!r} do not fit {latents or 'any'} variables"
            f"{f' of up to {most} classes' if most else ''}; use a whole number of classes from 1 for each variable, "
            f"such as {example}."
        )
    return tuple(map(int, own))


def wide(logits: Tensor) -> Tensor:
    """The logits, half precision as float32; an error if they are no floats."""
    floating("logits", logits)
    return logits.float() if logits.dtype in _HALF else logits


def counted(name: str, value: Any, least: int, why: str, *, who: str = "") -> None:
    """An error if this is not a whole number, or fewer draws than there must be."""
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, Integral)):
        raise ValueError(f"{_shown(name, value, who)} is not a whole number; use {name}={least}, for example.")
    if value < least:
        raise ValueError(f"{_shown(name, value, who)} {why}; use {name} >= {least}.")


def _number(name: str, value: Any) -> float:
    """A number of another type than Python's own; an array of NumPy's may be one."""
    single = value.item() if getattr(value, "shape", None) == () else value
    if not isinstance(single, _NUMBERS):
        raise ValueError(
            f"{name} is a {type(value).__name__}, not a number or a tensor; "
            f"use {name}=1.0, for example, or torch.as_tensor({name})."
        )
    return single  # type: ignore[return-value]


def _shown(name: str, value: object, who: str) -> str:
    return f"{who}({name}={value!r})" if who else f"{name}={value!r}"
