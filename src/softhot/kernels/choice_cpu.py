r"""Discrete choices on the CPU, row by row, compiled by Numba.

The nodes of a row are equally spaced, and so is the table, `phases` times as densely. The interpolation of one class
therefore has the same few weights at every node, and its values at all nodes are a weighted sum of contiguous slices of
the table, which is stored phase by phase. A thread needs the memory of the nodes and of one row, whatever the number of
rows.

With :math:`S_i = \sum_k A(x_i - m_k)` at node i and :math:`\Pi_i = e^{-S_i}`, the expected maximum is a sum of the
:math:`\Pi_i`, and the probability of class k the sum of :math:`\Pi_i D(x_i - m_k)`; see `softhot.kernels.choice`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import cfunc, njit, types
from numba.extending import overload

from softhot.kernels.choice_reference import EULER
from softhot.kernels.choice_tables import STRIDE
from softhot.kernels.compiled import (
    FAST,
    SIGNATURE,
    SUMS,
    TILE,
    add_slices,
    array,
    bits,
    dot_slices,
    exp,
    job,
    next_piece,
)
from softhot.kernels.parallel import HEADER

__all__ = ["expected_body", "probabilities_backward_body"]

_i32, _i64, _u64, _f32, _f64 = np.int32, np.int64, np.uint64, np.float32, np.float64


# ---- slices of a table ---------------------------------------------------------------------------------------------


@njit(forceinline=True, **FAST)
def _start(cell, shift, length):
    """Where the slice of a table begins that starts at a cell."""
    return _i32(_i32(_i32(cell & _i32((1 << shift) - 1)) * length) + _i32(cell >> shift))


def _weights(weights, x, near): ...


@overload(_weights, jit_options=SUMS)
def _weights_of(weights, x, near):
    """Weights of Lagrange interpolation at fractions x of a cell: on -1, ..., 2, or -2, ..., 3; zero if not near."""

    def single(weights, x, near):
        one, two, three, four = (
            weights[:TILE],
            weights[TILE : 2 * TILE],
            weights[2 * TILE : 3 * TILE],
            weights[3 * TILE :],
        )
        for c in range(x.size):
            one[c] = -x[c] * (x[c] - _f32(1)) * (x[c] - _f32(2)) * _f32(1 / 6) * near[c]
        for c in range(x.size):
            two[c] = (x[c] + _f32(1)) * (x[c] - _f32(1)) * (x[c] - _f32(2)) * _f32(1 / 2) * near[c]
        for c in range(x.size):
            three[c] = -(x[c] + _f32(1)) * x[c] * (x[c] - _f32(2)) * _f32(1 / 2) * near[c]
        for c in range(x.size):
            four[c] = (x[c] + _f32(1)) * x[c] * (x[c] - _f32(1)) * _f32(1 / 6) * near[c]

    def double(weights, x, near):
        for c in range(_u64(x.size)):
            y, f = x[c], near[c]
            p, a, b, d, e = y + 2.0, y + 1.0, y - 1.0, y - 2.0, y - 3.0
            weights[c], weights[c + _u64(TILE)] = -a * y * b * d * e * f / 120.0, p * y * b * d * e * f / 24.0
            weights[c + _u64(2 * TILE)] = -p * a * b * d * e * f / 12.0
            weights[c + _u64(3 * TILE)] = p * a * y * d * e * f / 12.0
            weights[c + _u64(4 * TILE)] = -p * a * y * b * e * f / 24.0
            weights[c + _u64(5 * TILE)] = p * a * y * b * d * f / 120.0

    return single if weights.dtype == types.float32 else double


@njit(**SUMS)
def _lent(room, start, size):
    """A part of an array that does not count who holds it, which takes longer than a short row. See that it lives."""
    return array(room.ctypes.data + room.itemsize * start, size, room.dtype.type(0))


@njit(**SUMS)
def _taps_in(room, whole):
    """Room for a tile of classes: where the slices start, their weights, and what those are made of."""
    count = (4 if room.itemsize == 4 else 6) * TILE
    starts, cells = _lent(whole, 0, count), _lent(whole, count, TILE)
    return starts, _lent(room, 0, count), cells, _lent(room, count, TILE), _lent(room, count + TILE, TILE)


@njit(**SUMS)
def _place(taps, below, limit, shift, length, first):
    """The taps of a tile of classes; those beyond the limit count for nothing."""
    starts, weights, cells, x, near = taps
    kind, size = weights.dtype.type, below.size
    for c in range(size):
        inside = below[c] <= limit
        place = below[c] if inside else kind(0)
        cell = _i32(place)
        cells[c], x[c], near[c] = cell, place - kind(cell), kind(1) if inside else kind(0)
    _weights(weights, x[:size], near)
    shift, length, first = _i32(shift), _i32(length), _i32(first)
    for i in range(weights.size // TILE):
        part, tap = starts[i * TILE : (i + 1) * TILE], _i32(i)
        for c in range(size):
            part[c] = _i32(_start(_i32(cells[c] + tap), shift, length) + first)


# ---- a row ---------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _survey(locations, other, ratio, rate, base, below, distance):
    """How far each class is below the largest, in points of the table; infinite for an impossible one.

    Returns the largest location, NaN if one is; the sum; how many are possible, and whether for both alike. The
    locations are m, or b = other - ratio * m.
    """
    total, count, unlike, top = 0.0, 0, 0, -np.inf
    for k in range(_u64(below.size)):
        m = _f64(locations[base + k])
        if other.size:
            o = _f64(other[base + k])
            unlike += (m == -np.inf) != (o == -np.inf)
            m = -np.inf if m == -np.inf or o == -np.inf else o - ratio * m
        possible = m != -np.inf
        total += m if possible else 0.0
        count += possible
        top = m if m > top else top
        below[k] = m
    top = top if total == total else np.nan
    for k in range(below.size):
        distance[k] = distance.dtype.type((top - below[k]) * rate)
    return top, total, count, unlike == 0


@njit(**SUMS)
def _window(below, exponent, shift, length, nodes, step, tail):
    """The nodes that count in this row: the first and, a multiple of eight, their number.

    On their left the product of the CDFs has vanished, on their right it is one. How many classes are how far below the
    largest gives the bounds of S that tell.
    """
    kind, unit = exponent.dtype.type, _f64(_i64(1) << _i64(shift)) / step
    near, far, remote = kind(0), kind(0), kind(0)
    one, two, four = kind(unit), kind(2 * unit), kind(4 * unit)
    for k in range(below.size):
        near += kind(1) if below[k] <= one else kind(0)
        far += kind(1) if below[k] <= two else kind(0)
        remote += kind(1) if below[k] <= four else kind(0)
    remote, far, rest = remote - far, far - near, kind(below.size) - remote
    here, s, length = _i32(exponent.itemsize // 4), _i32(shift), _i32(length)  # in the middle of the table's margin
    a, b = exponent[_start(here, s, length) :], exponent[_start(_i32(here + _i32(unit)), s, length) :]
    c, d = (
        exponent[_start(_i32(here + _i32(2 * unit)), s, length) :],
        exponent[_start(_i32(here + _i32(4 * unit)), s, length) :],
    )
    much, little = kind(tail), kind(np.exp(-tail))
    before, until = kind(0), kind(0)
    for n in range(nodes):
        before += kind(1) if near * b[n] + far * c[n] + remote * d[n] >= much else kind(0)
    for n in range(nodes):
        until += kind(1) if near * a[n] + far * b[n] + remote * c[n] + rest * d[n] > little else kind(0)
    first = max(_i64(before) - 1, 0)
    vectors = (_i64(until) - first + 8) // 8
    if exponent.itemsize == 4:  # threes and fives
        vectors = max(vectors + (vectors == 4 or vectors == 7), 3)
    count = min(8 * vectors, nodes)
    return _u64(min(first, nodes - count)), _u64(count)


@njit(**SUMS)
def _accumulate(sums, wide, below, factors, limit, table, shift, length, first, taps):
    """The sums over the classes, at all nodes, of the table seen from each, times its factor if there are any."""
    starts, weights, _, _, _ = taps
    wide[:] = 0.0
    for k in range(0, below.size, TILE):
        tile = below[k : k + TILE]
        _place(taps, tile, limit, shift, length, first)
        if factors.size:
            for i in range(_u64(weights.size // TILE)):
                for c in range(_u64(tile.size)):
                    weights[i * _u64(TILE) + c] *= factors[_u64(k) + c]
        sums[:] = 0
        add_slices(sums, table, starts, weights, tile.size)
        for n in range(wide.size):
            wide[n] += _f64(sums[n])


@njit(**SUMS)
def _expected(
    locations,
    other,
    ratio,
    rate,
    base,
    step,
    limit,
    tail,
    gumbel,
    exponent,
    hazard,
    drift,
    shift,
    length,
    nodes,
    wide_below,
    below,
    sums,
    wide,
    taps,
    probabilities,
    results,
):
    """Fill results: E[max] beyond the largest location, in units of the wider noise; the largest location; sum; count;
    the derivative of the first in the scale, locations fixed; the mean of the locations, and of m where there is other.
    """
    kind = exponent.dtype.type
    top, total, count, alike = _survey(locations, other, ratio, rate, base, wide_below, below)
    results[:] = 0.0
    results[1], results[2], results[3] = top, total, count
    if not alike or not (top > -np.inf) or not (top < np.inf):
        if not alike:
            results[0], results[1], results[3] = np.inf, 0.0, max(count, 1)
        for k in range(probabilities.size):
            probabilities[k] = kind(np.nan) if alike else kind(1) / kind(max(count, 1))
        return
    first, size = _window(below, exponent, shift, length, nodes, step, tail)
    sums, wide = sums[:size], wide[:size]
    _accumulate(sums, wide, below, sums[:0], limit, exponent, shift, length, first, taps)
    product = 0.0
    for n in range(sums.size):
        sums[n] = exp(kind(-wide[n]))
    for n in range(sums.size):
        product += _f64(sums[n])
        sums[n] *= kind(step)
    results[0] = EULER + step * (gumbel - product - _f64(_u64(nodes) - first - size))
    starts, weights, _, _, _ = taps
    for k in range(0, probabilities.size, TILE):
        tile, part = below[k : k + TILE], probabilities[k : k + TILE]
        if below.size > TILE:  # otherwise it is in place
            _place(taps, tile, limit, shift, length, first)
        part[:] = 0
        dot_slices(sums, hazard, starts, weights, part, tile.size)
    if count == 1:
        for k in range(probabilities.size):
            probabilities[k] = kind(1) if below[k] == 0 else kind(0)
    for k in range(0, drift.size and below.size, TILE):
        tile = below[k : k + TILE]
        _place(taps, tile, limit, shift, length, first)
        moved = np.zeros(TILE, exponent.dtype)
        dot_slices(sums, drift, starts, weights, moved, tile.size)
        for c in range(tile.size):
            p, m = _f64(probabilities[k + c]), _f64(locations[base + _u64(k + c)])
            results[4] += _f64(moved[c])
            if m != -np.inf:
                results[7] += m
            if tile[c] <= limit:
                results[5] += p * (top - tile[c] / rate)
                results[6] += p * m


@njit(**SUMS)
def _probabilities_backward(
    locations,
    gradient,
    rate,
    base,
    step,
    limit,
    tail,
    exponent,
    hazard,
    bend,
    shift,
    length,
    nodes,
    wide_below,
    below,
    sums,
    wide,
    product,
    along,
    taps,
    out,
):
    kind = exponent.dtype.type
    top, _, _, _ = _survey(locations, locations[:0], 0.0, rate, base, wide_below, below)
    if not (top > -np.inf) or not (top < np.inf):
        out[:] = kind(np.nan)
        return
    first, size = _window(below, exponent, shift, length, nodes, step, tail)
    sums, wide, product = sums[:size], wide[:size], product[:size]
    _accumulate(sums, wide, below, sums[:0], limit, exponent, shift, length, first, taps)
    narrow = kind(step * step * rate / _f64(_i64(1) << _i64(shift)))
    for n in range(sums.size):
        product[n] = exp(kind(-wide[n])) * narrow
    _accumulate(sums, wide, below, gradient, limit, hazard, shift, length, first, taps)
    for n in range(sums.size):
        sums[n] = product[n] * kind(wide[n])
    starts, weights, _, _, _ = taps
    for k in range(0, below.size, TILE):
        tile, part = below[k : k + TILE], out[k : k + TILE]
        _place(taps, tile, limit, shift, length, first)
        part[:] = 0
        along[:] = 0
        dot_slices(sums, hazard, starts, weights, part, tile.size)
        dot_slices(product, bend, starts, weights, along, tile.size)
        for c in range(tile.size):
            part[c] = -along[c] * gradient[k + c] - part[c]


# ---- jobs ----------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _rooms(kind, nodes, classes):
    """The working memory of a thread: a few times the nodes, and one row."""
    return np.empty(2 * nodes + classes + 9 * TILE, kind), np.empty(nodes + classes, _f64), np.empty(7 * TILE, _i32)


@njit(**SUMS)
def _lend(room, double, whole, nodes, classes):
    """Sums at the nodes in the table's dtype and in double, distances of the classes in both, and the taps."""
    here = nodes + TILE
    sums, below = _lent(room, here, nodes), _lent(room, here + nodes, classes)
    taps = _taps_in(room[here + nodes + classes :], whole)
    return sums, _lent(double, 0, nodes), below, _lent(double, nodes, classes), taps


@njit(**SUMS)
def _alive(room, double, whole):
    room[0], double[0], whole[0] = 0, 0, 0


@njit(**SUMS)
def _expected_pieces(pointer, zero):
    """Arguments: step, phases as a power of two, length of a phase, nodes, number of tables; locations, other, ratios,
    rates, limit, tail, exponent, hazard, drift, gumbel; probabilities and results.
    """
    work = job(pointer, 17)
    rows, classes, here = work[2], work[3], work[HEADER:]
    step, shift, length, nodes, tables = bits(here[0]), _u64(here[1]), _u64(here[2]), here[3], here[4]
    size, entries, each = rows * classes, _i64(length) << here[1], rows // tables
    locations, other = array(here[5], size, zero), array(here[6], size, zero)
    ratios, rates = array(here[7], tables, 0.0), array(here[8], tables, 0.0)
    limit, tail, gumbel = bits(here[9]), bits(here[10]), bits(here[14])
    exponents, hazards = array(here[11], tables * entries, zero), array(here[12], tables * entries, zero)
    drifts = array(here[13], tables * entries, zero)
    probabilities, results = array(here[15], size, zero), array(here[16], rows * STRIDE, 0.0)
    room, double, whole = _rooms(exponents.dtype, nodes, classes)
    sums, wide, below, wide_below, taps = _lend(room, double, whole, nodes, classes)
    first, last = next_piece(pointer)
    while first < last:
        for r in range(first, last):
            t = r // each
            part, row = slice(t * entries, (t + 1) * entries), slice(r * classes, (r + 1) * classes)
            _expected(
                locations,
                other,
                ratios[t],
                rates[t],
                _u64(r * classes),
                step,
                limit,
                tail,
                gumbel,
                exponents[part],
                hazards[part] if hazards.size else hazards,
                drifts[part] if drifts.size else drifts,
                shift,
                length,
                nodes,
                wide_below,
                below,
                sums,
                wide,
                taps,
                probabilities[row] if probabilities.size else probabilities,
                results[STRIDE * r : STRIDE * (r + 1)],
            )
        first, last = next_piece(pointer)
    _alive(room, double, whole)


@njit(**SUMS)
def _probabilities_backward_pieces(pointer, zero):
    """Arguments: step, phases as a power of two, length of a phase, nodes, number of tables; locations, rates, limit,
    tail, exponent, hazard, bend; gradient and out.
    """
    work = job(pointer, 14)
    rows, classes, here = work[2], work[3], work[HEADER:]
    step, shift, length, nodes, tables = bits(here[0]), _u64(here[1]), _u64(here[2]), here[3], here[4]
    size, entries, each = rows * classes, _i64(length) << here[1], rows // tables
    locations, rates, limit = array(here[5], size, zero), array(here[6], tables, 0.0), bits(here[7])
    exponents, hazards = array(here[9], tables * entries, zero), array(here[10], tables * entries, zero)
    bends, tail = array(here[11], tables * entries, zero), bits(here[8])
    gradient, out = array(here[12], size, zero), array(here[13], size, zero)
    room, double, whole = _rooms(exponents.dtype, nodes, classes)
    sums, wide, below, wide_below, taps = _lend(room, double, whole, nodes, classes)
    product, along = _lent(room, 0, nodes), _lent(room, nodes, TILE)
    first, last = next_piece(pointer)
    while first < last:
        for r in range(first, last):
            t = r // each
            part, row = slice(t * entries, (t + 1) * entries), slice(r * classes, (r + 1) * classes)
            _probabilities_backward(
                locations,
                gradient[row],
                rates[t],
                _u64(r * classes),
                step,
                limit,
                tail,
                exponents[part],
                hazards[part],
                bends[part],
                shift,
                length,
                nodes,
                wide_below,
                below,
                sums,
                wide,
                product,
                along,
                taps,
                out[row],
            )
        first, last = next_piece(pointer)
    _alive(room, double, whole)


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
