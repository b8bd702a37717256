"""Which way a call goes: straight to the kernel, through the operator, or through the plain-torch reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor
from torch._C import _get_tracing_state, _len_torch_dispatch_stack
from torch._C._functorch import (
    _add_batch_dim,
    get_unwrapped,
    is_batchedtensor,
    is_functorch_wrapped_tensor,
    is_legacy_batchedtensor,
    maybe_current_level,
    maybe_get_bdim,
    maybe_get_level,
)
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack
from torch.autograd import forward_ad
from torch.nn import Parameter

__all__ = ["FULL", "again", "at_once", "beside", "broadcast", "compiled", "constant", "direct", "forward", "front"]
__all__ += ["mapped", "needs_gradient", "operator", "repeats", "route", "rows_beside", "unseen"]

Route = Literal["direct", "operator", "reference"]
FULL = (torch.float32, torch.float64)  # what kernels compute in
_ORDINARY = (Tensor, Parameter)


@lru_cache
def compiled(name: str) -> ModuleType | None:
    """A module of kernels by its name in this folder, imported when first needed; None without its compiler."""
    try:
        return import_module(f"softhot.kernels.{name}")
    except ImportError:
        return None


def operator(name: str, schema: str) -> Any:
    """Register a reference as the torch operator of that name, which changes none of its arguments."""
    return torch.library.custom_op(name, mutates_args=(), schema=schema)


def route(*values: Tensor | float | None) -> Route:
    """The way of a call with these arguments.

    Ordinary eager tensors of the CPU go straight to the kernel, since the dispatcher takes longer than a small sample.
    What is compiled, traced, exported or mapped, or lies on another device, needs the operator, which states its
    shapes and derivatives; the derivatives of torch.func and forward mode, which operators do not have, need the
    reference.
    """
    if torch.compiler.is_compiling():
        return "reference" if _differentiated() else "operator"
    if maybe_current_level() is not None:
        return "reference" if _differentiated() else "operator"
    if forward():
        return "reference"
    if _len_torch_dispatch_stack() or _get_tracing_state() is not None:
        return "operator"
    for x in values:
        if type(x) is not float and isinstance(x, Tensor):
            ordinary = x.is_cpu and type(x) in _ORDINARY
            if not ordinary or is_legacy_batchedtensor(x):  # of autograd's is_grads_batched
                return "operator"
    return "direct"


def direct(function: type[torch.autograd.Function]) -> Any:
    """Its ``apply`` without torch's search for transforms, where the route is direct and there are none."""
    return super(torch.autograd.Function, function).apply  # type: ignore[misc]


def again(
    reference: Callable[..., Any], inputs: Sequence[Any], moving: Sequence[bool], gradients: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """What a backward pass returns, by the reference in plain torch, so that it can be differentiated in turn."""
    create = torch.is_grad_enabled()
    with torch.enable_grad():
        outputs = reference(*inputs)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs[: len(gradients)]
        wanted = [x for x, moves in zip(inputs, moving, strict=True) if moves]
        given = [h for x, h in zip(outputs, gradients, strict=True) if x.requires_grad]
        outputs = tuple(x for x in outputs if x.requires_grad)  # a sum of locations does not move with the scale
        found = iter(torch.autograd.grad(outputs, wanted, given, create_graph=create))
    return tuple(next(found) if moves else None for moves in moving)


def needs_gradient(*values: Tensor | float) -> bool:
    """Whether autograd records what is done with them, or with what they are mapped from."""
    if torch.is_grad_enabled():
        for x in values:
            if type(x) is not float and isinstance(x, Tensor) and (x.requires_grad or _mapped_from(x).requires_grad):
                return True
    return False


def _mapped_from(x: Tensor) -> Tensor:
    if not torch.compiler.is_compiling():
        while is_functorch_wrapped_tensor(x):
            x = get_unwrapped(x)
    return x


def repeats(x: Tensor, over: Tensor) -> bool:
    """Whether the rows of a tensor are beside those of another in turn, again and again, in a type of the kernels."""
    same = x.dtype == over.dtype and x.dtype in FULL
    return same and 0 < x.dim() <= over.dim() and x.shape == over.shape[over.dim() - x.dim() :] and x.numel() > 0


def mapped(x: Tensor) -> bool:
    """Whether a tensor is mapped by torch.func.vmap, with no compiling and no derivative of torch.func about it."""
    if torch.compiler.is_compiling() or maybe_current_level() is None:
        return False
    return is_batchedtensor(x) and not _differentiated()


def at_once(function: Callable[..., Any], *inputs: Tensor) -> Any:
    """A function of rows, called once for all that it is mapped over, which is the first dimension of its inputs.

    What torch's own ways to a mapped function cost is many times the work of a small one.
    """
    level: Any = maybe_current_level()
    own = [is_batchedtensor(x) and maybe_get_level(x) == level for x in inputs]
    dims = [maybe_get_bdim(x) if here else None for x, here in zip(inputs, own, strict=True)]
    rows = [get_unwrapped(x) if here else x for x, here in zip(inputs, own, strict=True)]
    with temporarily_pop_interpreter_stack():
        size = next(x.shape[dim] for x, dim in zip(rows, dims, strict=True) if dim is not None)
        found = function(*(_front(size, dim, x) for x, dim in zip(rows, dims, strict=True)))
    if isinstance(found, Tensor):
        return _add_batch_dim(found, 0, level)
    return tuple(_add_batch_dim(each, 0, level) for each in found)


def rows_beside(x: Tensor, over: Tensor) -> Tensor:
    """An input of shape (R, *batch, K) beside one of shape (R, *sample, *batch, K), as large where that is possible."""
    x = x.reshape(len(x), *(1,) * (over.dim() - x.dim()), *x.shape[1:])
    return x.expand_as(over) if broadcast(x.shape, over.shape) == over.shape else x


def broadcast(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...] | None:
    """The shape that two shapes broadcast to, None if they do not.

    torch.broadcast_shapes takes ten times as long, and imports sympy when it is first called.
    """
    long, short = (one, other) if len(one) >= len(other) else (other, one)
    found = list(long)
    for dim, size in enumerate(short, len(long) - len(short)):
        if found[dim] == 1:
            found[dim] = size
        elif size not in (1, found[dim]):
            return None
    return tuple(found)


def unseen(x: Tensor) -> bool:
    """Whether the elements of a tensor cannot be looked at: it is compiled, traced without values, or mapped."""
    if torch.compiler.is_compiling() or x.is_meta:
        return True
    while is_functorch_wrapped_tensor(x):
        if is_batchedtensor(x):
            return True
        x = get_unwrapped(x)
    return type(x) not in _ORDINARY and hasattr(x, "fake_mode")


def constant(x: Tensor) -> bool:
    """Whether a tensor is one number that can be looked at, and no derivative in it is taken, of any kind."""
    if unseen(x) or x.numel() != 1 or not x.is_cpu or x.requires_grad:
        return False
    return not forward() or _tangent(x) is None


def forward() -> bool:
    """Whether derivatives are taken in forward mode, by torch.func or by autograd."""
    return forward_ad._current_level >= 0


def front(info: Any, dim: int | None, x: Tensor) -> Tensor:
    """An argument of a mapped operator with the new dimension in front."""
    return _front(info.batch_size, dim, x)


def _front(size: int, dim: int | None, x: Tensor) -> Tensor:
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def beside(dim: int | None, temperature: Tensor, scores: Tensor, scores_dim: int | None) -> Tensor:
    """A temperature with the new dimension in front, and as many dimensions as the batch of the scores."""
    if dim is None:
        return temperature
    moved = temperature.movedim(dim, 0)
    rank = scores.dim() - 1 + (scores_dim is None)
    return moved.reshape(moved.shape[0], *(1,) * (rank - moved.dim()), *moved.shape[1:])


def _tangent(x: Tensor) -> Tensor | None:
    return forward_ad.unpack_dual(x).tangent  # type: ignore[no-any-return]


def _differentiated() -> bool:
    """Whether a derivative of torch.func is being taken."""
    kinds, interpreters = torch._C._functorch.TransformType, torch._C._functorch.get_interpreter_stack() or ()
    return any(each.key() in (kinds.Grad, kinds.Jvp) for each in interpreters)


_differentiated._dynamo_marked_constant = True  # type: ignore[attr-defined]  # known when traced
