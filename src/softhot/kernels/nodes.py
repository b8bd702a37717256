r"""The steps of a discrete choice between the mesh and the nodes of a row, on vectors of either.

The nodes of a row are equally spaced, and so is the mesh, as densely or some times so: what lies between a node and a
point depends on how far they are apart. Both ways it is the product of a small matrix, which all rows share, with a
vector for each row; several rows are taken at once, so that what is loaded serves them all.

Arguments are first a zero of the table's kind, then addresses and numbers. Meshes lie a width apart, and the nodes of
one row after those of another; there is room for eight rows. Nodes come in vectors, and points from the eighth on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from softhot.kernels.vectors import F32, F64, I32, I64, LANES, Code, Value, emitted, exponential

__all__ = ["collect", "spread", "weigh"]

_ROOM = {F32: 12, F64: 6}  # vectors for which there are registers
_MOST = {F32: 6, F64: 3}  # of nodes or points, at once


def _product(
    code: Code,
    kind: Any,
    table: Value,
    place: Callable[[Value], Value],
    stretch: tuple[Value, Value],
    rows: Value,
    weights: tuple[Value, Value],
    vectors: Value,
    results: tuple[Value, Value],
) -> None:
    """For each row, the sum over i in a stretch of weight i times so many vectors of the table, from place(i) on.

    Weights and results are where those of the first row begin, and how far the next row is. Rows and vectors are taken
    in tiles whose sums fit in the registers.
    """

    def tile(these: list[Value], lane: Value, many: int) -> None:
        totals = [[code.variable(code.constant(kind, 0.0)) for _ in range(many)] for _ in these]
        with code.loop(*stretch, 1) as i:
            values = [code.load(kind, table, place(i) + lane + v * LANES) for v in range(many)]
            for row, sums in zip(these, totals, strict=True):
                weight = code.splat(code.load(kind, weights[0], row * weights[1] + i, vector=False))
                for total, value in zip(sums, values, strict=True):
                    total.add(weight * value)
        for row, sums in zip(these, totals, strict=True):
            for v, total in enumerate(sums):
                code.store(total.get(), results[0], row * results[1] + lane + v * LANES)

    def of_vectors(first: Value, many: int) -> None:
        def of_rows(together: int) -> None:
            with code.loop(code.integer(0), rows, together) as row:
                tile([row + i for i in range(together)], first, many)

        several = max(x for x in (1, 2, 4) if x * many <= max(_ROOM[kind], many))
        code.either(rows.compare("==", 1), lambda: of_rows(1), lambda: of_rows(several))

    most = _MOST[kind]
    whole = code.divide(vectors - 1, most)
    rest = vectors - whole * most
    code.cases(rest, most, lambda many: of_vectors(code.integer(0), many))
    with code.loop(code.integer(0), whole, 1) as block:
        of_vectors((rest + block * most) << 3, most)


@emitted("iiiiiiiiii")
def spread(
    code: Code,
    kind: Any,
    table: Value,
    shift: Value,
    length: Value,
    mesh: Value,
    width: Value,
    last: Value,
    rows: Value,
    nodes: Value,
    first: Value,
    sums: Value,
) -> None:
    """The sums at so many nodes, from the first on, of what is on the mesh before the last point times the table.

    The table is stored phase by phase, one for each point between two nodes, and a phase has a length.
    """
    phases = (code.integer(1) << shift) - 1

    def place(point: Value) -> Value:
        before = point - LANES
        return (before & phases) * length + (before >> shift) + first

    stretch = code.integer(LANES), last
    _product(code, kind, table, place, stretch, rows, (mesh, width), code.divide(nodes, LANES), (sums, nodes))


@emitted("iiiiiiiii")
def collect(
    code: Code,
    kind: Any,
    table: Value,
    shift: Value,
    factors: Value,
    nodes: Value,
    first: Value,
    rows: Value,
    vectors: Value,
    width: Value,
    mesh: Value,
) -> None:
    """The sums at the points, of the factors of so many nodes from the first on, times the table across."""
    with code.loop(code.integer(0), rows, 1) as row:
        code.store(code.constant(kind, 0.0), mesh, row * width)
    stretch, points = (code.integer(0), nodes), mesh + LANES * (4 if kind == F32 else 8)
    _product(
        code,
        kind,
        table,
        lambda node: (first + node) << shift,
        stretch,
        rows,
        (factors, nodes),
        vectors,
        (points, width),
    )


@emitted("iiiiiiddii")
def weigh(
    code: Code,
    kind: Any,
    sums: Value,
    rows: Value,
    nodes: Value,
    begins: Value,
    counts: Value,
    rest: Value,
    step: Value,
    order: Value,
    weights: Value,
    totals: Value,
) -> None:
    """The weights of the nodes, and in all the sum of exp(-S) over them less that of 1 - exp(-S) to their right.

    Of the nodes a row has its own, so many from one on: a multiple of eight. The others weigh nothing. What is on the
    right is to first order `rest`, a combination of the last S; to second order S falls geometrically. The weights are
    step times exp(-S) and at the last nodes what makes the sum over these nodes one over all: of a factor like S
    itself, or with order 2 of a product of two.
    """
    with code.loop(code.integer(0), rows * nodes, LANES) as n:
        code.store(exponential(-code.load(kind, sums, n)), weights, n)
    left, times, first = code.load(F64, rest, code.integer(0)), code.splat(step.to(kind)), order.compare("==", 1.0)
    linear = code.splat(first.choose(step, 0.0)) * left
    latest = code.constant(F64, [0.0] * (LANES - 1) + [1.0])
    lanes = code.constant(I32, list(range(LANES)))
    with code.loop(code.integer(0), rows, 1) as row:
        start, begin = row * nodes, code.load(I64, begins, row, vector=False)
        count = code.load(I64, counts, row, vector=False)
        total, own = code.variable(code.constant(F64, 0.0)), lanes - code.splat(begin.to(I32))
        many = code.splat(count.to(I32))
        with code.loop(code.integer(0), nodes, LANES) as n:
            index, value = own + code.splat(n.to(I32)), code.load(kind, weights, start + n)
            value = index.compare("<", 0).choose(value.like(0.0), index.compare("<", many).choose(value, 0.0))
            code.store(value * times, weights, start + n)
            total.add(value.to(F64))
        end = start + begin + count - LANES
        last = code.load(kind, sums, end).to(F64)
        s = last.lane(LANES - 1)
        ratio = s / last.lane(LANES - 2)
        square = ratio * ratio / (s.like(1.0) - ratio * ratio)
        change = linear + code.splat(first.choose(-square * s, square) * step) * latest
        code.store(code.load(kind, weights, end) + change.to(kind), weights, end)
        code.store((total.get() - left * last).sum() + square * s * s * 0.5, totals, row)
