r"""The steps of a discrete choice that see the classes: where they are on the mesh, and what they get from it.

A class is d mesh points below the largest of its row. The table is a spline in d at every node, so that the sum over
the classes needs of them only the sums of their weights at each point of the mesh, where a class has eight, one for
each basis function that is not zero at its d. What a class gets from all nodes is read from the mesh with the same
weights. So a class costs eight weights each way, however many nodes there are.

Arguments are first a zero of the table's kind, then addresses and numbers. What class k of row r has lies at
stride * k + r. The first eight points of the mesh are for classes so far below the largest that they do not matter.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from softhot.kernels.choice_tables import UNITS, basis
from softhot.kernels.vectors import F32, F64, I32, I64, LANES, Code, Value, emitted, sum_each

__all__ = ["clear", "read", "scatter", "survey"]


class _Survey:
    """What is counted in a look at the classes, on vectors of rows or of the classes of one."""

    def __init__(self, code: Code, ratio: Value) -> None:
        nothing = code.constant(F64, 0.0)
        self.code, self.times = code, code.splat(ratio)
        self.top, self.total = code.variable(code.constant(F64, -math.inf)), code.variable(nothing)
        self.possible, self.unlike = code.variable(nothing), code.variable(nothing)
        self.near = [code.variable(code.constant(F32, 0.0)) for _ in UNITS]
        self.weight, self.last = code.variable(code.constant(F32, 0.0)), code.variable(code.constant(I32, 0))

    def locate(self, m: Value, other: Value, load: Callable[[], Value]) -> Value:
        """The locations m, or other - ratio * m where there are others; counted."""
        location, minus = self.code.variable(m), self.code.constant(F64, -math.inf)
        with self.code.builder.if_then(other.compare("!=", 0).ir):
            o = load()
            out, alone = m.compare("==", minus), o.compare("==", minus)
            self.unlike.add((out ^ alone).to(F64))
            location.set((out | alone).choose(minus, o - self.times * m))
        b = location.get()
        inside = b.compare("!=", minus)
        self.total.add(inside.choose(b, 0.0))
        self.possible.add(inside.to(F64))
        self.top.set(_greater(b, self.top.get()))
        return b

    def place(self, distance: Value, unit: Value, decay: Value, limit: Value) -> tuple[Value, Value]:
        """The first of the points where a class has weights, and its place among them, from the middle.

        What rounding does to a distance is relative to it, and the further the class the less it matters.
        """
        code, single = self.code, distance.to(F32)
        for count, each in zip(self.near, UNITS, strict=True):
            count.add(single.compare("<=", code.splat((unit * each).to(F32))).to(F32))
        # a line between powers of two, in the bits of the number, is not below the exponential
        power = code.constant(F32, 127.0 * 2**23) - single * code.splat((decay * (2**23 / math.log(2))).to(F32))
        self.weight.add(power.compare(">", 0.0).choose(power, 0.0).to(I32).bits(F32))
        inside = distance.compare("<", code.splat(limit.to(distance.kind)))
        distance = inside.choose(distance, 0.0)
        cell = distance.to(I32)
        point = inside.choose(cell + LANES, 0)
        self.last.set(_greater(point, self.last.get()))
        return point, distance - cell.to(distance.kind) - 0.5


def _greater(a: Value, b: Value) -> Value:
    return a.compare(">", b).choose(a, b)


@emitted("iidddddiiiiiii", "i")
def survey(
    code: Code,
    kind: Any,
    locations: Value,
    other: Value,
    ratio: Value,
    rate: Value,
    unit: Value,
    decay: Value,
    limit: Value,
    count: Value,
    rows: Value,
    room: Value,
    wide: Value,
    points: Value,
    within: Value,
    numbers: Value,
) -> Any:
    """Of up to eight rows of few classes, or with no rows of one of many: numbers, and the place of each class.

    Locations have `room` elements from here on. Returns the last point. Numbers are eight vectors: the largest
    location, NaN if one is; the sum; how many are possible, and how many for one of m and other alone; how many are no
    more than one unit below the largest, two, and four; and no less than the sum of exp(-decay * points below).
    """
    last = code.variable(code.integer(0))

    def look(load: Callable[[Value, Value], Value], steps: Value, over: Callable[..., Value]) -> None:
        """By vectors that are loaded one for each step; `over` is what is found in all their lanes that belong."""
        found = _Survey(code, ratio)
        with code.loop(code.integer(0), steps, 1) as step:
            b = found.locate(load(locations, step), other, lambda: load(other, step))
            code.store(b, wide, step << 3)
        top, total = over(found.top.get(), _greater), over(found.total.get())
        highest = total.compare("==", total).choose(top, math.nan)
        with code.loop(code.integer(0), steps, 1) as step:
            distance = (highest - code.load(F64, wide, step << 3)).to(kind) * code.splat(rate.to(kind))
            point, place = found.place(distance, unit, decay, limit)
            code.store(point, points, step << 3)
            code.store(place, within, step << 3)
        counts = [over(each.get()).to(F64) for each in (found.possible, found.unlike, *found.near, found.weight)]
        for i, each in enumerate([highest, total, *counts]):
            code.store(each, numbers, code.integer(LANES * i))
        last.set(found.last.get().halved(_greater).to(I64))

    def of_rows() -> None:
        begins = [code.least(code.integer(lane), rows - 1) * count for lane in range(LANES)]
        look(
            lambda address, k: code.gather(kind, address, [begin + k for begin in begins]).to(F64),
            count,
            lambda found, _=None: found,
        )

    def of_one() -> None:
        look(
            lambda address, step: code.load_part(kind, address, step << 3, count, -math.inf, room).to(F64),
            (count + (LANES - 1)) >> 3,
            lambda found, combine=operator.add: code.splat(found.halved(combine)),
        )

    code.either(rows.compare("!=", 0), of_rows, of_one)
    return (last.get(),)


def _weights(code: Code, x: Value) -> Value:
    """Of a class at its points, by its place."""
    x = code.splat(x)
    *powers, highest = basis()  # each of all weights
    found = code.constant(x.kind, highest)
    for each in reversed(powers):
        found = found * x + code.constant(x.kind, each)
    return found


@emitted("iii")
def clear(code: Code, kind: Any, mesh: Value, width: Value, end: Value) -> None:
    """Take all weights from eight meshes, a width apart, up to an end, or up to seven points further."""
    with code.loop(code.integer(0), code.integer(LANES), 1) as row, code.loop(code.integer(0), end, LANES) as point:
        code.store(code.constant(kind, 0.0), mesh, row * width + point)


@emitted("iiiiiiiiiiii")
def scatter(
    code: Code,
    kind: Any,
    points: Value,
    within: Value,
    stride: Value,
    count: Value,
    rows: Value,
    width: Value,
    mesh: Value,
    gains: Value,
    by_row: Value,
    by_class: Value,
    gained: Value,
    weights: Value,
) -> None:
    """Add the weights of the classes to the mesh of their row; with gains, gain times them to what is gained.

    Meshes are a width apart. Rows take turns, since what has been stored can only be loaded some time later. Where
    weights are to be kept, for `read`, there are eight rows: those to spare do as the last one does.
    """

    def add(k: Value, row: Value, gaining: bool, keeping: bool) -> None:
        at = stride * k + row
        point = code.load(I32, points, at, vector=False).to(I64) + width * row
        own = _weights(code, code.load(kind, within, at, vector=False))
        code.store(code.load(kind, mesh, point) + own, mesh, point)
        if keeping:
            code.store(own, weights, at << 3)
        if gaining:
            gain = code.splat(code.load(kind, gains, code.least(row, rows - 1) * by_row + k * by_class, vector=False))
            code.store(code.load(kind, gained, point) + gain * own, gained, point)

    def of_eight(gaining: bool) -> None:
        with code.loop(code.integer(0), count, 1) as k:
            for row in map(code.integer, range(LANES)):
                add(k, row, gaining, keeping=True)

    def of_some(gaining: bool) -> None:
        with code.loop(code.integer(0), count, 1) as k, code.loop(code.integer(0), rows, 1) as row:
            add(k, row, gaining, keeping=False)

    def of_either(gaining: bool) -> None:
        code.either(weights.compare("!=", 0), lambda: of_eight(gaining), lambda: of_some(gaining))

    code.either(gains.compare("!=", 0), lambda: of_either(True), lambda: of_either(False))


@emitted("iiiiiiiiiiii")
def read(
    code: Code,
    kind: Any,
    points: Value,
    within: Value,
    steps: Value,
    valid: Value,
    width: Value,
    mesh: Value,
    gains: Value,
    gained: Value,
    by_lane: Value,
    by_step: Value,
    weights: Value,
    results: Value,
) -> None:
    """What the classes read from the mesh; with gains, gain times what they read from gained, less that.

    Eight at a time. With the weights that `scatter` kept, the same class of eight rows, with the meshes a width apart,
    where those to spare do as the last valid one does. Otherwise classes of one row, of which so many are valid. Gains
    and results of the next lane and of the next step are so many elements on. There are points for all lanes.
    """
    last = valid - 1
    rows = [code.least(code.integer(lane), last) * by_lane for lane in range(LANES)]

    def of_all(gaining: bool, kept: bool) -> None:
        with code.loop(code.integer(0), steps, 1) as step:
            parts = []
            for lane, row in enumerate(rows):
                at = (step << 3) + lane
                point = code.load(I32, points, at, vector=False).to(I64) + width * lane
                found = code.load(kind, mesh, point)
                if gaining:
                    place = row + step * by_step if kept else code.least(at, last)
                    gain = code.splat(code.load(kind, gains, place, vector=False))
                    found = gain * code.load(kind, gained, point) - found
                if kept:
                    own = code.load(kind, weights, at << 3)
                else:
                    own = _weights(code, code.load(kind, within, at, vector=False))
                parts.append(own * found)
            if kept:
                code.scatter(sum_each(parts), results, [row + step * by_step for row in rows])
            else:
                code.store_part(sum_each(parts), results, step << 3, valid)

    def of_either(gaining: bool) -> None:
        code.either(weights.compare("!=", 0), lambda: of_all(gaining, True), lambda: of_all(gaining, False))

    code.either(gains.compare("!=", 0), lambda: of_either(True), lambda: of_either(False))
