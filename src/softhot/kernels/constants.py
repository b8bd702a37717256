"""Tensors that are computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, wraps
from typing import TypeVar

import torch

__all__ = ["kept"]

T = TypeVar("T")


def kept(most: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """As :func:`functools.lru_cache`, for functions that return tensors.

    In a mode of the caller they are computed in a thread of their own, which is in none: a tensor made in inference
    mode, or inside torch.func's transforms, would be of no use outside them. A compiler traces the function itself.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        @lru_cache(maxsize=most)
        def cached(*arguments: Hashable) -> T:
            if not _in_a_mode():
                return function(*arguments)
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(function, *arguments).result()

        @wraps(function)
        def call(*arguments: Hashable) -> T:
            return function(*arguments) if torch.compiler.is_compiling() else cached(*arguments)

        return call

    return decorate


def _in_a_mode() -> bool:
    modes = torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack()
    return bool(modes) or torch.is_inference_mode_enabled() or torch._C._functorch.maybe_current_level() is not None
