r"""The steps of a discrete choice between the mesh and the nodes of a row, on vectors of either.

The nodes of a row are equally spaced, and so is the mesh, as densely or some times so: what lies between a node and a
point depends on how far they are apart. Both ways it is the product of a small matrix, which all rows share, with a
vector for each row; several rows are taken at once, so that what is loaded serves them all.

Arguments are first a zero of the table's kind, then addresses and numbers. Meshes lie a width apart, and the nodes of
one row after those of another; there is one row, or eight. Nodes come in vectors, and points from the eighth on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from softhot.kernels.vectors import F32, F64, I64, LANES, Code, Value, emitted, exponential

__all__ = ["collect", "spread", "weigh"]

_ROOM = {F32: 12, F64: 6}  # vectors for which there are registers
_MOST = {F32: 6, F64: 3}  # of nodes or points, at once


def _product(
    code: Code,
    kind: Any,
    table: Value,
    place: Callable[[Value], Value],
    stretch: tuple[Value, Value],
    lanes: Value,
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
        def of_rows(rows: int) -> None:
            together = max(x for x in (1, 2, 4) if x <= rows and x * many <= max(_ROOM[kind], many))
            with code.loop(code.integer(0), code.integer(rows), together) as row:
                tile([row + i for i in range(together)], first, many)

        code.one_or_all(lanes, of_rows)

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
    lanes: Value,
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
    _product(code, kind, table, place, stretch, lanes, (mesh, width), code.divide(nodes, LANES), (sums, nodes))


@emitted("iiiiiiiii")
def collect(
    code: Code,
    kind: Any,
    table: Value,
    shift: Value,
    factors: Value,
    nodes: Value,
    first: Value,
    lanes: Value,
    vectors: Value,
    width: Value,
    mesh: Value,
) -> None:
    """The sums at the points, of the factors of so many nodes from the first on, times the table across."""
    with code.loop(code.integer(0), lanes, 1) as row:
        code.store(code.constant(kind, 0.0), mesh, row * width)
    stretch, points = (code.integer(0), nodes), mesh + LANES * (4 if kind == F32 else 8)
    _product(
        code,
        kind,
        table,
        lambda node: (first + node) << shift,
        stretch,
        lanes,
        (factors, nodes),
        vectors,
        (points, width),
    )


@emitted("iiiiiiddii")
def weigh(
    code: Code,
    kind: Any,
    sums: Value,
    lanes: Value,
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
    left, times, first = code.load(F64, rest, code.integer(0)), code.splat(step.to(kind)), order.compare("==", 1.0)

    def window(row: Value) -> tuple[Value, Value]:
        begin = row * nodes + code.load(I64, begins, row, vector=False)
        return begin, begin + code.load(I64, counts, row, vector=False)

    with code.loop(code.integer(0), lanes * nodes, LANES) as n:
        code.store(code.constant(kind, 0.0), weights, n)
    with code.loop(code.integer(0), lanes, 1) as row:
        begin, end = window(row)
        total = code.variable(code.constant(F64, 0.0))
        with code.loop(begin, end, LANES) as n:
            value = exponential(-code.load(kind, sums, n))
            code.store(value * times, weights, n)
            total.add(value.to(F64))
        code.store((total.get() - left * code.load(kind, sums, end - LANES).to(F64)).sum(), totals, row)
    linear, latest = code.splat(first.choose(step, 0.0)) * left, code.constant(F64, [0.0] * (LANES - 1) + [1.0])

    def right(rows: int) -> None:
        ends = [window(code.integer(min(row, rows - 1)))[1] for row in range(LANES)]
        s, before = (code.gather(kind, sums, [end - i for end in ends]).to(F64) for i in (1, 2))
        ratio = s / before
        square = ratio * ratio / (s.like(1.0) - ratio * ratio)
        code.store(code.load(F64, totals, code.integer(0)) + square * s * s * 0.5, totals, code.integer(0))
        quadratic = first.choose(-square * s, square) * code.splat(step)
        for row, end in enumerate(ends[:rows]):
            change = linear + code.splat(quadratic.lane(row)) * latest
            code.store(code.load(kind, weights, end - LANES) + change.to(kind), weights, end - LANES)

    code.one_or_all(lanes, right)
