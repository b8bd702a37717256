"""A function of logits as something to time, in torch and in JAX: its value alone, or its value and its gradient.

A function takes logits, prior logits and a key of JAX's randomness (None in torch, which keeps its own state). What is
timed gives the value as a tuple of one, or with the gradient of its sum weighted by a constant as a tuple of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Call

__all__ = ["Bind", "Function", "copy_call", "cotangent", "ending", "jax_call", "jax_device", "torch_call"]

Function = Callable[[Any, Any, Any], Any]
Bind = Callable[[Function, Tensor, Tensor, bool], Call]


def cotangent(shape: tuple[int, ...], logits: Tensor) -> Tensor:
    """The weights of the sum: -1 to 1 over the classes of a value that has classes, ones for one that has none."""
    if len(shape) < logits.dim():
        return logits.new_ones(shape)
    return torch.linspace(-1, 1, shape[-1], dtype=logits.dtype, device=logits.device).expand(shape).contiguous()


def torch_call(function: Function, logits: Tensor, prior: Tensor, backward: bool) -> Call:
    """A function of torch's."""
    wait, queued = ending(logits)
    if not backward:
        return Call(lambda: (function(logits, prior, None),), wait, queued)
    leaf = logits.clone().requires_grad_()
    weights = cotangent(tuple(function(logits, prior, None).shape), logits)

    def run() -> tuple[Tensor, ...]:
        value = function(leaf, prior, None)
        return value, *torch.autograd.grad(value, leaf, weights)

    return Call(run, wait, queued)


def copy_call(logits: Tensor) -> Call:
    """A copy of the logits on their device: no function that reads them and writes as much takes less."""
    wait, queued = ending(logits)
    target = torch.empty_like(logits)
    return Call(lambda: target.copy_(logits), wait, queued)


def jax_call(function: Function, logits: Tensor, prior: Tensor, backward: bool) -> Call:
    """A function of JAX's, compiled by jax.jit."""
    import jax

    device = jax_device(logits.device.type)
    given, others, key = (
        jax.device_put(each, device) for each in (logits.cpu().numpy(), prior.cpu().numpy(), jax.random.key(0))
    )
    queued = logits.device.type != "cpu"  # on a processor JAX runs calls that do not need each other side by side
    if not backward:
        forward = jax.jit(lambda *arguments: (function(*arguments),))
        return Call(lambda: forward(given, others, key), jax.block_until_ready, queued)
    shape = jax.eval_shape(function, given, others, key).shape
    weights = jax.device_put(cotangent(shape, logits).cpu().numpy(), device)

    def both(logits: Any, prior: Any, key: Any, weights: Any) -> tuple[Any, ...]:
        value, pull = jax.vjp(lambda inner: function(inner, prior, key), logits)
        return value, *pull(weights)

    compiled = jax.jit(both)
    return Call(lambda: compiled(given, others, key, weights), jax.block_until_ready, queued)


def jax_device(kind: str) -> Any:
    """JAX's device of a kind: cpu or cuda.

    Raises:
        RuntimeError: If it has none.
    """
    import jax

    return jax.devices(kind)[0]


def ending(logits: Tensor) -> tuple[Callable[[Any], object], bool]:
    """How to wait for torch, and whether it queues calls."""
    if logits.device.type == "cuda":
        return lambda _: torch.cuda.synchronize(), True
    return lambda _: None, False
