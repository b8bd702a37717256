"""What the compiled kernels share: tensors by address, pieces of a job, and logarithms and exponentials that vectorise.

Numba compiles a kernel for the processor at hand when it is first used, and keeps the result beside the source. To be
vectorised, loops run over slices or unsigned offsets: Numba lets signed ones be negative, to count from the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from softhot.kernels.parallel import HEADER

__all__ = [
    "FAST",
    "SIGNATURE",
    "SUMS",
    "TILE",
    "add_slices",
    "array",
    "bits",
    "call",
    "dot_slices",
    "exp",
    "job",
    "log",
    "log1p",
    "next_piece",
    "of_rows",
    "split",
]

SIGNATURE = types.void(types.CPointer(types.int64))  # of what parallel.run calls: a job
FAST: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}
SUMS: dict[str, Any] = {"fastmath": {"contract", "nsz", "reassoc"}, "error_model": "numpy", "cache": True}
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


def split(x): ...


def log1p(f): ...


def exp(x): ...


@overload(split, jit_options={"forceinline": True, **FAST})
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


@overload(log1p, jit_options={"forceinline": True, **FAST})
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


@overload(exp, jit_options={"forceinline": True, **FAST})
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


@njit(forceinline=True, **FAST)
def log(x):
    """log(x) for a positive normal x."""
    e, f = split(x)
    return e * type(x)(0.6931471805599453) + log1p(f)


# ---- slices of a table ---------------------------------------------------------------------------------------------

TILE = 32  # classes at once
_LANES = 8  # elements of a vector; numbers of nodes are multiples of it


def _splat(builder: Any, x: Any) -> Any:
    empty = ir.Constant(ir.VectorType(x.type, _LANES), ir.Undefined)
    first = builder.insert_element(empty, x, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES))


def _sum(builder: Any, vector: Any) -> Any:
    """Of the lanes, halving."""
    half = _LANES // 2
    while half:
        order = [(lane + half) % _LANES for lane in range(_LANES)]
        other = builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), order))
        vector, half = builder.fadd(vector, other), half // 2
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


class _Tile:
    """The emission of loops over nodes and classes, with the vectors of a few nodes in registers."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.builder, kinds, values = builder, signature.args[:-1], arguments[:-1]
        arrays = [context.make_array(kind)(context, builder, x) for kind, x in zip(kinds, values, strict=True)]
        self.nodes, self.table, self.starts, self.weights, *self.results = [x.data for x in arrays]
        self.size, self.count = arrays[0].nitems, arguments[-1]
        self.kind = context.get_value_type(kinds[0].dtype)
        self.align = context.get_abi_sizeof(self.kind)
        # how many slices, and how many vectors of nodes fit in the registers at once: all vectors are threes and fives
        self.taps, self.widths = (4, (3, 5)) if self.align == 4 else (6, (1, 2))

    def constant(self, value: int) -> Any:
        return ir.Constant(self.size.type, value)

    def place(self, data: Any, index: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [index]), ir.VectorType(self.kind, _LANES).as_pointer())

    def load(self, data: Any, index: Any, lane: int) -> Any:
        return self.builder.load(self.place(data, self.builder.add(index, self.constant(lane))), align=self.align)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        product = self.builder.fmul(a, b, flags=["contract"])
        return self.builder.fadd(product, c, flags=["contract"])

    def blocks(self, body: Any) -> None:
        """Call body(first node, lanes) for blocks of a few vectors, so many of each width that they fill the nodes."""
        few, many = self.widths
        vectors = self.builder.udiv(self.size, self.constant(_LANES))
        inverse = next(i for i in range(many) if i * few % many == 1)
        rest = self.builder.urem(self.builder.mul(vectors, self.constant(inverse)), self.constant(many))
        turn = self.builder.mul(rest, self.constant(few * _LANES))
        for start, stop, width in ((self.constant(0), turn, few), (turn, self.size, many)):
            step = self.constant(width * _LANES)
            with cgutils.for_range_slice(self.builder, start, stop, step, self.size.type) as (n, _):
                body(n, [_LANES * v for v in range(width)])

    def classes(self) -> Any:
        return cgutils.for_range(self.builder, self.count)

    def tap(self, c: Any, tap: int) -> tuple[Any, Any]:
        """The start and the weight of one slice of a class."""
        index = self.builder.add(c, self.constant(tap * TILE))
        start = self.builder.sext(self.builder.load(self.builder.gep(self.starts, [index])), self.size.type)
        return start, _splat(self.builder, self.builder.load(self.builder.gep(self.weights, [index])))


@intrinsic
def add_slices(typing_context: Any, sums: Any, table: Any, starts: Any, weights: Any, count: Any) -> Any:
    """sums[n] += the sum, over taps i and `count` classes c, of weights[i, c] * table[starts[i, c] + n]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tile = _Tile(context, builder, signature, arguments)

        def body(n: Any, lanes: list[int]) -> None:
            totals = [cgutils.alloca_once_value(builder, tile.load(tile.nodes, n, lane)) for lane in lanes]
            with tile.classes() as loop:
                for i in range(tile.taps):
                    start, weight = tile.tap(loop.index, i)
                    here = builder.add(start, n)
                    for lane, total in zip(lanes, totals, strict=True):
                        part = tile.multiply_add(weight, tile.load(tile.table, here, lane), builder.load(total))
                        builder.store(part, total)
            for lane, total in zip(lanes, totals, strict=True):
                place = tile.place(tile.nodes, builder.add(n, tile.constant(lane)))
                builder.store(builder.load(total), place, align=tile.align)

        tile.blocks(body)
        return context.get_dummy_value()

    return types.void(sums, table, starts, weights, count), generate


@intrinsic
def dot_slices(
    typing_context: Any, factors: Any, table: Any, starts: Any, weights: Any, results: Any, count: Any
) -> Any:
    """results[c] += the sum, over taps i and nodes n, of weights[i, c] * factors[n] * table[starts[i, c] + n]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tile = _Tile(context, builder, signature, arguments)

        def body(n: Any, lanes: list[int]) -> None:
            factors = [tile.load(tile.nodes, n, lane) for lane in lanes]
            with tile.classes() as loop:
                total = ir.Constant(ir.VectorType(tile.kind, _LANES), [0.0] * _LANES)
                for i in range(tile.taps):
                    start, weight = tile.tap(loop.index, i)
                    here = builder.add(start, n)
                    part = ir.Constant(ir.VectorType(tile.kind, _LANES), [0.0] * _LANES)
                    for lane, factor in zip(lanes, factors, strict=True):
                        part = tile.multiply_add(factor, tile.load(tile.table, here, lane), part)
                    total = tile.multiply_add(weight, part, total)
                place = builder.gep(tile.results[0], [loop.index])
                builder.store(builder.fadd(builder.load(place), _sum(builder, total)), place)

        tile.blocks(body)
        return context.get_dummy_value()

    return types.void(factors, table, starts, weights, results, count), generate
