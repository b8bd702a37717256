r"""Discrete choices on the CPU, row by row, compiled by Numba.

With :math:`S_n = \sum_k A(x_n - m_k)` at node n and :math:`\Pi_n = e^{-S_n}`, the expected maximum is the end of the
nodes less the sum of the :math:`\Pi_n`, and the probability of class k the sum of :math:`\Pi_n D(x_n - m_k)`, sums that
are times the step. On the left of a row's nodes :math:`\Pi` has vanished, and on their right it is one but for what
`choice_tables` says is left.

The derivative of the probabilities along a gradient g needs no table of D', since they always sum to one:

.. math:: \sum_k g_k \frac{\partial p_k}{\partial m_j} = \int \Pi D_j \sum_k (g_j - g_k) D_k

A thread needs the memory of the nodes and of one row, whatever the number of rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit

from softhot.kernels.choice_tables import LAST, STRIDE
from softhot.kernels.compiled import SUMS, array, bits, job, next_piece, of_dtype
from softhot.kernels.parallel import HEADER
from softhot.kernels.slices import TAPS, TILE, accumulate, dots, place, survey, weigh

__all__ = ["expected_body", "probabilities_backward_body"]

_i64, _f32, _f64 = np.int64, np.float32, np.float64
_SINGLE, _DOUBLE = TAPS[4], TAPS[8]


class _Table(NamedTuple):
    """What `choice_tables.Tables` holds for one scale; tables and lists by address."""

    step: float
    start: float
    shift: int
    length: int
    limit: float
    room: int
    rate: float
    decay: float
    rest: int
    windows: int
    exponent: int
    hazard: int


class _Memory(NamedTuple):
    """What a thread works in: the size of a number, and addresses for a row, a tile and the nodes."""

    item: int
    wide: int
    below: int
    starts: int
    weights: int
    lanes: int
    sums: int
    others: int
    factors: int
    gained: int
    drifts: int
    others_drifts: int


class _Row(NamedTuple):
    """What a survey says of a row, and the nodes that count: the first, and how many vectors of eight."""

    classes: int
    top: float
    total: float
    possible: float
    unlike: float
    first: int
    vectors: int


# ---- steps of a row ------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _survey(zero, memory, table, locations, other, ratio, classes, available):
    """Leaves in memory how far each class is below the largest, and the taps of a short row.

    There are no vectors where there is nothing to integrate.
    """
    unit = _f64(_i64(1) << table.shift) / table.step
    top, total, possible, unlike, one, two, four, weight = survey(
        zero, locations, other, ratio, table.rate, unit, table.decay, classes, available, memory.wide, memory.below
    )
    if unlike > 0 or not (top > -np.inf) or not (top < np.inf):
        return _Row(classes, top, total, possible, unlike, 0, 0)
    size = 2 * table.room + 2
    windows = array(table.windows, 1 + 4 * size, 0)
    first = max(
        windows[0], windows[1 + _twice(one)], windows[1 + size + _twice(two)], windows[1 + 2 * size + _twice(four)]
    )
    end = windows[1 + 3 * size + min(_twice(1.07 * weight) + 1, size - 1)]  # a line misses a logarithm by .086 at most
    row = _Row(classes, top, total, possible, unlike, first, (end - first + 7) >> 3)
    if classes <= TILE:
        _place(zero, memory, table, row, 0)
    return row


@njit(**SUMS)
def _twice(x):
    """Twice the binary logarithm of x >= 1, by lines between powers of two, rounded down."""
    return (_i64(bits(_f32(x))) - (127 << 23)) >> 22


@njit(**SUMS)
def _place(zero, memory, table, row, k):
    """The taps of the tile that begins with class k; returns how many classes it has."""
    size, below = min(TILE, row.classes - k), memory.below + k * memory.item
    place(zero, below, memory.starts, memory.weights, table.limit, table.shift, table.length, row.first, size)
    return size


@njit(**SUMS)
def _sum(zero, memory, table, row, values, sums, gains, gained):
    """The sums over the classes of a table at the nodes; with gains also of gain times it. A short row is in place."""
    nodes = 8 * row.vectors
    array(sums, nodes, 0.0)[:] = 0.0
    array(gained, nodes, 0.0)[:] = 0.0
    for k in range(0, row.classes, TILE):
        size = _place(zero, memory, table, row, k) if row.classes > TILE else row.classes
        here = gains + k * memory.item if gains else 0
        accumulate(zero, values, table.length, memory.starts, memory.weights, size, row.vectors, sums, here, gained)


@njit(**SUMS)
def _dot(zero, memory, table, row, values, factors, gains, gained, results):
    """The sum over the nodes of factor times a table, for each class; see `dots`. A short row is in place."""
    for k in range(0, row.classes, TILE):
        size = _place(zero, memory, table, row, k) if row.classes > TILE else row.classes
        here, there = gains + k * memory.item if gains else 0, results + k * memory.item
        dots(
            zero,
            values,
            table.length,
            memory.starts,
            memory.weights,
            size,
            row.vectors,
            factors,
            here,
            gained,
            memory.lanes,
            there,
        )


@njit(**SUMS)
def _expected(zero, memory, table, row, locations, probabilities, drift, results):
    """Fill results: E[max] beyond the largest location, in units of the wider noise; the largest location; sum; count;
    the derivative of the first in the scale, locations fixed; the mean of the locations, and of m, and the sum of m.
    """
    kind, classes = type(zero), row.classes
    p = array(probabilities, classes, zero)
    results[:] = 0.0
    results[1], results[2], results[3] = row.top, row.total, row.possible
    if row.vectors == 0:
        if row.unlike > 0:
            results[0], results[1], results[3] = np.inf, 0.0, max(row.possible, 1.0)
        p[:] = kind(1.0 / max(row.possible, 1.0)) if row.unlike > 0 else kind(np.nan)
        return
    _sum(zero, memory, table, row, table.exponent, memory.sums, 0, 0)
    (lost,) = weigh(zero, memory.sums, row.vectors, table.rest, table.step, 1.0, memory.factors)
    nodes = 8 * row.vectors
    results[0] = table.start + table.step * (_f64(row.first + nodes) - 0.5 - lost)
    if not p.size:
        return
    _dot(zero, memory, table, row, table.hazard, memory.factors, 0, 0, probabilities)
    if row.possible == 1.0:
        below = array(memory.below, classes, zero)
        for k in range(classes):
            p[k] = kind(1.0) if below[k] == kind(0.0) else kind(0.0)
    if drift:
        _sum(zero, memory, table, row, drift, memory.sums, 0, 0)
        others, factors = array(memory.sums, nodes, 0.0), array(memory.factors, nodes, zero)
        b, m = array(memory.wide, classes, 0.0), array(locations, classes, zero)
        for n in range(nodes):
            results[4] += others[n] * _f64(factors[n])
        for k in range(classes):
            if b[k] > -np.inf:
                results[5] += _f64(p[k]) * b[k]
                results[6] += _f64(p[k]) * _f64(m[k])
            if m[k] > kind(-np.inf):
                results[7] += _f64(m[k])


@njit(**SUMS)
def _probabilities_backward(zero, memory, table, row, gradient, drift, out):
    """Fill the derivative in the locations, and return that in the scale for fixed locations."""
    kind, nodes, in_scale = type(zero), 8 * row.vectors, 0.0
    if row.vectors == 0:
        array(out, row.classes, zero)[:] = kind(np.nan)
        return np.nan
    _sum(zero, memory, table, row, table.exponent, memory.sums, 0, 0)
    weigh(zero, memory.sums, row.vectors, table.rest, table.step, 2.0, memory.factors)
    _sum(zero, memory, table, row, table.hazard, memory.sums, gradient, memory.others)
    one, two = array(memory.sums, nodes, 0.0), array(memory.others, nodes, 0.0)
    factors, gained = array(memory.factors, nodes, zero), array(memory.gained, nodes, zero)
    if drift:
        _sum(zero, memory, table, row, drift, memory.drifts, gradient, memory.others_drifts)
        three, four = array(memory.drifts, nodes, 0.0), array(memory.others_drifts, nodes, 0.0)
        for n in range(nodes):
            in_scale += _f64(factors[n]) * (four[n] * one[n] - three[n] * two[n])
    scale = table.rate * table.step / _f64(_i64(1) << table.shift)
    for n in range(nodes):
        gained[n] = factors[n] * kind(one[n] * scale)
        factors[n] *= kind(two[n] * scale)
    _dot(zero, memory, table, row, table.hazard, memory.factors, gradient, memory.gained, out)
    return in_scale


# ---- jobs ----------------------------------------------------------------------------------------------------------

_SHARED = 16  # arguments that both jobs begin with, see `_table`


@njit(**SUMS)
def _table(here, t):
    """One of the tables of a job, whose arguments begin with: bytes of a number, step, start, phases as a power of two,
    length of a phase, entries of a table, nodes, limit, room, number of tables; rates, decays, rest, windows, exponent,
    hazard.
    """
    step, start, limit = bits(here[1]), bits(here[2]), bits(here[7])
    shift, length, move, room = here[3], here[4], here[0] * here[5] * t, here[8]
    rates, decays = array(here[10], t + 1, 0.0), array(here[11], t + 1, 0.0)
    rest, windows = here[12] + 8 * LAST * t, here[13] + 8 * (8 * room + 9) * t
    exponent, hazard = here[14] + move, here[15] + move
    return _Table(step, start, shift, length, limit, room, rates[t], decays[t], rest, windows, exponent, hazard)


@njit(**SUMS)
def _room(here, classes):
    """The memory of a thread, and where its parts begin."""
    item, nodes, taps = here[0], here[6], TILE * (_SINGLE if here[0] == 4 else _DOUBLE)
    padded = classes + 8
    sizes = np.array(
        [
            8 * padded,
            item * padded,
            4 * TILE,
            item * taps,
            8 * item * TILE,
            8 * nodes,
            8 * nodes,
            item * nodes,
            item * nodes,
            8 * nodes,
            8 * nodes,
        ]
    )
    places = np.zeros(sizes.size + 1, _i64)
    for i in range(sizes.size):
        places[i + 1] = places[i] + (sizes[i] + 63) // 64 * 64
    room = np.empty(places[-1] + 64, np.uint8)
    p = places + (room.ctypes.data + 63) // 64 * 64
    return room, _Memory(item, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10])


@njit(**SUMS)
def _expected_pieces(pointer, zero):
    """Further arguments: drift; locations, other, ratios; probabilities and results."""
    work = job(pointer, _SHARED + 6)
    rows, classes, here = work[2], work[3], work[HEADER:]
    room, memory = _room(here, classes)
    tables, drift, item = here[9], here[16], here[0]
    ratios, results = array(here[19], tables, 0.0), array(here[21], rows * STRIDE, 0.0)
    first, last = next_piece(pointer)
    while first < last:
        for r in range(first, last):
            t, base = r * tables // rows, item * r * classes
            table = _table(here, t)
            locations = here[17] + base
            other = here[18] + base if here[18] else 0
            row = _survey(zero, memory, table, locations, other, ratios[t], classes, (rows - r) * classes)
            probabilities = here[20] + base if here[20] else 0
            drifts = drift + item * here[5] * t if drift else 0
            _expected(
                zero, memory, table, row, locations, probabilities, drifts, results[STRIDE * r : STRIDE * (r + 1)]
            )
        first, last = next_piece(pointer)
    room[0] = 0  # it lives until here


@njit(**SUMS)
def _probabilities_backward_pieces(pointer, zero):
    """Further arguments: drift; locations and gradient; the derivatives in the locations and the scale."""
    work = job(pointer, _SHARED + 5)
    rows, classes, here = work[2], work[3], work[HEADER:]
    room, memory = _room(here, classes)
    tables, item, in_scales = here[9], here[0], array(here[20], rows, 0.0)
    first, last = next_piece(pointer)
    while first < last:
        for r in range(first, last):
            t, base = r * tables // rows, item * r * classes
            table, drift = _table(here, t), here[16] + item * here[5] * t if here[16] else 0
            row = _survey(zero, memory, table, here[17] + base, 0, 0.0, classes, (rows - r) * classes)
            in_scale = _probabilities_backward(zero, memory, table, row, here[18] + base, drift, here[19] + base)
            if drift:
                in_scales[r] = in_scale
        first, last = next_piece(pointer)
    room[0] = 0  # it lives until here


def _expected_single(pointer):
    _expected_pieces(pointer, _f32(0))


def _expected_double(pointer):
    _expected_pieces(pointer, _f64(0))


@lru_cache
def expected_body(dtype: torch.dtype) -> Any:
    """The compiled expected maximum and choice probabilities of a dtype, for `parallel.run`."""
    return of_dtype(dtype, _expected_single, _expected_double)


def _probabilities_backward_single(pointer):
    _probabilities_backward_pieces(pointer, _f32(0))


def _probabilities_backward_double(pointer):
    _probabilities_backward_pieces(pointer, _f64(0))


@lru_cache
def probabilities_backward_body(dtype: torch.dtype) -> Any:
    """The derivative of the probabilities along a gradient."""
    return of_dtype(dtype, _probabilities_backward_single, _probabilities_backward_double)
