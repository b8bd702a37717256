r"""The steps of a discrete choice on one row, on vectors of classes or of nodes.

The nodes of a row are equally spaced, and so is the table, `phases` times as densely. The interpolation of one class
therefore has the same few weights at every node, and its values at all nodes are a weighted sum of contiguous slices of
the table, its taps. The table is stored phase by phase, and tap i begins i * length after the first: behind the last
phase the first ones follow again, a node further on.

Arguments are first a zero of the table's kind, then addresses and numbers. Classes come in tiles, nodes in vectors.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from softhot.kernels.choice_tables import UNITS
from softhot.kernels.vectors import F32, F64, I32, I64, LANES, Code, Value, exponential

__all__ = ["TAPS", "TILE", "accumulate", "dots", "place", "survey", "weigh"]

TILE = 32  # classes whose taps are ready at once
TAPS = {4: 3, 8: 6}  # of the interpolation, by the size of a number
_MOST = {F32: 6, F64: 3}  # vectors of nodes for which registers are left
# lanes of two vectors to be added: after three times, eight vectors have become one, of the sum of each
_NEAR = ((0, 2, 8, 10, 4, 6, 12, 14), (1, 3, 9, 11, 5, 7, 13, 15))
_FAR = ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
_ADDED = (_NEAR, _NEAR, _FAR)
_KINDS = {"i": types.int64, "d": types.float64}


def _emitted(arguments: str, results: str = "") -> Callable[[Callable[..., Any]], Any]:
    """Make an intrinsic of a function that emits: of the code, the table's kind, and the values of the arguments."""
    result: Any = types.void if not results else types.Tuple([_KINDS[x] for x in results])

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


@_emitted("iiddddiiii", "dddddddd")
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
    more than one unit below the largest, two, and four; and no less than the sum of exp(-decay * points below).
    """
    minus, nothing = -math.inf, code.constant(F64, 0.0)
    top, total = code.variable(code.constant(F64, minus)), code.variable(nothing)
    possible, unlike = code.variable(nothing), code.variable(nothing)
    times = code.splat(ratio)
    with code.loop(code.integer(0), count, LANES) as k:
        m = code.load_part(kind, locations, k, count, minus, room).to(F64)
        location = code.variable(m)
        with code.builder.if_then(other.compare("!=", 0).ir):
            o = code.load_part(kind, other, k, count, minus, room).to(F64)
            out, alone = m.compare("==", minus), o.compare("==", minus)
            unlike.add((out ^ alone).to(F64))
            location.set((out | alone).choose(code.constant(F64, minus), o - times * m))
        b = location.get()
        code.store(b, wide, k)
        inside = b.compare("!=", minus)
        total.add(inside.choose(b, 0.0))
        possible.add(inside.to(F64))
        top.set(b.compare(">", top.get()).choose(b, top.get()))
    highest = top.get().halved(lambda a, b: a.compare(">", b).choose(a, b))
    sum_ = total.get().sum()
    highest = sum_.compare("==", sum_).choose(highest, math.nan)
    none = code.constant(F32, 0.0)
    near = [code.variable(none) for _ in UNITS]
    units = [code.splat((unit * each).to(F32)) for each in UNITS]
    weight = code.variable(none)
    slope = code.splat((decay * (2**23 / math.log(2))).to(F32))
    everywhere, rates = code.splat(highest), code.splat(rate)
    with code.loop(code.integer(0), count, LANES) as k:
        b = code.load(F64, wide, k)
        distance = b.compare("!=", minus).choose((everywhere - b) * rates, math.inf).to(kind)
        code.store(distance, below, k)
        distance = distance.to(F32)
        for count_, limit in zip(near, units, strict=True):
            count_.add(distance.compare("<=", limit).to(F32))
        # a line between powers of two, in the bits of the number, is not below the exponential
        power = code.constant(F32, 127.0 * 2**23) - distance * slope
        weight.add(power.compare(">", 0.0).choose(power, 0.0).to(I32).bits(F32))
    sums = [each.get().sum().to(F64) for each in (possible, unlike, *near, weight)]
    return highest, sum_, *sums


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


def _blocks(code: Code, kind: Any, vectors: Value, gains: Value, body: Callable[[Value, int, bool], None]) -> None:
    """body(first node, vectors, with gains) for blocks of nodes whose sums fit in the registers."""

    def of_most(most: int, with_gains: bool) -> None:
        whole = code.divide(vectors - 1, most)
        with code.loop(code.integer(0), whole, 1) as block:
            body(block * (most * LANES), most, with_gains)
        first = whole * (most * LANES)
        code.cases(vectors - whole * most, most, lambda case: body(first, case, with_gains))

    most = _MOST[kind]
    code.either(gains.compare("!=", 0), lambda: of_most(max(most // 2, 1), True), lambda: of_most(most, False))


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


@_emitted("iiiiiiiii")
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
    gains: Value,
    gained: Value,
) -> None:
    """Add to the sums, in double, the table as seen by the classes of a tile; with gains, to others gain times it."""

    def block(first: Value, many: int, with_gains: bool) -> None:
        totals = [code.variable(code.constant(kind, 0.0)) for _ in range(many * (1 + with_gains))]
        with code.loop(code.integer(0), count, 1) as c:
            values = _slices(code, kind, table, length, starts, weights, c, first, many)
            if with_gains:
                gain = code.splat(code.load(kind, gains, c, vector=False))
                values += [gain * value for value in values]
            for total, value in zip(totals, values, strict=True):
                total.add(value)
        for v, total in enumerate(totals):
            here, place = (sums, first + v * LANES) if v < many else (gained, first + (v - many) * LANES)
            code.store(code.load(F64, here, place) + total.get().to(F64), here, place)

    _blocks(code, kind, vectors, gains, block)


@_emitted("iiiddi", "d")
def weigh(
    code: Code, kind: Any, sums: Value, vectors: Value, rest: Value, step: Value, order: Value, weights: Value
) -> Any:
    """The weights of the nodes, and the sum of exp(-S) over them less the sum of 1 - exp(-S) to their right.

    What is on the right is to first order `rest`, a combination of the last S; to second order S falls geometrically.
    The weights are step times exp(-S) and at the last nodes what makes the sum over these nodes one over all: of a
    factor like S itself, or with order 2 of a product of two.
    """
    total = code.variable(code.constant(F64, 0.0))
    times = code.splat(step.to(kind))
    nodes = vectors << 3
    with code.loop(code.integer(0), nodes, LANES) as n:
        value = exponential(-code.load(F64, sums, n).to(kind))
        code.store(value * times, weights, n)
        total.add(value.to(F64))
    end = nodes - LANES
    last, left = code.load(F64, sums, end), code.load(F64, rest, code.integer(0))
    s = last.lane(LANES - 1)
    ratio = s / last.lane(LANES - 2)
    square = ratio * ratio / (s.like(1.0) - ratio * ratio)
    first = order.compare("==", 1.0)
    change = code.splat(first.choose(-square * s, square)) * code.constant(F64, [0.0] * (LANES - 1) + [1.0])
    change = code.splat(first.choose(s.like(1.0), 0.0)) * left + change
    code.store(code.load(kind, weights, end) + (change * code.splat(step)).to(kind), weights, end)
    return ((total.get() - left * last).sum() + square * s * s * 0.5,)


@_emitted("iiiiiiiiiii")
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
    gains: Value,
    gained: Value,
    lanes: Value,
    results: Value,
) -> None:
    """For each class of a tile the sum over the nodes of factor times the table, of which there is room for the lanes.

    With gains, the factor of a class is gain * gained - factor.
    """
    with code.loop(code.integer(0), count, 1) as c:
        code.store(code.constant(kind, 0.0), lanes, c << 3)

    def block(first: Value, many: int, with_gains: bool) -> None:
        here = [code.load(kind, factors, first + v * LANES) for v in range(many)]
        more = [code.load(kind, gained, first + v * LANES) for v in range(many)] if with_gains else []
        with code.loop(code.integer(0), count, 1) as c:
            total = code.load(kind, lanes, c << 3)
            values = _slices(code, kind, table, length, starts, weights, c, first, many)
            own = here
            if with_gains:
                gain = code.splat(code.load(kind, gains, c, vector=False))
                own = [gain * other - factor for factor, other in zip(here, more, strict=True)]
            for factor, value in zip(own, values, strict=True):
                total = factor * value + total
            code.store(total, lanes, c << 3)

    _blocks(code, kind, vectors, gains, block)
    with code.loop(code.integer(0), count, LANES) as c:
        rows = [code.load(kind, lanes, (c + i) << 3) for i in range(LANES)]
        for one, two in _ADDED:
            rows = [a.shuffle(b, one) + a.shuffle(b, two) for a, b in zip(rows[::2], rows[1::2], strict=True)]
        code.store_part(rows[0], results, c, count)
