"""What the compiled kernels share: tensors by address, pieces of a job, and logarithms and exponentials that vectorise.

Numba compiles a kernel for the processor at hand when it is first used, and keeps the result beside the source. Its
name tells the sources of all kernels: Numba itself looks whether a kernel's own file has changed, not what it calls.
To be vectorised, loops run over slices or unsigned offsets: Numba lets signed ones be negative, to count from the end.

All that a body calls is inlined in it, but for `philox_cpu.words_of`, all of whose numbers are integers. A function of
its own is optimised twice, alone and within what calls it, and may be rounded in two ways: one that a process runs
which has just compiled it, and one that the cache holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from softhot.kernels.parallel import HEADER
from softhot.kernels.routes import FULL

__all__ = [
    "FAST",
    "SIGNATURE",
    "SUMS",
    "array",
    "bits",
    "body",
    "call",
    "exp",
    "job",
    "log",
    "log1p",
    "next_piece",
    "of_rows",
    "split",
]

SIGNATURE = types.void(types.CPointer(types.int64))  # of what parallel.run calls: a job
FAST: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "forceinline": True}
SUMS: dict[str, Any] = {**FAST, "fastmath": {"contract", "nsz", "reassoc"}}
_i32, _i64, _f32, _f64 = np.int32, np.int64, np.float32, np.float64


@intrinsic
def _pointer(typing_context: Any, address: Any, kind: Any) -> Any:
    pointer = types.CPointer(kind)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(address, kind), generate


@intrinsic
def _take(typing_context: Any, pointer: Any) -> Any:
    """Add one to the integer at a pointer, and return what it was; no two threads get the same."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", arguments[0], context.get_constant(types.int64, 1), "monotonic")

    return types.int64(pointer), generate


@intrinsic
def _call(typing_context: Any, address: Any, job: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = cgutils.alloca_once_value(builder, arguments[1])
        pointer = ir.IntType(64).as_pointer()
        function = ir.FunctionType(ir.VoidType(), [pointer]).as_pointer()
        builder.call(builder.inttoptr(arguments[0], function), [builder.bitcast(place, pointer)])
        return context.get_dummy_value()

    return types.void(address, job), generate


@njit(cache=True, nogil=True)
def call(address, job):
    """Call the body at an address on a job, a tuple of integers."""
    _call(address, job)


@njit(forceinline=True)
def array(address, size, zero):
    """The elements of a tensor, of the type of `zero`; none if the address is 0."""
    return carray(_pointer(address, zero), size if address else 0)


@njit(**SUMS)
def of_rows(number, address, rows, zero):
    """A number for each row, at an address, or the float with those bits for all."""
    if address:
        return array(address, rows, zero)
    one = np.empty(1, array(0, 0, zero).dtype)
    one[0] = bits(number)
    return one


@njit(forceinline=True)
def job(pointer, size):
    """The integers of a job: its header and its arguments."""
    return carray(pointer, HEADER + size)


@njit(forceinline=True)
def next_piece(pointer):
    """The first and the last row of a piece that no other thread has; equal when none is left."""
    piece, pieces, rows = _take(pointer), pointer[1], pointer[2]
    return rows * min(piece, pieces) // pieces, rows * min(piece + 1, pieces) // pieces


@intrinsic
def bits(typing_context: Any, x: Any) -> Any:
    """The bits of a float as an integer, and back."""
    pairs = {types.float32: types.int32, types.float64: types.int64}
    other = {**pairs, **{integer: real for real, integer in pairs.items()}}[x]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(other))

    return other(x), generate


def body(pieces: Any) -> Callable[[torch.dtype], Any]:
    """What compiles a function of a job and a zero, once for each dtype that the zero may have, for `parallel.run`."""

    @lru_cache
    def of_dtype(dtype: torch.dtype) -> Any:
        if dtype not in FULL:  # whose memory would be taken for that of another
            raise TypeError(f"kernels compute in float32 and float64, not {dtype}; use x.float().")
        zero = _f64(0) if dtype == torch.float64 else _f32(0)
        # no closure: Numba would not find it in its cache again
        function = FunctionType(_call_pieces.__code__, {"__name__": __name__, "pieces": pieces, "zero": zero})
        name = f"{pieces.__module__.rpartition('.')[2]}{pieces.__name__}"
        function.__qualname__ = f"{name}_{str(dtype).rpartition('.')[2]}_{_sources()}"
        return cfunc(SIGNATURE, cache=True)(function)

    return of_dtype


def _call_pieces(pointer):
    pieces(pointer, zero)


@lru_cache
def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def split(x): ...


def log1p(f): ...


def exp(x): ...


@overload(split, jit_options=FAST)
def _split_of(x):
    """x > 0 as 2^e (1 + f), with f from sqrt(1/2) - 1 to sqrt(2) - 1."""

    def single(x):
        pattern = bits(x)
        e = _i32(_i32(pattern - _i32(0x3F3504F3)) >> _i32(23))
        return _f32(e), _f32(bits(_i32(pattern - _i32(e << _i32(23)))) - _f32(1))

    def double(x):
        pattern = bits(x)
        e = (pattern - _i64(0x3FE6A09E667F3BCD)) >> _i64(52)
        return _f64(e), bits(pattern - (e << _i64(52))) - 1.0

    return single if x == types.float32 else double


@overload(log1p, jit_options=FAST)
def _log1p_of(f):
    """log(1 + f) = 2 artanh(s) with s = f / (2 + f), |s| < 0.172."""

    def single(f):
        s = f / (_f32(2) + f)
        q = s * s
        p = q * _f32(1 / 11) + _f32(1 / 9)
        p = p * q + _f32(1 / 7)
        p = p * q + _f32(1 / 5)
        p = p * q + _f32(1 / 3)
        return s * (_f32(2) + _f32(2) * q * p)

    def double(f):
        s = f / (2.0 + f)
        q = s * s
        p = q * (1 / 21) + 1 / 19
        p = p * q + 1 / 17
        p = p * q + 1 / 15
        p = p * q + 1 / 13
        p = p * q + 1 / 11
        p = p * q + 1 / 9
        p = p * q + 1 / 7
        p = p * q + 1 / 5
        p = p * q + 1 / 3
        return s * (2.0 + 2.0 * q * p)

    return single if f == types.float32 else double


@overload(exp, jit_options=FAST)
def _exp_of(x):
    """exp(x) for x up to 88; zero where it would be subnormal, NaN for NaN."""

    def single(x):
        z = x * _f32(1.4426950408889634)
        n = np.floor(z + _f32(0.5))
        f = (z - n) * _f32(0.6931471805599453)
        p = f * _f32(1 / 5040) + _f32(1 / 720)
        p = p * f + _f32(1 / 120)
        p = p * f + _f32(1 / 24)
        p = p * f + _f32(1 / 6)
        p = p * f + _f32(1 / 2)
        p = p * f + _f32(1)
        p = p * f + _f32(1)
        power = bits(_i32(_i32(_i32(n) + _i32(127)) << _i32(23)))
        return _f32(0) if z < _f32(-126) else p * power

    def double(x):
        n = np.floor(x * 1.4426950408889634 + 0.5)
        f = (x - n * 0.6931471803691238) - n * 1.9082149292705877e-10
        p = f * (1 / 6227020800) + 1 / 479001600
        p = p * f + 1 / 39916800
        p = p * f + 1 / 3628800
        p = p * f + 1 / 362880
        p = p * f + 1 / 40320
        p = p * f + 1 / 5040
        p = p * f + 1 / 720
        p = p * f + 1 / 120
        p = p * f + 1 / 24
        p = p * f + 1 / 6
        p = p * f + 1 / 2
        p = p * f + 1.0
        p = p * f + 1.0
        power = bits((_i64(n) + _i64(1023)) << _i64(52))
        return 0.0 if n < -1022.0 else p * power

    return single if x == types.float32 else double


@njit(**FAST)
def log(x):
    """log(x) for a positive normal x."""
    e, f = split(x)
    return e * type(x)(0.6931471805599453) + log1p(f)
