r"""Discrete choices on a GPU, compiled by Triton: what `choice_cpu` defines, by slices and the same windows.

A program has a row, and looks at it four times: for the largest location, for how many classes are near it, for the
sums over the classes at the nodes, and for the sum over the nodes for each class. A tile of a few classes at all nodes
of a window is one block of numbers, of which each is a few taps of the table. A long row is cut into pieces that are
looked at by as many programs; then what they find is added up between one look and the next.
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

from softhot.kernels.choice_tables import LAST, STRIDE, Tables
from softhot.kernels.sampler_triton import works
from softhot.kernels.slices_triton import accumulate, largest, load, locations, near, place, seen, weigh, window

__all__ = ["curve", "survey", "works"]

_TILE = 2**14  # bytes of a tile
_WIDE = 1024  # classes looked at together where there are no nodes
_PIECE = 4096  # classes of a row that one program looks at, at most
_INF, _STRIDE = constexpr(float("inf")), constexpr(STRIDE)
_REST = constexpr(4)  # of the numbers of a table: before it step, start, limit and decay
_NUMBERS = constexpr(4 + LAST)


# ---- rows ----------------------------------------------------------------------------------------------------------


@triton.jit
def _piece(classes, PIECE: constexpr):
    """The classes of a program, from and to, and its number."""
    begin = tl.program_id(1) * PIECE
    piece = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    return begin, tl.minimum(begin + PIECE, classes), piece


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
    """What `largest` says of a row, the first node, and how many there are: none if nothing is to be integrated."""
    if found is None:
        top, total, possible, unlike = largest(m, other, scale[0], begin, end, WIDE)
        one, two, four, weight = near(m, other, scale, top, begin, end, kind, WIDE)
    else:
        top, total, possible, unlike = _load_four(found)
        one, two, four, weight = _load_four(found + 4)
    first, nodes = window(one, two, four, weight, windows, room)
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
    begin, end, piece = _piece(classes, PIECE)
    m += row * classes
    if other is not None:
        other += row * classes
    scale = _scale(numbers + t * _NUMBERS, tl.load(scales + t), SHIFT)
    if found is None:
        top, total, possible, unlike = largest(m, other, scale[0], begin, end, WIDE)
        _store_four(out + piece * 4, top, total, possible, unlike)
    else:
        one, two, four, weight = near(m, other, scale, tl.load(found + row * 8), begin, end, kind, WIDE)
        _store_four(out + piece * 4, one, two, four, weight)


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
    begin, end, piece = _piece(classes, PIECE)
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
    one, two, three = accumulate(
        m, other, gradient, scale, top, first, nodes, exponent, also, length, begin, end, SHIFT, CLASSES, NODES
    )
    out += piece * (3 * NODES) + tl.arange(0, NODES)
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
    """The numbers of a row, as `choice_cpu` has them but for the first two, and its chances.

    These are what of the expected maximum is beyond the largest location, and that location. The last three are those
    of a piece.
    """
    kind: constexpr = exponent.dtype.element_ty
    row, t = tl.program_id(0).to(tl.int64), tl.program_id(0) // each
    begin, end, piece = _piece(classes, PIECE)
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
        s, drifts, _ = accumulate(
            m, other, None, scale, top, first, nodes, exponent, drift, length, begin, end, SHIFT, CLASSES, NODES
        )
    else:
        sums += row * (3 * NODES) + tl.arange(0, NODES)
        s, drifts = tl.load(sums), tl.load(sums + NODES)
    weights, lost = weigh(s, nodes, numbers + _REST, step, 1, kind, NODES)
    known, alone = nodes > 0, unlike > 0
    value = tl.load(numbers + 1) + step * ((first + nodes).to(tl.float64) - 0.5 - lost)
    out += piece * _STRIDE
    tl.store(out, tl.where(known, value, tl.where(alone, _INF, 0.0)))
    tl.store(out + 1, tl.where(alone, 0.0, top))
    tl.store(out + 2, total)
    tl.store(out + 3, tl.where(alone, tl.maximum(possible, 1.0), possible))
    mean = tl.zeros([CLASSES], tl.float64)
    own, sum_ = mean, mean
    if chances is not None:
        hazard += t.to(tl.int64) * entries
        chances += row * classes
        otherwise = tl.where(alone, 1.0 / tl.maximum(possible, 1.0), float("nan"))
        for start in range(begin, end, CLASSES):
            k = start + tl.arange(0, CLASSES)
            b = locations(m, other, scale[0], k, end)
            at, x, inside = place(b, top, scale, first, length, SHIFT, kind)
            p = tl.sum(weights[None, :] * seen(hazard, at, x, inside, length, nodes, NODES), 1)
            p = tl.where(possible == 1.0, (b != -_INF).to(kind), p)
            p = tl.where(known, p, otherwise.to(kind))
            tl.store(chances + k, p, k < end)
            if drift is not None:
                here = load(m, k, end)
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
        s, one, two = accumulate(
            m, None, gradient, scale, top, first, nodes, exponent, hazard, length, begin, end, SHIFT, CLASSES, NODES
        )
    else:
        sums += row * (3 * NODES) + tl.arange(0, NODES)
        s, one, two = tl.load(sums), tl.load(sums + NODES), tl.load(sums + 2 * NODES)
    weights, _ = weigh(s, nodes, numbers + _REST, tl.load(numbers), 2, kind, NODES)
    wider = tl.maximum(scale[0], 1.0)
    gained, factors = weights * (one / wider).to(kind), weights * (two / wider).to(kind)
    for start in range(begin, end, CLASSES):
        k = start + tl.arange(0, CLASSES)
        b = locations(m, None, scale[0], k, end)
        at, x, inside = place(b, top, scale, first, length, SHIFT, kind)
        gain = tl.load(gradient + k, k < end, other=0.0)
        own = gain[:, None] * gained[None, :] - factors[None, :]
        slope = tl.sum(own * seen(hazard, at, x, inside, length, nodes, NODES), 1)
        tl.store(out + row * classes + k, tl.where(nodes > 0, slope, float("nan")), k < end)


# ---- launches ------------------------------------------------------------------------------------------------------


def survey(
    m: Tensor, other: Tensor | None, scales: Tensor, table: Tables, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    """The numbers of each row, the first of which is what of the expected maximum is beyond the largest location, in
    units of the wider noise, and the others as in `choice_cpu`, the last four of a moving scale; if wanted its chances.
    """
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
    if len(scales) == 1:  # a copy from the host would wait for the stream
        scales = scales.new_full((1,), scales.item(), device=m.device)
    return _Launch(scales.to(m.device), moved, grid, counts, options)
