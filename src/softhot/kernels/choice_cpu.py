r"""Discrete choices on the CPU, row by row, compiled by Numba.

The nodes of a row are equally spaced, and so is the table, `phases` times as densely. The interpolation of one class
therefore has the same few weights at every node, and its values at all nodes are a weighted sum of contiguous slices of
the table, which is stored phase by phase. A row needs the memory of its nodes and nothing else, for any number of
classes.

With :math:`S_i = \sum_k A(x_i - m_k)` at node i and :math:`\Pi_i = e^{-S_i}`, the expected maximum is a sum of the
:math:`\Pi_i`, and the probability of class k the sum of :math:`\Pi_i D(x_i - m_k)`; see `softhot.kernels.choice`.
"""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import cfunc, njit, types
from numba.extending import overload

from softhot.kernels.compiled import FAST, SIGNATURE, SUMS, add_slices, array, bits, dot_slices, exp, job, next_piece
from softhot.kernels.parallel import HEADER

__all__ = ["expected_body", "probabilities_backward_body"]

_i64, _u64, _f32, _f64 = np.int64, np.uint64, np.float32, np.float64
_EULER = 0.5772156649015329
_CLASSES = 32  # summed in the dtype of the table before they are added to a sum in double precision


# ---- slices of a table ---------------------------------------------------------------------------------------------


@njit(forceinline=True, **FAST)
def _start(cell, shift, length):
    """Where the slice of a table begins that starts at a cell."""
    return (cell & ((_u64(1) << shift) - _u64(1))) * length + (cell >> shift)


def _taps(table, cell, x, scale, shift, length, first): ...


@overload(_taps, jit_options={"forceinline": True, **FAST})
def _taps_of(table, cell, x, scale, shift, length, first):
    """Slices and weights of Lagrange interpolation at the fraction x of a cell: on -1, ..., 2, or -2, ..., 3."""

    def single(table, cell, x, scale, shift, length, first):
        a, b, c = x + _f32(1), x - _f32(1), x - _f32(2)
        p, q = a * c * scale * _f32(0.5), x * b * scale * _f32(1 / 6)
        starts = (
            _start(cell, shift, length) + first,
            _start(cell + _u64(1), shift, length) + first,
            _start(cell + _u64(2), shift, length) + first,
            _start(cell + _u64(3), shift, length) + first,
        )
        return starts, (-q * c, p * b, -p * x, q * a)

    def double(table, cell, x, scale, shift, length, first):
        p, a, b, c, d = x + 2.0, x + 1.0, x - 1.0, x - 2.0, x - 3.0
        starts = (
            _start(cell, shift, length) + first,
            _start(cell + _u64(1), shift, length) + first,
            _start(cell + _u64(2), shift, length) + first,
            _start(cell + _u64(3), shift, length) + first,
            _start(cell + _u64(4), shift, length) + first,
            _start(cell + _u64(5), shift, length) + first,
        )
        weights = (
            -a * x * b * c * d * scale / 120.0,
            p * x * b * c * d * scale / 24.0,
            -p * a * b * c * d * scale / 12.0,
            p * a * x * c * d * scale / 12.0,
            -p * a * x * b * d * scale / 24.0,
            p * a * x * b * c * scale / 120.0,
        )
        return starts, weights

    return single if table.dtype == types.float32 else double


@njit(forceinline=True, **FAST)
def _add(sums, table, cell, x, scale, shift, length, first):
    """Add `scale` times the table, seen from a cell and the fraction x of the next, to the sums at the nodes."""
    starts, weights = _taps(table, cell, x, scale, shift, length, first)
    add_slices(sums, table, starts, weights)


@njit(forceinline=True, **FAST)
def _dot(factors, table, cell, x, shift, length, first):
    """The sum over the nodes of the factors times the table, seen from there."""
    starts, weights = _taps(table, cell, x, table.dtype.type(1), shift, length, first)
    return dot_slices(factors, table, starts, weights)


# ---- a row ---------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _survey(locations, other, ratio, rate, base, below):
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
        below[k] = (top - below[k]) * rate
    return top, total, count, unlike == 0


@njit(**SUMS)
def _window(below, exponent, shift, length, nodes, step, tail):
    """The nodes that count in this row: the first and, a multiple of eight, their number.

    On their left the product of the CDFs has vanished, on their right it is one. How many classes are how far below the
    largest gives the bounds of S that tell.
    """
    unit = _f64(_i64(1) << _i64(shift)) / step
    near, far, remote = 0, 0, 0
    for k in range(below.size):
        near += below[k] <= unit
        far += below[k] <= 2 * unit
        remote += below[k] <= 4 * unit
    kind = exponent.dtype.type
    one, two, four, rest = kind(near), kind(far - near), kind(remote - far), kind(below.size - remote)
    here = _u64(exponent.itemsize // 4)  # the table itself, in the middle of its margin
    a, b = _start(here, shift, length), _start(here + _u64(unit), shift, length)
    c, d = _start(here + _u64(2 * unit), shift, length), _start(here + _u64(4 * unit), shift, length)
    much, little = kind(tail), kind(np.exp(-tail))
    before, until = 0, 0
    for n in range(_u64(nodes)):
        least = one * exponent[b + n] + two * exponent[c + n] + four * exponent[d + n]
        most = one * exponent[a + n] + two * exponent[b + n] + four * exponent[c + n] + rest * exponent[d + n]
        before += least >= much
        until += most > little
    first = max(before - 1, 0)
    count = min((until - first + 8) // 8 * 8, nodes)
    return _u64(min(first, nodes - count)), _u64(count)


@njit(**SUMS)
def _accumulate(sums, wide, below, factors, limit, table, shift, length, first):
    """The sums over the classes, at all nodes, of the table seen from each, times its factor if there are any."""
    zero, factor = table.dtype.type(0), table.dtype.type(1)
    wide[:] = 0.0
    k, classes = _u64(0), _u64(below.size)
    while k < classes:
        stop = min(k + _u64(_CLASSES), classes)
        sums[:] = zero
        while k < stop:
            if below[k] <= limit:
                cell = _u64(below[k])
                if factors.size:
                    factor = factors[k]
                _add(sums, table, cell, table.dtype.type(below[k] - _f64(cell)), factor, shift, length, first)
            k += _u64(1)
        for n in range(wide.size):
            wide[n] += _f64(sums[n])


@njit(**SUMS)
def _expected(
    locations, other, ratio, rate, base, step, limit, tail, gumbel, exponent, hazard, drift, shift, length, nodes,
    below, sums, wide, probabilities, results,
):
    """Fill results: E[max] beyond the largest location, in units of the wider noise; the largest location; sum; count;
    the derivative of the first in the scale, locations fixed; the mean of the locations, and of m where there is other.
    """
    kind = exponent.dtype.type
    top, total, count, alike = _survey(locations, other, ratio, rate, base, below)
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
    _accumulate(sums, wide, below, sums[:0], limit, exponent, shift, length, first)
    product = 0.0
    for n in range(sums.size):
        sums[n] = exp(kind(-wide[n]))
    for n in range(sums.size):
        product += _f64(sums[n])
        sums[n] *= kind(step)
    results[0] = _EULER + step * (gumbel - product - _f64(_u64(nodes) - first - size))
    for k in range(_u64(probabilities.size)):
        p, m = kind(0), _f64(locations[base + k])
        if below[k] <= limit:
            cell = _u64(below[k])
            x = kind(below[k] - _f64(cell))
            p = _dot(sums, hazard, cell, x, shift, length, first)
            if drift.size:
                results[4] += _f64(_dot(sums, drift, cell, x, shift, length, first))
                results[5] += _f64(p) * (top - below[k] / rate)
                results[6] += _f64(p) * m
        probabilities[k] = p if count > 1 or below[k] > 0 else kind(1)
        if drift.size and m != -np.inf:
            results[7] += m


@njit(**SUMS)
def _probabilities_backward(
    locations, gradient, rate, base, step, limit, tail, exponent, hazard, bend, shift, length, nodes,
    below, sums, wide, product, out,
):
    kind = exponent.dtype.type
    top, _, _, _ = _survey(locations, locations[:0], 0.0, rate, base, below)
    if not (top > -np.inf) or not (top < np.inf):
        out[:] = kind(np.nan)
        return
    first, size = _window(below, exponent, shift, length, nodes, step, tail)
    sums, wide, product = sums[:size], wide[:size], product[:size]
    _accumulate(sums, wide, below, sums[:0], limit, exponent, shift, length, first)
    narrow = kind(step * step * rate / _f64(_i64(1) << _i64(shift)))
    for n in range(sums.size):
        product[n] = exp(kind(-wide[n])) * narrow
    _accumulate(sums, wide, below, gradient, limit, hazard, shift, length, first)
    for n in range(sums.size):
        sums[n] = product[n] * kind(wide[n])
    for k in range(_u64(below.size)):
        out[k] = kind(0)
        if below[k] <= limit:
            cell = _u64(below[k])
            x = kind(below[k] - _f64(cell))
            along = _dot(product, bend, cell, x, shift, length, first) * gradient[k]
            out[k] = -along - _dot(sums, hazard, cell, x, shift, length, first)


# ---- jobs ----------------------------------------------------------------------------------------------------------


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
    probabilities, results = array(here[15], size, zero), array(here[16], rows * 8, 0.0)
    sums, wide, below = np.empty(nodes, exponents.dtype), np.empty(nodes, _f64), np.empty(classes, _f64)
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
                below,
                sums,
                wide,
                probabilities[row] if probabilities.size else probabilities,
                results[8 * r : 8 * r + 8],
            )
        first, last = next_piece(pointer)


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
    sums, wide, below = np.empty(nodes, exponents.dtype), np.empty(nodes, _f64), np.empty(classes, _f64)
    product = np.empty(nodes, exponents.dtype)
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
                below,
                sums,
                wide,
                product,
                out[row],
            )
        first, last = next_piece(pointer)


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
