"""Rows shared out among as many threads as torch uses.

Compiled kernels run in torch's own OpenMP threads. A second pool beside them would wait for a core on which a thread
of the first still spins, and Python's threads take longer to wake than most samples take to draw. Where torch has no
GNU-style OpenMP (macOS, Windows), Python's threads it is.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from softhot.kernels.routes import compiled

__all__ = ["HEADER", "integers", "run"]

HEADER = 4  # of a job: the next piece, the number of pieces, of rows, of classes
_GRAIN = 15_000  # elements of a piece, at least
_INTEGER, _FLOAT = struct.Struct("q"), struct.Struct("d")
_Start = Callable[[int, Any, int, int], None]


def run(body: Any, shape: torch.Size, *arguments: Any) -> None:
    """Call a compiled body on the rows of a tensor of this shape, from as many threads as have work.

    A body takes pieces until none is left; with one piece, that is a plain call. Arguments come to it as `integers`.
    """
    work, classes = shape.numel(), shape[-1] if shape else 1
    if not work:
        return
    rows, threads = work // classes, torch.get_num_threads()
    pieces = max(1, min(rows, work // _GRAIN, 4 * threads)) if threads > 1 else 1
    numbers = integers(*arguments)
    if pieces == 1:
        _alone()(body.address, (0, 1, rows, classes, *numbers))
        return
    job = (ctypes.c_int64 * (HEADER + len(numbers)))(0, pieces, rows, classes, *numbers)
    threads, start = min(threads, pieces), _openmp()
    if start is not None:
        start(body.address, job, threads, 0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(body.ctypes, [job] * threads))


def integers(*arguments: Any) -> list[int]:
    """Of 64 bits: an integer itself, the bits of a float, the address of a contiguous tensor; 0 for None."""
    return [
        0 if x is None else x if type(x) is int else _bits(x) if type(x) is float else x.data_ptr() for x in arguments
    ]


def _bits(x: float) -> int:
    return _INTEGER.unpack(_FLOAT.pack(x))[0]  # type: ignore[no-any-return]


@lru_cache
def _alone() -> Callable[[int, tuple[int, ...]], None]:
    """The call of a body on one job: faster than by ctypes."""
    return compiled("compiled").call  # type: ignore[union-attr, no-any-return]  # as there is a body


@lru_cache
def _openmp() -> _Start | None:
    """The call that starts torch's OpenMP threads."""
    try:
        start = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    start.restype = None
    return start
