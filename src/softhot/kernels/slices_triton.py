r"""The steps of a discrete choice on a GPU, on tiles of classes at all nodes of a window.

The nodes are equally spaced, and so is the table, `phases` times as densely. The interpolation of one class therefore
has the same few weights at every node, and its values at all nodes are a weighted sum of contiguous slices of the
table, its taps. The table is stored phase by phase, and tap i begins i * length after the first: behind the last phase
the first ones follow again, a node further on.

A scale is a tuple: the scale itself, the points of its table in a unit of the locations and in one of the wider noise,
the limit, and the decay. Sums over the classes of a tile are in the table's kind, those over tiles in double.
"""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
import triton
import triton.language as tl
from triton.language import constexpr

from softhot.kernels.choice_tables import LAST, UNITS

__all__ = ["accumulate", "largest", "load", "locations", "near", "place", "seen", "weigh", "window"]

_INF, _LAST = constexpr(float("inf")), constexpr(LAST)
_ONE, _TWO, _FOUR = (constexpr(unit) for unit in UNITS)


# ---- classes -------------------------------------------------------------------------------------------------------


@triton.jit
def load(m, k, end):
    """Some classes of a row in double, -inf from the end on."""
    return tl.load(m + k, k < end, other=-_INF).to(tl.float64)


@triton.jit
def locations(m, other, ratio, k, end):
    """The locations of some classes: m, or other - ratio * m, -inf where that is impossible."""
    b = load(m, k, end)
    if other is not None:
        o = load(other, k, end)
        b = tl.where((b == -_INF) | (o == -_INF), -_INF, o - ratio * b)
    return b


@triton.jit
def largest(m, other, ratio, begin, end, WIDE: constexpr):
    """The largest location, not a number if one is not; the sum; how many are possible, and how many in one alone."""
    most, total = tl.full([WIDE], -_INF, tl.float64), tl.zeros([WIDE], tl.float64)
    possible, unlike = tl.zeros([WIDE], tl.float64), tl.zeros([WIDE], tl.float64)
    for first in range(begin, end, WIDE):
        k = first + tl.arange(0, WIDE)
        b = locations(m, other, ratio, k, end)
        inside = b != -_INF
        most = tl.where(b > most, b, most)
        total += tl.where(inside, b, 0.0)
        possible += inside.to(tl.float64)
        if other is not None:
            unlike += ((load(m, k, end) == -_INF) ^ (load(other, k, end) == -_INF)).to(tl.float64)
    total = tl.sum(total, 0)
    top = tl.where(total == total, tl.max(most, 0), float("nan"))
    return top, total, tl.sum(possible, 0), tl.sum(unlike, 0)


@triton.jit
def _below(b, top, rate, kind: constexpr):
    """How far classes are below the largest, in points of the table."""
    return tl.where(b != -_INF, (top - b) * rate, _INF).to(kind)


@triton.jit
def near(m, other, scale, top, begin, end, kind: constexpr, WIDE: constexpr):
    """How many classes are within each of the units, and no less than the sum of exp(-decay * points below)."""
    ratio, rate, unit, _, decay = scale
    one, two = tl.zeros([WIDE], tl.float32), tl.zeros([WIDE], tl.float32)
    four, weight = tl.zeros([WIDE], tl.float32), tl.zeros([WIDE], tl.float32)
    slope = (decay * (8388608 / 0.6931471805599453)).to(tl.float32)
    for first in range(begin, end, WIDE):
        b = locations(m, other, ratio, first + tl.arange(0, WIDE), end)
        distance = _below(b, top, rate, kind).to(tl.float32)
        one += (distance <= (unit * _ONE).to(tl.float32)).to(tl.float32)
        two += (distance <= (unit * _TWO).to(tl.float32)).to(tl.float32)
        four += (distance <= (unit * _FOUR).to(tl.float32)).to(tl.float32)
        # a line between powers of two, in the bits of the number, is not below the exponential
        power = 1065353216.0 - distance * slope
        weight += tl.where(power > 0, power, 0.0).to(tl.int32).to(tl.float32, bitcast=True)
    return tl.sum(one, 0), tl.sum(two, 0), tl.sum(four, 0), tl.sum(weight, 0)


@triton.jit
def _twice(x):
    """Twice the binary logarithm of x >= 1, by lines between powers of two, rounded down."""
    return tl.maximum(x.to(tl.float32).to(tl.int32, bitcast=True) - (127 << 23), 0) >> 22


@triton.jit
def window(one, two, four, weight, windows, room):
    """The first node that counts, and how many do."""
    size = 2 * room + 2
    first = tl.maximum(tl.load(windows), tl.load(windows + 1 + _twice(one)))
    first = tl.maximum(first, tl.load(windows + 1 + size + _twice(two)))
    first = tl.maximum(first, tl.load(windows + 1 + 2 * size + _twice(four)))
    end = tl.load(windows + 1 + 3 * size + tl.minimum(_twice(1.07 * weight) + 1, size - 1))
    return first, (end - first + 7) // 8 * 8


@triton.jit
def place(b, top, scale, first, length, SHIFT: constexpr, kind: constexpr):
    """Where the taps of classes start in the table, seen from the first node; how far they are from the points there,
    and one, or zero for a class beyond the limit.
    """
    _, rate, _, limit, _ = scale
    distance = _below(b, top, rate, kind)
    inside = distance <= limit.to(kind)
    distance = tl.where(inside, distance, 0.0)
    cell = (distance + (0.5 if kind == tl.float32 else 0.0)).to(tl.int32)
    start = (cell & ((1 << SHIFT) - 1)) * length + (cell >> SHIFT) + first
    return start, distance - cell.to(kind), inside.to(kind)


# ---- nodes ---------------------------------------------------------------------------------------------------------


@triton.jit
def seen(table, start, x, one, length, nodes, NODES: constexpr):
    """A table as some classes see it from the nodes: (classes, nodes)."""
    kind: constexpr = table.dtype.element_ty
    taps: constexpr = 3 if kind == tl.float32 else 6
    n = tl.arange(0, NODES)[None, :]
    places = table + (start[:, None] + n)
    values = tl.zeros([start.shape[0], NODES], kind)
    for i in tl.static_range(taps):
        weight = one
        for j in tl.static_range(taps):
            if j != i:
                weight = weight * ((x - (j - (taps - 1) // 2)) * (1 / (i - j)))
        values += weight[:, None] * tl.load(places + i * length, n < nodes, other=0.0)
    return values


@triton.jit
def accumulate(
    m,
    other,
    gradient,
    scale,
    top,
    first,
    nodes,
    exponent,
    also,
    length,
    begin,
    end,
    SHIFT: constexpr,
    CLASSES: constexpr,
    NODES: constexpr,
):
    """The sums over the classes of the exponent at the nodes; of another table; and of gradient times that."""
    kind: constexpr = exponent.dtype.element_ty
    one, two = tl.zeros([NODES], tl.float64), tl.zeros([NODES], tl.float64)
    three = tl.zeros([NODES], tl.float64)
    for start in range(begin, end, CLASSES):
        k = start + tl.arange(0, CLASSES)
        b = locations(m, other, scale[0], k, end)
        at, x, inside = place(b, top, scale, first, length, SHIFT, kind)
        one += tl.sum(seen(exponent, at, x, inside, length, nodes, NODES), 0).to(tl.float64)
        if also is not None:
            values = seen(also, at, x, inside, length, nodes, NODES)
            two += tl.sum(values, 0).to(tl.float64)
            if gradient is not None:
                gain = tl.load(gradient + k, k < end, other=0.0)
                three += tl.sum(gain[:, None] * values, 0).to(tl.float64)
    return one, two, three


@triton.jit
def weigh(sums, nodes, rest, step, ORDER: constexpr, kind: constexpr, NODES: constexpr):
    """The weights of the nodes, and the sum of exp(-S) over them less what is missing to their right; see `nodes`."""
    n = tl.arange(0, NODES)
    inside = n < nodes
    last = n - (nodes - _LAST)
    left = tl.load(rest + last, inside & (last >= 0), other=0.0)
    s = tl.sum(tl.where(n == nodes - 1, sums, 0.0), 0)
    ratio = s / tl.sum(tl.where(n == nodes - 2, sums, 0.0), 0)
    square = ratio * ratio / (1.0 - ratio * ratio)
    values = tl.where(inside, tl.exp(-sums.to(kind)), 0.0)
    lost = tl.sum(values.to(tl.float64), 0) - tl.sum(left * sums, 0) + square * s * s * 0.5
    change = tl.where(n == nodes - 1, square if ORDER == 2 else -square * s, 0.0)
    if ORDER == 1:
        change += left
    return values * step.to(kind) + (change * step).to(kind), lost
