r"""Discrete choices on the CPU, row by row, compiled by Numba.

With :math:`S_n = \sum_k A(x_n - m_k)` at node n and :math:`\Pi_n = e^{-S_n}`, the expected maximum is the end of the
nodes less the sum of the :math:`\Pi_n`, and the probability of class k the sum of :math:`\Pi_n D(x_n - m_k)`. On the left
of a row's nodes :math:`\Pi` has vanished, and on their right it is one but for what `choice_tables` says is left.

The derivative of the probabilities along a gradient g needs no table of D', since they sum to one whatever the locations:

.. math:: \sum_k g_k \frac{\partial p_k}{\partial m_j} = \int \Pi D_j \sum_k (g_j - g_k) D_k

A thread needs the memory of the nodes and of one row, whatever the number of rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import cfunc, njit

from softhot.kernels.choice_tables import LAST, STRIDE
from softhot.kernels.compiled import SIGNATURE, SUMS, array, bits, job, next_piece
from softhot.kernels.parallel import HEADER
from softhot.kernels.slices import TAPS, TILE, accumulate, chances, dots, place, survey

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
    scaled: int
    lanes: int
    sums: int
    others: int
    chances: int
    factors: int


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
    """Leaves in memory how far each class is below the largest; no vectors where there is nothing to integrate."""
    unit = _f64(_i64(1) << table.shift) / table.step
    top, total, possible, unlike, near, far, weight = survey(
        zero, locations, other, ratio, table.rate, unit, table.decay, classes, available, memory.wide, memory.below
    )
    if unlike > 0 or not (top > -np.inf) or not (top < np.inf):
        return _Row(classes, top, total, possible, unlike, 0, 0)
    close, remote = _i64(bits(_f32(near)) >> 23) - 127, _i64(bits(_f32(far)) >> 23) - 127  # powers of two
    windows = array(table.windows, 4 * table.room + 5, 0)
    first = max(windows[0], windows[1 + close], windows[2 + table.room + remote])
    # twice the binary logarithm is no more than this: a line between powers of two, and what that misses at most
    twice = (_i64(bits(_f32(weight * 1.07))) - (127 << 23) + (1 << 22) - 1) >> 22
    end = windows[3 + 2 * table.room + min(twice, 2 * table.room + 1)]
    return _Row(classes, top, total, possible, unlike, first, (end - first + 7) >> 3)


@njit(**SUMS)
def _place(zero, memory, table, row, k):
    """The taps of the tile that begins with class k; returns how many classes it has."""
    size, below = min(TILE, row.classes - k), memory.below + k * memory.item
    place(zero, below, memory.starts, memory.weights, table.limit, table.shift, table.length, row.first, size)
    return size


@njit(**SUMS)
def _sum(zero, memory, table, row, values, gains, sums):
    """The sums over the classes of a table at the nodes, times the gains if there are any."""
    nodes = array(sums, 8 * row.vectors, 0.0)
    nodes[:] = 0.0
    for k in range(0, row.classes, TILE):
        size, taps = _place(zero, memory, table, row, k), memory.weights
        if gains:
            taps, whole = memory.scaled, (memory.scaled - memory.weights) // memory.item
            one, two = array(memory.weights, whole, zero), array(memory.scaled, whole, zero)
            few = array(gains + k * memory.item, size, zero)
            for i in range(0, whole, TILE):
                for c in range(size):
                    two[i + c] = one[i + c] * few[c]
        accumulate(zero, values, table.length, memory.starts, taps, size, row.vectors, sums)


@njit(**SUMS)
def _dot(zero, memory, table, row, values, factors, results):
    """The sum over the nodes of factor times a table, for each class; a short row is in place."""
    for k in range(0, row.classes, TILE):
        size = _place(zero, memory, table, row, k) if row.classes > TILE else row.classes
        here, lanes = results + k * memory.item, memory.lanes
        dots(zero, values, table.length, memory.starts, memory.weights, size, row.vectors, factors, lanes, here)


@njit(**SUMS)
def _left(sums, rest):
    """What the sum of 1 - exp(-S) leaves out on the right, and the derivative of its second order in the last S.

    The first order is known as a combination of the last S. In the second, S falls geometrically.
    """
    nodes, left = sums.size, 0.0
    for i in range(LAST):
        left += rest[i] * sums[nodes - 1 - i]
    last, ratio = sums[nodes - 1], sums[nodes - 1] / sums[nodes - 2]
    square = ratio * ratio / (1.0 - ratio * ratio)
    return left - 0.5 * square * last * last, square * last


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
    nodes = 8 * row.vectors
    _sum(zero, memory, table, row, table.exponent, 0, memory.sums)
    (product,) = chances(zero, memory.sums, row.vectors, memory.factors)
    rest = array(table.rest, LAST, 0.0)
    left, second = _left(array(memory.sums, nodes, 0.0), rest)
    results[0] = table.start + table.step * (_f64(row.first + nodes) - 0.5 + left - product)
    if not p.size:
        return
    factors = array(memory.factors, nodes, zero)
    for i in range(LAST):
        factors[nodes - 1 - i] += kind(rest[i])
    factors[nodes - 1] -= kind(second)
    for n in range(nodes):
        factors[n] *= kind(table.step)
    _dot(zero, memory, table, row, table.hazard, memory.factors, probabilities)
    if row.possible == 1.0:
        below = array(memory.below, classes, zero)
        for k in range(classes):
            p[k] = kind(1.0) if below[k] == kind(0.0) else kind(0.0)
    if drift:
        _sum(zero, memory, table, row, drift, 0, memory.others)
        others, b, m = array(memory.others, nodes, 0.0), array(memory.wide, classes, 0.0), array(locations, classes, zero)
        for n in range(nodes):
            results[4] += others[n] * _f64(factors[n])
        for k in range(classes):
            if b[k] > -np.inf:
                results[5] += _f64(p[k]) * b[k]
                results[6] += _f64(p[k]) * _f64(m[k])
            if m[k] > kind(-np.inf):
                results[7] += _f64(m[k])


@njit(**SUMS)
def _probabilities_backward(zero, memory, table, row, gradient, out):
    kind, classes, nodes = type(zero), row.classes, 8 * row.vectors
    g, found = array(gradient, classes, zero), array(out, classes, zero)
    if row.vectors == 0:
        found[:] = kind(np.nan)
        return
    _sum(zero, memory, table, row, table.exponent, 0, memory.sums)
    chances(zero, memory.sums, row.vectors, memory.factors)
    sums, others = array(memory.sums, nodes, 0.0), array(memory.others, nodes, 0.0)
    factors, weights = array(memory.factors, nodes, zero), array(memory.chances, nodes, zero)
    ratio = sums[nodes - 1] / sums[nodes - 2]
    factors[nodes - 1] /= kind(1.0 - ratio * ratio)  # D of two classes falls geometrically
    scale = table.step * table.rate * table.step / _f64(_i64(1) << table.shift)
    _sum(zero, memory, table, row, table.hazard, gradient, memory.others)
    for n in range(nodes):
        weights[n] = factors[n] * kind(others[n] * scale)
    _sum(zero, memory, table, row, table.hazard, 0, memory.sums)
    for n in range(nodes):
        factors[n] *= kind(sums[n] * scale)
    _dot(zero, memory, table, row, table.hazard, memory.chances, out)
    _dot(zero, memory, table, row, table.hazard, memory.factors, memory.wide)
    own = array(memory.wide, classes, zero)
    for k in range(classes):
        found[k] = g[k] * own[k] - found[k]


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
    rest, windows = here[12] + 8 * LAST * t, here[13] + 8 * (4 * room + 5) * t
    exponent, hazard = here[14] + move, here[15] + move
    return _Table(step, start, shift, length, limit, room, rates[t], decays[t], rest, windows, exponent, hazard)


@njit(**SUMS)
def _room(here, classes):
    """The memory of a thread, and where its parts begin."""
    item, nodes, taps = here[0], here[6], TILE * (_SINGLE if here[0] == 4 else _DOUBLE)
    padded = classes + 8
    sizes = np.array([8 * padded, item * padded, 4 * TILE, item * taps, item * taps, 8 * item * TILE, 8 * nodes, 8 * nodes, item * nodes, item * nodes])
    places = np.zeros(sizes.size + 1, _i64)
    for i in range(sizes.size):
        places[i + 1] = places[i] + (sizes[i] + 63) // 64 * 64
    room = np.empty(places[-1] + 64, np.uint8)
    p = places + (room.ctypes.data + 63) // 64 * 64
    return room, _Memory(item, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9])


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
            _expected(zero, memory, table, row, locations, probabilities, drifts, results[STRIDE * r : STRIDE * (r + 1)])
        first, last = next_piece(pointer)
    room[0] = 0  # it lives until here


@njit(**SUMS)
def _probabilities_backward_pieces(pointer, zero):
    """Further arguments: locations, gradient and out."""
    work = job(pointer, _SHARED + 3)
    rows, classes, here = work[2], work[3], work[HEADER:]
    room, memory = _room(here, classes)
    tables, item = here[9], here[0]
    first, last = next_piece(pointer)
    while first < last:
        for r in range(first, last):
            table, base = _table(here, r * tables // rows), item * r * classes
            row = _survey(zero, memory, table, here[16] + base, 0, 0.0, classes, (rows - r) * classes)
            _probabilities_backward(zero, memory, table, row, here[17] + base, here[18] + base)
        first, last = next_piece(pointer)
    room[0] = 0  # it lives until here


def _expected_single(pointer):
    _expected_pieces(pointer, _f32(0))


def _expected_double(pointer):
    _expected_pieces(pointer, _f64(0))


@lru_cache
def expected_body(dtype: torch.dtype) -> Any:
    """The compiled expected maximum and choice probabilities of a dtype, for `parallel.run`."""
    return cfunc(SIGNATURE, cache=True)(_expected_double if dtype == torch.float64 else _expected_single)


def _probabilities_backward_single(pointer):
    _probabilities_backward_pieces(pointer, _f32(0))


def _probabilities_backward_double(pointer):
    _probabilities_backward_pieces(pointer, _f64(0))


@lru_cache
def probabilities_backward_body(dtype: torch.dtype) -> Any:
    """The derivative of the probabilities along a gradient."""
    double = dtype == torch.float64
    return cfunc(SIGNATURE, cache=True)(_probabilities_backward_double if double else _probabilities_backward_single)
