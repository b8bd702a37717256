r"""The steps of a discrete choice on one row, on vectors of classes or of nodes.

The nodes of a row are equally spaced, and so is the table, `phases` times as densely. The interpolation of one class
therefore has the same few weights, its taps, at every node, and its values at all nodes are a weighted sum of contiguous
slices of the table, which is stored phase by phase. Tap i begins i * length after the first: behind the last phase the
first ones follow again, a node further on.

Arguments are first a zero of the table's kind, then addresses and numbers. Classes come in tiles, and nodes in vectors of
eight.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from softhot.kernels.vectors import F32, F64, I32, I64, LANES, Code, Value, exponential

__all__ = ["TAPS", "TILE", "accumulate", "chances", "dots", "place", "survey"]

TILE = 32  # classes whose taps are ready at once
TAPS = {4: 4, 8: 6}  # of the interpolation, by the size of a number
_MOST = {F32: 5, F64: 2}  # vectors of nodes for which registers are left
# lanes of two vectors whose sums make one: three times, and of eight vectors the sums of their lanes are left, in order
_NEAR, _FAR = ((0, 2, 8, 10, 4, 6, 12, 14), (1, 3, 9, 11, 5, 7, 13, 15)), ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
_HALVED = (_NEAR, _NEAR, _FAR)
_KINDS = {"i": types.int64, "d": types.float64}


def _emitted(arguments: str, results: str = "") -> Callable[[Callable[..., Any]], Any]:
    """Make an intrinsic of a function that emits: of the code, the table's kind, and the values of the arguments."""
    result = types.Tuple([_KINDS[x] for x in results]) if results else types.void

    def decorate(function: Callable[..., Any]) -> Any:
        def typed(typing_context: Any, zero: Any, *_: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                code = Code(context, builder)
                found = function(code, context.get_value_type(zero), *map(code.value, values[1:]))
                return cgutils.pack_struct(builder, [x.ir for x in found]) if results else context.get_dummy_value()

            return result(zero, *(_KINDS[x] for x in arguments)), generate

        names = ["typing_context", "zero", *list(inspect.signature(function).parameters)[2:]]
        each = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        typed.__name__ = typed.__qualname__ = function.__name__
        typed.__signature__ = inspect.Signature(each)  # type: ignore[attr-defined]
        return intrinsic(typed)

    return decorate


def _taps(kind: Any) -> int:
    return TAPS[4 if kind == F32 else 8]


# ---- classes -------------------------------------------------------------------------------------------------------



# ---- classes -------------------------------------------------------------------------------------------------------


@_emitted("iiddddiiii", "ddddddd")
def survey(
    code: Code,
    kind: Any,
    locations: Value,
    other: Value,
    ratio: Value,
    rate: Value,
    unit: Value,
    decay: Value,
    count: Value,
    room: Value,
    wide: Value,
    below: Value,
) -> Any:
    """How far each class is below the largest, in points of the table; infinite for an impossible one.

    Locations are m, or b = other - ratio * m, of `room` elements from here on; they are left at `wide`. Returns the
    largest location, NaN if one is; the sum; how many are possible, and how many for one of both alone; how many are no
    more than one unit below the largest, and no more than four; and no less than the sum of exp(-decay * points below).
    """
    minus, nothing = -math.inf, code.constant(F64, 0.0)
    top, total = code.variable(code.constant(F64, minus)), code.variable(nothing)
    possible, unlike = code.variable(nothing), code.variable(nothing)
    times = code.splat(ratio)
    with code.loop(code.integer(0), count, LANES) as k:
        m = code.load_part(kind, locations, k, count, minus, room).to(F64)
        b = code.variable(m)
        with code.builder.if_then(other.compare("!=", 0).ir):
            o = code.load_part(kind, other, k, count, minus, room).to(F64)
            out, alone = m.compare("==", minus), o.compare("==", minus)
            unlike.add((out ^ alone).to(F64))
            b.set((out | alone).choose(code.constant(F64, minus), o - times * m))
        b = b.get()
        code.store(b, wide, k)
        inside = b.compare("!=", minus)
        total.add(inside.choose(b, 0.0))
        possible.add(inside.to(F64))
        top.set(b.compare(">", top.get()).choose(b, top.get()))
    highest = top.get().halved(lambda a, b: a.compare(">", b).choose(a, b))
    sum_ = total.get().sum()
    highest = sum_.compare("==", sum_).choose(highest, math.nan)
    none = code.constant(F32, 0.0)
    near, far, weight = (code.variable(none) for _ in range(3))
    one, four = code.splat(unit.to(F32)), code.splat((unit * 4.0).to(F32))
    slope = code.splat((decay * (2**23 / math.log(2))).to(F32))
    everywhere, rate = code.splat(highest), code.splat(rate)
    with code.loop(code.integer(0), count, LANES) as k:
        b = code.load(F64, wide, k)
        distance = b.compare("!=", minus).choose((everywhere - b) * rate, math.inf).to(kind)
        code.store(distance, below, k)
        distance = distance.to(F32)
        near.add(distance.compare("<=", one).to(F32))
        far.add(distance.compare("<=", four).to(F32))
        # a line between powers of two, in the bits of the number, is not below the exponential
        power = code.constant(F32, 127.0 * 2**23) - distance * slope
        weight.add(power.compare(">", 0.0).choose(power, 0.0).to(I32).bits(F32))
    sums = (x.get().sum() for x in (possible, unlike))
    return highest, sum_, *sums, *(x.get().sum().to(F64) for x in (near, far, weight))


@_emitted("iiidiiii")
def place(
    code: Code,
    kind: Any,
    below: Value,
    starts: Value,
    weights: Value,
    limit: Value,
    shift: Value,
    length: Value,
    first: Value,
    count: Value,
) -> None:
    """Starts and weights of the taps of a tile, as seen from the node `first`; those beyond the limit weigh nothing."""
    taps = _taps(kind)
    before = (taps - 1) // 2
    shift, length, first = (code.splat(x.to(I32)) for x in (shift, length, first))
    phases = (code.constant(I32, 1) << shift) - 1
    with code.loop(code.integer(0), count, LANES) as c:
        distance = code.load(kind, below, c)
        inside = distance.compare("<=", code.splat(limit.to(kind)))
        distance = inside.choose(distance, 0.0)
        cell = (distance + 0.5 * (taps % 2)).to(I32)
        x, one = distance - cell.to(kind), inside.choose(code.constant(kind, 1.0), 0.0)
        code.store((cell & phases) * length + (cell >> shift) + first, starts, c)
        factors = [x - float(i - before) for i in range(taps)]
        left = [one]
        for factor in factors[:-1]:
            left.append(left[-1] * factor)
        right = code.constant(kind, 1.0)
        for i in reversed(range(taps)):
            scale = 1 / math.prod(i - j for j in range(taps) if j != i)
            code.store(left[i] * right * scale, weights, c + i * TILE)
            right = right * factors[i]


# ---- nodes ---------------------------------------------------------------------------------------------------------


def _blocks(code: Code, kind: Any, vectors: Value, body: Callable[[Value, int], None]) -> None:
    """body(first node, vectors) for blocks of nodes whose sums fit in the registers."""
    most = _MOST[kind]
    first = code.variable(code.integer(0))
    whole = code.divide(vectors - 1, most)
    with code.loop(code.integer(0), whole, 1) as block:
        body(block * (most * LANES), most)
    first = whole * (most * LANES)
    code.cases(vectors - whole * most, most, lambda case: body(first, case))


def _slices(
    code: Code, kind: Any, table: Value, length: Value, starts: Value, weights: Value, c: Value, node: Value, many: int
) -> list[Value]:
    """The table as a class sees it from so many vectors of nodes on."""
    start = code.load(I32, starts, c, vector=False).to(I64) + node
    places = [start + length * i for i in range(_taps(kind))]
    factors = [code.splat(code.load(kind, weights, c + i * TILE, vector=False)) for i in range(_taps(kind))]
    values = []
    for v in range(many):
        parts = [
            factor * code.load(kind, table, place + v * LANES) for place, factor in zip(places, factors, strict=True)
        ]
        values.append(sum(parts[1:], start=parts[0]))
    return values


@_emitted("iiiiiii")
def accumulate(
    code: Code,
    kind: Any,
    table: Value,
    length: Value,
    starts: Value,
    weights: Value,
    count: Value,
    vectors: Value,
    sums: Value,
) -> None:
    """Add to the sums, in double, the table as seen by the classes of a tile."""

    def block(first: Value, many: int) -> None:
        totals = [code.variable(code.constant(kind, 0.0)) for _ in range(many)]
        with code.loop(code.integer(0), count, 1) as c:
            values = _slices(code, kind, table, length, starts, weights, c, first, many)
            for total, value in zip(totals, values, strict=True):
                total.add(value)
        for v, total in enumerate(totals):
            here = first + v * LANES
            code.store(code.load(F64, sums, here) + total.get().to(F64), sums, here)

    _blocks(code, kind, vectors, block)


@_emitted("iii", "d")
def chances(code: Code, kind: Any, sums: Value, vectors: Value, results: Value) -> Any:
    """exp(-sum) at the nodes; returns the sum of those, in double."""
    total = code.variable(code.constant(F64, 0.0))
    with code.loop(code.integer(0), vectors << 3, LANES) as n:
        value = exponential(-code.load(F64, sums, n).to(kind))
        code.store(value, results, n)
        total.add(value.to(F64))
    return (total.get().sum(),)


@_emitted("iiiiiiiii")
def dots(
    code: Code,
    kind: Any,
    table: Value,
    length: Value,
    starts: Value,
    weights: Value,
    count: Value,
    vectors: Value,
    factors: Value,
    lanes: Value,
    results: Value,
) -> None:
    """For each class of a tile, the sum over the nodes of factor times the table; `lanes` is room for eight tiles."""
    with code.loop(code.integer(0), count, 1) as c:
        code.store(code.constant(kind, 0.0), lanes, c << 3)

    def block(first: Value, many: int) -> None:
        here = [code.load(kind, factors, first + v * LANES) for v in range(many)]
        with code.loop(code.integer(0), count, 1) as c:
            total = code.load(kind, lanes, c << 3)
            values = _slices(code, kind, table, length, starts, weights, c, first, many)
            for factor, value in zip(here, values, strict=True):
                total = factor * value + total
            code.store(total, lanes, c << 3)

    _blocks(code, kind, vectors, block)
    with code.loop(code.integer(0), count, LANES) as c:
        rows = [code.load(kind, lanes, (c + i) << 3) for i in range(LANES)]
        for one, two in _HALVED:
            rows = [a.shuffle(b, one) + a.shuffle(b, two) for a, b in zip(rows[::2], rows[1::2], strict=True)]
        code.store_part(rows[0], results, c, count)
