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

    They are computed in a thread of their own, which is in no mode: a tensor made in the caller's inference mode, or
    inside torch.func's transforms, would be of no use outside them. A compiler traces the function itself.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        @lru_cache(maxsize=most)
        def cached(*arguments: Hashable) -> T:
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(function, *arguments).result()

        @wraps(function)
        def call(*arguments: Hashable) -> T:
            return function(*arguments) if torch.compiler.is_compiling() else cached(*arguments)

        return call

    return decorate
