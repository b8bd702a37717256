"""Rows of no more classes than two vectors have lanes, eight rows at a time.

A row is loaded and stored with what follows it: that has no part in what is computed, and the next rows, stored later,
overwrite it. So arrays must go on for two vectors after the first class of the last row, and results must not lie where
something is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from softhot.kernels.vectors import I64, LANES, Code, Value, emitted, largest_each, sum_each

__all__ = ["SHORT", "lower", "mark", "normalise", "shift", "slopes"]

SHORT = 2 * LANES  # classes of a row, at most


class _Rows:
    """Eight rows of an array after another; a row is one vector, or two."""

    def __init__(self, code: Code, kind: Any, classes: Value, vectors: int) -> None:
        self.code, self.kind, self.classes = code, kind, classes
        self.starts = range(0, vectors * LANES, LANES)
        lanes = code.constant(I64, [*range(LANES)])
        self.inside = lanes.compare("<", code.splat(classes - self.starts[-1]))

    def load(self, array: Value, row: Value) -> list[Value]:
        return [self.code.load(self.kind, array, row * self.classes + start) for start in self.starts]

    def store(self, vectors: Sequence[Value], array: Value, row: Value) -> None:
        for start, vector in zip(self.starts, vectors, strict=True):
            self.code.store(vector, array, row * self.classes + start)

    def one(self, vectors: Sequence[Value], combine: Callable[[Value, Value], Value], neutral: float) -> Value:
        """The vectors of a row combined to one; what is beyond the row has no part in it."""
        last = self.inside.choose(vectors[-1], neutral)
        return combine(vectors[0], last) if len(vectors) > 1 else last

    def sums(self, rows: Sequence[Sequence[Value]]) -> Value:
        """The sum of each row."""
        return sum_each([self.one(row, Value.__add__, 0.0) for row in rows])


def _in_groups(
    code: Code, kind: Any, classes: Value, groups: Value, body: Callable[[_Rows, list[Value]], None]
) -> None:
    """The body for the rows of each group, by their numbers."""

    def of(vectors: int) -> None:
        rows = _Rows(code, kind, classes, vectors)
        with code.loop(code.integer(0), groups * LANES, LANES) as first:
            body(rows, [first + lane for lane in range(LANES)])

    code.either(classes.compare(">", LANES), lambda: of(2), lambda: of(1))


@emitted("iiiiii")
def shift(
    code: Code, kind: Any, scores: Value, rates: Value, stride: Value, shifted: Value, classes: Value, groups: Value
) -> None:
    """Each row of scores less its largest, times a rate: of eight for each group, or with a stride of 0 for all."""

    def body(rows: _Rows, numbers: list[Value]) -> None:
        largest = largest_each([rows.one(rows.load(scores, row), Value.most, -math.inf) for row in numbers])
        each = code.load(kind, rates, numbers[0] * stride)
        for lane, row in enumerate(numbers):
            top, rate = largest.everywhere(lane), each.everywhere(lane)
            rows.store([(score - top) * rate for score in rows.load(scores, row)], shifted, row)

    _in_groups(code, kind, classes, groups, body)


@emitted("iiiii")
def lower(code: Code, kind: Any, shifted: Value, amounts: Value, lowered: Value, classes: Value, groups: Value) -> None:
    """Each row less an amount of its own."""

    def body(rows: _Rows, numbers: list[Value]) -> None:
        each = code.load(kind, amounts, numbers[0])
        for lane, row in enumerate(numbers):
            amount = each.everywhere(lane)
            rows.store([score - amount for score in rows.load(shifted, row)], lowered, row)

    _in_groups(code, kind, classes, groups, body)


@emitted("iiiii")
def normalise(code: Code, kind: Any, scores: Value, soft: Value, totals: Value, classes: Value, groups: Value) -> None:
    """Each row of scores divided by its sum, and these sums."""

    def body(rows: _Rows, numbers: list[Value]) -> None:
        sums = rows.sums([rows.load(scores, row) for row in numbers])
        code.store(sums, totals, numbers[0])
        factors = code.constant(kind, 1.0) / sums
        for lane, row in enumerate(numbers):
            factor = factors.everywhere(lane)
            rows.store([score * factor for score in rows.load(scores, row)], soft, row)

    _in_groups(code, kind, classes, groups, body)


@emitted("iiii", "i")
def mark(code: Code, kind: Any, scores: Value, hard: Value, classes: Value, groups: Value) -> tuple[Value]:
    """One for the largest score of each row, zero for the others; and how many ones there are.

    They are more than rows if a largest score has a double, a score is not a number, or the largest is not finite: that
    counts once more.
    """
    none, count = code.constant(kind, 0.0), code.variable(code.constant(kind, 0.0))

    def body(rows: _Rows, numbers: list[Value]) -> None:
        largest = largest_each([rows.one(rows.load(scores, row), Value.most, -math.inf) for row in numbers])
        count.add((largest.compare("<", math.inf) & largest.compare(">", -math.inf)).choose(none, 1.0))
        for lane, row in enumerate(numbers):
            top = largest.everywhere(lane)
            marks = [score.compare("<", top).choose(none, 1.0) for score in rows.load(scores, row)]
            rows.store(marks, hard, row)
            count.add(rows.one(marks, Value.__add__, 0.0))

    _in_groups(code, kind, classes, groups, body)
    return (count.get().sum().to(I64),)


@emitted("iiiiiii")
def slopes(
    code: Code,
    kind: Any,
    soft: Value,
    gradient: Value,
    rates: Value,
    stride: Value,
    out: Value,
    classes: Value,
    groups: Value,
) -> None:
    """The gradient of a softmax in its scores, times a rate: of eight for each group, or with a stride of 0 for all."""

    def body(rows: _Rows, numbers: list[Value]) -> None:
        def both(row: Value) -> list[tuple[Value, Value]]:
            return [*zip(rows.load(soft, row), rows.load(gradient, row), strict=True)]

        centres = rows.sums([[z * slope for z, slope in both(row)] for row in numbers])
        each = code.load(kind, rates, numbers[0] * stride)
        for lane, row in enumerate(numbers):
            centre, rate = centres.everywhere(lane), each.everywhere(lane)
            rows.store([z * (slope - centre) * rate for z, slope in both(row)], out, row)

    _in_groups(code, kind, classes, groups, body)
