"""A fixed random split, the same on every machine and with every version of NumPy."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["hold_out"]


def hold_out(images: NDArray[Any], *sizes: int) -> list[NDArray[Any]]:
    """What is left, then one part of each size, in a fixed random order.

    It sorts the raw output of a bit generator, which NumPy keeps stable, unlike ``Generator.permutation``.

    Example:
        >>> [len(part) for part in hold_out(np.arange(10), 2, 3)]
        [5, 2, 3]
    """
    order = np.argsort(np.random.PCG64(0).random_raw(len(images)), kind="stable")
    cuts = list(accumulate(sizes, initial=len(images) - sum(sizes)))[:-1]
    return np.split(images[order], cuts)
