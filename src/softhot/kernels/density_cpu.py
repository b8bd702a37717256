"""The log-density of relaxed one-hot variables and its gradient on the CPU: one pass each, compiled by Numba.

Blocks of short rows take their exponentials at once, as in the sampler. Sums are of double precision. A row with an
impossible class, a point on the boundary or a NaN, which its sums show, goes another way, slower and in double
precision throughout.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from softhot.kernels.compiled import SUMS, array, body, exp, job, next_piece, of_rows
from softhot.kernels.parallel import HEADER
from softhot.kernels.sampler_cpu import highest

__all__ = ["backward_body", "forward_body"]

_u64, _f32, _f64 = np.uint64, np.float32, np.float64
_BLOCK = 1024  # elements whose exponentials are taken at once, or more where a row is longer


# ---- rows ----------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _scores(scores, y, x, temperatures, start, classes):
    for r in range(scores.size // classes):
        base, t = _u64(r) * classes, temperatures[start + r if temperatures.size > 1 else 0]
        for k in range(classes):
            scores[base + k] = x[base + k] - t * y[base + k]


@njit(**SUMS)
def _forward(points, logits, temperatures, value, normaliser, classes, first, last):
    """The log-densities of rows, and the logsumexp of their scores: NaN for those that go the other way."""
    rows, count = max(1, _BLOCK // classes), _u64(classes)
    scores, top = np.empty(rows * classes, points.dtype), np.empty(rows, points.dtype)
    constant = math.lgamma(classes)
    for start in range(first, last, rows):
        stop = min(start + rows, last)
        y, x = points[start * classes : stop * classes], logits[start * classes : stop * classes]
        s = scores[: y.size]
        _scores(s, y, x, temperatures, start, count)
        for r in range(stop - start):
            base = _u64(r) * count
            top[r] = highest(s, base, count)
            for k in range(count):
                s[base + k] -= top[r]
        for i in range(s.size):
            s[i] = exp(s[i])
        for r in range(stop - start):
            base, t = _u64(r) * count, _f64(temperatures[start + r if temperatures.size > 1 else 0])
            total, in_logits, in_points = _f64(0), _f64(0), _f64(0)
            for k in range(count):
                total += _f64(s[base + k])
                in_logits += _f64(x[base + k])
                in_points += _f64(y[base + k])
            lse = _f64(top[r]) + math.log(total)
            found = constant + (classes - 1) * math.log(t) + in_logits - (t + 1) * in_points - classes * lse
            if not abs(found) < np.inf:
                found, _ = _unusual(s, y, x, t, base, count)
                lse = np.nan
            value[start + r] = found
            if normaliser.size:
                normaliser[start + r] = lse


@njit(**SUMS)
def _backward(points, logits, temperatures, normaliser, gradient, by_point, by_logit, by_heat, classes, first, last):
    """The gradients that are wanted: the others are empty."""
    rows, count, one = max(1, _BLOCK // classes), _u64(classes), points.dtype.type(1)
    weights = np.empty(rows * classes, points.dtype)
    for start in range(first, last, rows):
        stop = min(start + rows, last)
        y, x = points[start * classes : stop * classes], logits[start * classes : stop * classes]
        w = weights[: y.size]
        _scores(w, y, x, temperatures, start, count)
        for r in range(stop - start):
            base, shift = _u64(r) * count, points.dtype.type(normaliser[start + r])
            for k in range(count):
                w[base + k] -= shift
        for i in range(w.size):
            w[i] = exp(w[i])
        for r in range(stop - start):
            base, to = _u64(r) * count, _u64(start + r) * count
            h, t = gradient[start + r], temperatures[start + r if temperatures.size > 1 else 0]
            possible, usual = classes, normaliser[start + r] == normaliser[start + r]
            if not usual:
                found, possible = _unusual(w, y, x, _f64(t), base, count)
                h = h * points.dtype.type(not np.isinf(found))
            each = points.dtype.type(possible) * h
            if by_logit.size:
                for k in range(count):
                    by_logit[to + k] = h - each * w[base + k]
            if by_point.size:
                for k in range(count):
                    by_point[to + k] = each * t * w[base + k] - (t + one) * h
            if by_heat.size:
                mean, total = _f64(0), _f64(0)
                for k in range(count):
                    counts = usual or (x[base + k] != -np.inf and y[base + k] != -np.inf)
                    mean += _f64(w[base + k] * y[base + k]) if counts else _f64(0)
                    total += _f64(y[base + k]) if counts else _f64(0)
                by_heat[start + r] = _f64(h) * ((possible - 1) / _f64(t) - total + possible * mean)
            if not usual:
                for k in range(count):
                    if by_logit.size and x[base + k] == -np.inf:
                        by_logit[to + k] = 0
                    if by_point.size and (x[base + k] == -np.inf or y[base + k] == -np.inf):
                        by_point[to + k] = 0


@njit(**SUMS)
def _unusual(weights, y, x, t, base, classes):
    """The log-density of a row of any kind, and how many classes are possible.

    On the boundary, where entries vanish, their exponentials dominate the sum over the classes: each class has its
    weight in that sum.
    """
    possible, vanishing, outside, total = 0, 0, False, _f64(0)
    for k in range(classes):
        alive, zero = x[base + k] != -np.inf, y[base + k] == -np.inf
        possible += alive
        vanishing += alive and zero
        outside = outside or not (alive or zero)
    top = -np.inf
    for turn in range(3):
        for k in range(classes):
            zero = y[base + k] == -np.inf
            score = -np.inf if vanishing and not zero else _f64(x[base + k]) - (0.0 if zero else t * _f64(y[base + k]))
            if turn == 0 and not score <= top:  # NaN is not
                top = score
            elif turn == 1:
                total += math.exp(score - top)
            elif turn == 2:
                weights[base + k] = math.exp(score - top) / total
    rate = vanishing * (t + 1) - possible * t
    value = math.lgamma(possible) + (possible - 1) * math.log(t) - possible * (top + math.log(total))
    for k in range(classes):
        if x[base + k] != -np.inf:
            value += _f64(x[base + k]) - (0.0 if y[base + k] == -np.inf else (t + 1) * _f64(y[base + k]))
    if vanishing and rate != 0 and value == value:
        value = np.inf if rate > 0 else -np.inf
    return -np.inf if outside else value, possible


# ---- jobs ----------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _forward_pieces(pointer, zero):
    """Arguments: temperature; points, logits, temperatures, value, normaliser."""
    work = job(pointer, 6)
    rows, classes, here = work[2], work[3], work[HEADER:]
    points, logits = array(here[1], rows * classes, zero), array(here[2], rows * classes, zero)
    temperatures, value = of_rows(here[0], here[3], rows, zero), array(here[4], rows, zero)
    normaliser = array(here[5], rows, _f64(0))
    first, last = next_piece(pointer)
    while first < last:
        _forward(points, logits, temperatures, value, normaliser, classes, first, last)
        first, last = next_piece(pointer)


@njit(**SUMS)
def _backward_pieces(pointer, zero):
    """Arguments: temperature; points, logits, temperatures, normaliser, gradient; gradients by those three."""
    work = job(pointer, 9)
    rows, classes, here = work[2], work[3], work[HEADER:]
    size = rows * classes
    points, logits = array(here[1], size, zero), array(here[2], size, zero)
    temperatures, normaliser = of_rows(here[0], here[3], rows, zero), array(here[4], rows, _f64(0))
    gradient, by_heat = array(here[5], rows, zero), array(here[8], rows, _f64(0))
    by_point, by_logit = array(here[6], size, zero), array(here[7], size, zero)
    first, last = next_piece(pointer)
    while first < last:
        _backward(points, logits, temperatures, normaliser, gradient, by_point, by_logit, by_heat, classes, first, last)
        first, last = next_piece(pointer)


forward_body = body(_forward_pieces)
"""The compiled log-density of a dtype, for `parallel.run`."""


backward_body = body(_backward_pieces)
"""Its compiled gradient."""
