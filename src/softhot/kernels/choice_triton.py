r"""Discrete choices on a GPU, compiled by Triton: what `choice_cpu` defines, by the same tables and windows.

A program has a row, and looks at it four times: for the largest location, for how many classes are near it, for the
sums over the classes at the nodes, and for the sum over the nodes for each class. A tile of a few classes at all nodes
of a window is one block of numbers, of which each is a few taps of the table. A long row is cut into pieces that are
looked at by as many programs; then what they find is added up between one look and the next.

Sums over the classes of a tile are in the table's kind, those over tiles in double.
"""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import constexpr

from softhot.kernels.choice_tables import LAST, STRIDE, UNITS, Tables
from softhot.kernels.sampler_triton import works

__all__ = ["curve", "survey", "works"]

_TILE = 2**14  # bytes of a tile
_WIDE = 1024  # classes looked at together where there are no nodes
_PIECE = 4096  # classes of a row that one program looks at, at most
_INF, _LAST, _STRIDE = constexpr(float("inf")), constexpr(LAST), constexpr(STRIDE)
_ONE, _TWO, _FOUR = (constexpr(unit) for unit in UNITS)
_REST = constexpr(4)  # of the numbers of a table: before it step, start, limit and decay
_NUMBERS = constexpr(4 + LAST)


# ---- classes -------------------------------------------------------------------------------------------------------


@triton.jit
def _load(m, k, end):
    return tl.load(m + k, k < end, other=-_INF).to(tl.float64)


@triton.jit
def _locations(m, other, ratio, k, end):
    """The locations of some classes, -inf from the end on."""
    b = _load(m, k, end)
    if other is not None:
        o = _load(other, k, end)
        b = tl.where((b == -_INF) | (o == -_INF), -_INF, o - ratio * b)
    return b


@triton.jit
def _largest(m, other, ratio, begin, end, WIDE: constexpr):
    """The largest location, not a number if one is not; the sum; how many are possible, and how many in one alone."""
    most, total = tl.full([WIDE], -_INF, tl.float64), tl.zeros([WIDE], tl.float64)
    possible, unlike = tl.zeros([WIDE], tl.float64), tl.zeros([WIDE], tl.float64)
    for first in range(begin, end, WIDE):
        k = first + tl.arange(0, WIDE)
        b = _locations(m, other, ratio, k, end)
        inside = b != -_INF
        most = tl.where(b > most, b, most)
        total += tl.where(inside, b, 0.0)
        possible += inside.to(tl.float64)
        if other is not None:
            unlike += ((_load(m, k, end) == -_INF) ^ (_load(other, k, end) == -_INF)).to(tl.float64)
    total = tl.sum(total, 0)
    top = tl.where(total == total, tl.max(most, 0), float("nan"))
    return top, total, tl.sum(possible, 0), tl.sum(unlike, 0)


@triton.jit
def _below(b, top, rate, kind: constexpr):
    """How far classes are below the largest, in points of the table."""
    return tl.where(b != -_INF, (top - b) * rate, _INF).to(kind)


@triton.jit
def _near(m, other, scale, top, begin, end, kind: constexpr, WIDE: constexpr):
    """How many classes are within each of the units, and no less than the sum of exp(-decay * points below)."""
    ratio, rate, unit, _, decay = scale
    one, two = tl.zeros([WIDE], tl.float32), tl.zeros([WIDE], tl.float32)
    four, weight = tl.zeros([WIDE], tl.float32), tl.zeros([WIDE], tl.float32)
    slope = (decay * (8388608 / 0.6931471805599453)).to(tl.float32)
    for first in range(begin, end, WIDE):
        b = _locations(m, other, ratio, first + tl.arange(0, WIDE), end)
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
def _window(one, two, four, weight, windows, room):
    """The first node that counts, and how many do."""
    size = 2 * room + 2
    first = tl.maximum(tl.load(windows), tl.load(windows + 1 + _twice(one)))
    first = tl.maximum(first, tl.load(windows + 1 + size + _twice(two)))
    first = tl.maximum(first, tl.load(windows + 1 + 2 * size + _twice(four)))
    end = tl.load(windows + 1 + 3 * size + tl.minimum(_twice(1.07 * weight) + 1, size - 1))
    return first, (end - first + 7) // 8 * 8


@triton.jit
def _place(b, top, scale, first, length, SHIFT: constexpr, kind: constexpr):
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
def _seen(table, start, x, one, length, nodes, NODES: constexpr):
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
def _sums(
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
        b = _locations(m, other, scale[0], k, end)
        place, x, inside = _place(b, top, scale, first, length, SHIFT, kind)
        one += tl.sum(_seen(exponent, place, x, inside, length, nodes, NODES), 0).to(tl.float64)
        if also is not None:
            values = _seen(also, place, x, inside, length, nodes, NODES)
            two += tl.sum(values, 0).to(tl.float64)
            if gradient is not None:
                gain = tl.load(gradient + k, k < end, other=0.0)
                three += tl.sum(gain[:, None] * values, 0).to(tl.float64)
    return one, two, three


@triton.jit
def _weigh(sums, nodes, rest, step, ORDER: constexpr, kind: constexpr, NODES: constexpr):
    """The weights of the nodes, and the sum of exp(-S) over them less what is missing to their right; see `slices`."""
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


# ---- rows ----------------------------------------------------------------------------------------------------------


@triton.jit
def _piece(classes, PIECE: constexpr):
    """The classes of a program, from and to, and its number."""
    begin = tl.program_id(1) * PIECE
    place = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    return begin, tl.minimum(begin + PIECE, classes), place


@triton.jit
def _scale(numbers, scale, SHIFT: constexpr):
    """Of a table: its scale; the points in a unit of the locations, and in one of the wider noise; limit and decay."""
    unit = (1 << SHIFT) / tl.load(numbers)
    return scale, unit / tl.maximum(scale, 1.0), unit, tl.load(numbers + 2), tl.load(numbers + 3)


@triton.jit
def _store_four(x, a, b, c, d):
    tl.store(x, a)
    tl.store(x + 1, b)
    tl.store(x + 2, c)
    tl.store(x + 3, d)


@triton.jit
def _load_four(x):
    return tl.load(x), tl.load(x + 1), tl.load(x + 2), tl.load(x + 3)


@triton.jit
def _look(m, other, scale, windows, room, found, begin, end, kind: constexpr, WIDE: constexpr):
    """What `_largest` says of a row, the first node, and how many there are: none if nothing is to be integrated."""
    if found is None:
        top, total, possible, unlike = _largest(m, other, scale[0], begin, end, WIDE)
        one, two, four, weight = _near(m, other, scale, top, begin, end, kind, WIDE)
    else:
        top, total, possible, unlike = _load_four(found)
        one, two, four, weight = _load_four(found + 4)
    first, nodes = _window(one, two, four, weight, windows, room)
    known = (unlike == 0) & (top > -_INF) & (top < _INF)
    return top, total, possible, unlike, first, tl.where(known, nodes, 0)


@triton.jit(do_not_specialize=["each"])
def _find_in_pieces(
    m,
    other,
    scales,
    numbers,
    exponent,
    found,
    out,
    classes,
    each,
    SHIFT: constexpr,
    PIECE: constexpr,
    WIDE: constexpr,
):
    """The first look at the pieces of long rows, and the second, after the first has found the largest location."""
    kind: constexpr = exponent.dtype.element_ty
    row, t = tl.program_id(0).to(tl.int64), tl.program_id(0) // each
    begin, end, place = _piece(classes, PIECE)
    m += row * classes
    if other is not None:
        other += row * classes
    scale = _scale(numbers + t * _NUMBERS, tl.load(scales + t), SHIFT)
    if found is None:
        top, total, possible, unlike = _largest(m, other, scale[0], begin, end, WIDE)
        _store_four(out + place * 4, top, total, possible, unlike)
    else:
        one, two, four, weight = _near(m, other, scale, tl.load(found + row * 8), begin, end, kind, WIDE)
        _store_four(out + place * 4, one, two, four, weight)


@triton.jit(do_not_specialize=["each", "room", "length", "entries"])
def _sum_in_pieces(
    m,
    other,
    gradient,
    scales,
    numbers,
    windows,
    exponent,
    also,
    found,
    out,
    classes,
    each,
    room,
    length,
    entries,
    SHIFT: constexpr,
    PIECE: constexpr,
    WIDE: constexpr,
    CLASSES: constexpr,
    NODES: constexpr,
):
    """The third look at the pieces of long rows."""
    kind: constexpr = exponent.dtype.element_ty
    row, t = tl.program_id(0).to(tl.int64), tl.program_id(0) // each
    begin, end, place = _piece(classes, PIECE)
    m += row * classes
    if other is not None:
        other += row * classes
    if gradient is not None:
        gradient += row * classes
    exponent += t.to(tl.int64) * entries
    if also is not None:
        also += t.to(tl.int64) * entries
    windows, scale = windows + t * (8 * room + 9), _scale(numbers + t * _NUMBERS, tl.load(scales + t), SHIFT)
    top, _, _, _, first, nodes = _look(m, other, scale, windows, room, found + row * 8, begin, end, kind, WIDE)
    one, two, three = _sums(
        m, other, gradient, scale, top, first, nodes, exponent, also, length, begin, end, SHIFT, CLASSES, NODES
    )
    out += place * (3 * NODES) + tl.arange(0, NODES)
    tl.store(out, one)
    tl.store(out + NODES, two)
    tl.store(out + 2 * NODES, three)


@triton.jit(do_not_specialize=["each", "room", "length", "entries"])
def _survey_rows(
    m,
    other,
    scales,
    numbers,
    windows,
    exponent,
    hazard,
    drift,
    found,
    sums,
    chances,
    out,
    classes,
    each,
    room,
    length,
    entries,
    SHIFT: constexpr,
    PIECE: constexpr,
    WIDE: constexpr,
    CLASSES: constexpr,
    NODES: constexpr,
):
    """The numbers of a row, as `choice_cpu` has them, of which the last three are those of a piece; and its chances."""
    kind: constexpr = exponent.dtype.element_ty
    row, t = tl.program_id(0).to(tl.int64), tl.program_id(0) // each
    begin, end, place = _piece(classes, PIECE)
    m += row * classes
    if other is not None:
        other += row * classes
    if found is not None:
        found += row * 8
    exponent += t.to(tl.int64) * entries
    if drift is not None:
        drift += t.to(tl.int64) * entries
    windows, numbers = windows + t * (8 * room + 9), numbers + t * _NUMBERS
    scale, step = _scale(numbers, tl.load(scales + t), SHIFT), tl.load(numbers)
    top, total, possible, unlike, first, nodes = _look(m, other, scale, windows, room, found, begin, end, kind, WIDE)
    if sums is None:
        s, drifts, _ = _sums(
            m, other, None, scale, top, first, nodes, exponent, drift, length, begin, end, SHIFT, CLASSES, NODES
        )
    else:
        sums += row * (3 * NODES) + tl.arange(0, NODES)
        s, drifts = tl.load(sums), tl.load(sums + NODES)
    weights, lost = _weigh(s, nodes, numbers + _REST, step, 1, kind, NODES)
    known, alone = nodes > 0, unlike > 0
    value = tl.load(numbers + 1) + step * ((first + nodes).to(tl.float64) - 0.5 - lost)
    out += place * _STRIDE
    tl.store(out, tl.where(known, value, tl.where(alone, _INF, 0.0)))
    tl.store(out + 1, tl.where(alone, 0.0, top))
    tl.store(out + 2, total)
    tl.store(out + 3, tl.where(alone, tl.maximum(possible, 1.0), possible))
    mean, own, sum_ = tl.zeros([CLASSES], tl.float64), tl.zeros([CLASSES], tl.float64), tl.zeros([CLASSES], tl.float64)
    if chances is not None:
        hazard += t.to(tl.int64) * entries
        chances += row * classes
        otherwise = tl.where(alone, 1.0 / tl.maximum(possible, 1.0), float("nan"))
        for start in range(begin, end, CLASSES):
            k = start + tl.arange(0, CLASSES)
            b = _locations(m, other, scale[0], k, end)
            at, x, inside = _place(b, top, scale, first, length, SHIFT, kind)
            p = tl.sum(weights[None, :] * _seen(hazard, at, x, inside, length, nodes, NODES), 1)
            p = tl.where(possible == 1.0, (b != -_INF).to(kind), p)
            p = tl.where(known, p, otherwise.to(kind))
            tl.store(chances + k, p, k < end)
            if drift is not None:
                here = _load(m, k, end)
                mean += tl.where(b != -_INF, p.to(tl.float64) * b, 0.0)
                own += tl.where(b != -_INF, p.to(tl.float64) * here, 0.0)
                sum_ += tl.where(here != -_INF, here, 0.0)
    change = tl.sum(drifts * weights.to(tl.float64), 0)
    _store_four(
        out + 4,
        tl.where(known, change, 0.0),
        tl.where(known, tl.sum(mean, 0), 0.0),
        tl.where(known, tl.sum(own, 0), 0.0),
        tl.where(known, tl.sum(sum_, 0), 0.0),
    )


@triton.jit(do_not_specialize=["each", "room", "length", "entries"])
def _curve_rows(
    m,
    gradient,
    scales,
    numbers,
    windows,
    exponent,
    hazard,
    found,
    sums,
    out,
    classes,
    each,
    room,
    length,
    entries,
    SHIFT: constexpr,
    PIECE: constexpr,
    WIDE: constexpr,
    CLASSES: constexpr,
    NODES: constexpr,
):
    """The derivative of the probabilities along a gradient."""
    kind: constexpr = exponent.dtype.element_ty
    row, t = tl.program_id(0).to(tl.int64), tl.program_id(0) // each
    begin, end, _ = _piece(classes, PIECE)
    m, gradient = m + row * classes, gradient + row * classes
    if found is not None:
        found += row * 8
    exponent, hazard = exponent + t.to(tl.int64) * entries, hazard + t.to(tl.int64) * entries
    windows, numbers = windows + t * (8 * room + 9), numbers + t * _NUMBERS
    scale = _scale(numbers, tl.load(scales + t), SHIFT)
    top, _, _, _, first, nodes = _look(m, None, scale, windows, room, found, begin, end, kind, WIDE)
    if sums is None:
        s, one, two = _sums(
            m, None, gradient, scale, top, first, nodes, exponent, hazard, length, begin, end, SHIFT, CLASSES, NODES
        )
    else:
        sums += row * (3 * NODES) + tl.arange(0, NODES)
        s, one, two = tl.load(sums), tl.load(sums + NODES), tl.load(sums + 2 * NODES)
    weights, _ = _weigh(s, nodes, numbers + _REST, tl.load(numbers), 2, kind, NODES)
    wider = tl.maximum(scale[0], 1.0)
    gained, factors = weights * (one / wider).to(kind), weights * (two / wider).to(kind)
    for start in range(begin, end, CLASSES):
        k = start + tl.arange(0, CLASSES)
        b = _locations(m, None, scale[0], k, end)
        at, x, inside = _place(b, top, scale, first, length, SHIFT, kind)
        gain = tl.load(gradient + k, k < end, other=0.0)
        own = gain[:, None] * gained[None, :] - factors[None, :]
        slope = tl.sum(own * _seen(hazard, at, x, inside, length, nodes, NODES), 1)
        tl.store(out + row * classes + k, tl.where(nodes > 0, slope, float("nan")), k < end)


# ---- launches ------------------------------------------------------------------------------------------------------


def survey(
    m: Tensor, other: Tensor | None, scales: Tensor, table: Tables, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    """The numbers of each row as `choice_cpu` fills them, with the last four if moving, and if wanted its chances."""
    chances = torch.empty_like(m) if probable else m.new_empty(0)
    if not m.numel():
        return m.new_zeros((len(m), STRIDE), dtype=torch.float64), chances
    launch = _launch(m, scales, table)
    also = launch.tables.drift if moving else None
    with torch.cuda.device_of(m):
        found, sums = _pieces(m, other, None, also, launch)
        out = m.new_empty((*launch.grid, STRIDE), dtype=torch.float64)
        tables = launch.scales, *launch.tables[1:5], also
        parts = found, sums, chances if probable else None, out
        _survey_rows[launch.grid](m, other, *tables, *parts, *launch.counts, **launch.options)
    rows = out[:, 0] if launch.grid[1] == 1 else torch.cat([out[:, 0, :5], out[..., 5:].sum(1)], 1)
    return rows, chances


def curve(m: Tensor, scales: Tensor, table: Tables, gradient: Tensor) -> Tensor:
    """The product of a gradient in the choice probabilities with their derivatives in the locations."""
    out = torch.empty_like(m)
    if not m.numel():
        return out
    launch, gradient = _launch(m, scales, table), gradient.contiguous()
    with torch.cuda.device_of(m):
        parts = _pieces(m, None, gradient, launch.tables.hazard, launch)
        tables = launch.scales, *launch.tables[1:5]
        _curve_rows[launch.grid](m, gradient, *tables, *parts, out, *launch.counts, **launch.options)
    return out


def _pieces(
    m: Tensor, other: Tensor | None, gradient: Tensor | None, also: Tensor | None, launch: _Launch
) -> tuple[Tensor | None, Tensor | None]:
    """Of long rows, what the first two looks find, and the sums at the nodes."""
    if launch.grid[1] == 1:
        return None, None
    scales, tables, grid, counts, options = launch
    few = {x: options[x] for x in ("SHIFT", "PIECE", "WIDE", "num_warps")}
    found, part = (m.new_empty((len(m), *shape), dtype=torch.float64) for shape in ((2, 4), (grid[1], 4)))
    for look in range(2):
        known = found if look else None
        _find_in_pieces[grid](m, other, scales, tables.numbers, tables.exponent, known, part, *counts[:2], **few)
        found[:, look] = part.sum(1)
        if not look:
            found[:, 0, 0] = part[..., 0].amax(1)
    sums = m.new_empty((*grid, 3, options["NODES"]), dtype=torch.float64)
    parts = scales, *tables[1:4], also, found, sums
    _sum_in_pieces[grid](m, other, gradient, *parts, *counts, **options)
    return found, sums.sum(1)


class _Moved(NamedTuple):
    """The nodes of the longest window, and tables on a device."""

    nodes: int
    numbers: Tensor
    windows: Tensor
    exponent: Tensor
    hazard: Tensor
    drift: Tensor


_KEPT: WeakKeyDictionary[Tables, dict[torch.device, _Moved]] = WeakKeyDictionary()


def _moved(table: Tables, device: torch.device) -> _Moved:
    """Moved to a device, and kept there as long as the tables are."""
    kept = _KEPT.setdefault(table, {})
    if device not in kept:
        same = table.decay.new_tensor([table.step, table.start, table.limit]).expand(len(table.decay), 3)
        numbers = torch.cat([same, table.decay[:, None], table.rest], 1)
        nodes = int((table.windows[:, -1] - table.windows[:, 0]).max())
        windows, parts = table.windows.to(torch.int32), (table.exponent, table.hazard, table.drift)
        kept[device] = _Moved(nodes, *(part.to(device) for part in (numbers, windows, *parts)))
    return kept[device]


class _Launch(NamedTuple):
    """The arguments of the kernels that do not depend on what they compute."""

    scales: Tensor
    tables: _Moved
    grid: tuple[int, int]
    counts: tuple[int, ...]
    options: dict[str, int]


def _launch(m: Tensor, scales: Tensor, table: Tables) -> _Launch:
    rows, classes = m.shape
    moved = _moved(table, m.device)
    nodes, width = max(8, triton.next_power_of_2(moved.nodes)), triton.next_power_of_2(classes)
    tile = min(width, max(_TILE // (nodes * m.element_size()), 1))
    options = {"SHIFT": table.shift, "PIECE": _PIECE, "WIDE": min(width, _WIDE), "CLASSES": tile, "NODES": nodes}
    options["num_warps"] = min(16, max(1, tile * nodes * m.element_size() // 2048))
    counts = classes, rows // len(scales), table.room, table.length, table.exponent[0].numel()
    grid = rows, triton.cdiv(classes, _PIECE)
    return _Launch(scales.to(m.device, non_blocking=True), moved, grid, counts, options)
