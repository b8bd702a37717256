"""The divergence of one-hot variables and its gradient on the CPU: one pass each, compiled by Numba.

Blocks of short rows take their exponentials at once, and so their logarithms. Sums are of double precision. A row
whose divergence is infinite, or that has a NaN, is seen by its sum.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softhot.kernels.compiled import SUMS, array, body, exp, job, log, next_piece
from softhot.kernels.parallel import HEADER
from softhot.kernels.sampler_cpu import highest

__all__ = ["backward_body", "forward_body"]

_u64, _f32, _f64 = np.uint64, np.float32, np.float64
_BLOCK = 1024  # elements whose exponentials are taken at once, or more where a row is longer


# ---- rows ----------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _forward(logits, log_prior, value, normaliser, classes, first, last):
    """The divergences of rows; then of each the logsumexp of its logits, and its divergence, if they are asked for."""
    rows, count, priors = max(1, _BLOCK // classes), _u64(classes), log_prior.size // classes
    shifted, weights = np.empty(rows * classes, logits.dtype), np.empty(rows * classes, logits.dtype)
    top, total, lse, inverse = np.empty(rows, logits.dtype), np.empty(rows), np.empty(rows), np.empty(rows)
    for start in range(first, last, rows):
        stop = min(start + rows, last)
        x = logits[start * classes : stop * classes]
        s, w = shifted[: x.size], weights[: x.size]
        for r in range(stop - start):
            base = _u64(r) * count
            top[r] = highest(x, base, count)
            for k in range(count):
                s[base + k] = x[base + k] - top[r]
        for i in range(x.size):
            w[i] = exp(s[i])
        for r in range(stop - start):
            base, total[r] = _u64(r) * count, 0
            for k in range(count):
                total[r] += _f64(w[base + k])
        for r in range(stop - start):
            lse[r], inverse[r] = log(total[r]), 1 / total[r]
        prior = _u64(start % priors) * count
        for r in range(stop - start):
            base, found, level = _u64(r) * count, _f64(0), logits.dtype.type(lse[r])  # rounded as the prior's is
            for k in range(count):
                ratio = s[base + k] - level - log_prior[prior + k]
                found += _f64(0) if x[base + k] == -np.inf else _f64(w[base + k]) * _f64(ratio)
            found *= inverse[r]
            if not abs(found) < np.inf:
                lost, found = total[r] != total[r], np.nan
                lse[r] = np.nan if lost else lse[r]
                for k in range(count):
                    if log_prior[prior + k] == -np.inf and (lost or x[base + k] != -np.inf):
                        found = np.inf
            value[start + r] = found
            if normaliser.size:
                normaliser[start + r] = _f64(top[r]) + lse[r]
                normaliser[value.size + start + r] = found
            prior = prior + count if prior + count < log_prior.size else _u64(0)


@njit(**SUMS)
def _backward(logits, log_prior, normaliser, gradient, by_logit, by_prior, classes, first, last):
    """The gradients that are wanted: the others are empty."""
    rows, count, priors = max(1, _BLOCK // classes), _u64(classes), log_prior.size // classes
    shifted, weights = np.empty(rows * classes, logits.dtype), np.empty(rows * classes, logits.dtype)
    zero = logits.dtype.type(0)
    for start in range(first, last, rows):
        stop = min(start + rows, last)
        x = logits[start * classes : stop * classes]
        s, w = shifted[: x.size], weights[: x.size]
        for r in range(stop - start):
            base, lse = _u64(r) * count, logits.dtype.type(normaliser[start + r])
            for k in range(count):
                s[base + k] = x[base + k] - lse
        for i in range(x.size):
            w[i] = exp(s[i])
        prior = _u64(start % priors) * count
        for r in range(stop - start):
            base, to = _u64(r) * count, _u64(start + r) * count
            found, h = logits.dtype.type(normaliser[gradient.size + start + r]), gradient[start + r]
            h = zero if found == np.inf else h
            for k in range(count):
                slope = h * w[base + k]
                if by_logit.size:
                    ratio = s[base + k] - log_prior[prior + k] - found
                    by_logit[to + k] = zero if slope == zero else slope * ratio
                if by_prior.size:
                    by_prior[to + k] = -slope
            prior = prior + count if prior + count < log_prior.size else _u64(0)


# ---- jobs ----------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _forward_pieces(pointer, zero):
    """Arguments: the rows of the prior; logits, log prior, value, normaliser."""
    work = job(pointer, 5)
    rows, classes, here = work[2], work[3], work[HEADER:]
    logits, log_prior = array(here[1], rows * classes, zero), array(here[2], here[0] * classes, zero)
    value, normaliser = array(here[3], rows, zero), array(here[4], 2 * rows, _f64(0))
    first, last = next_piece(pointer)
    while first < last:
        _forward(logits, log_prior, value, normaliser, classes, first, last)
        first, last = next_piece(pointer)


@njit(**SUMS)
def _backward_pieces(pointer, zero):
    """Arguments: the rows of the prior; logits, log prior, normaliser, gradient; gradients by the first two."""
    work = job(pointer, 7)
    rows, classes, here = work[2], work[3], work[HEADER:]
    logits, log_prior = array(here[1], rows * classes, zero), array(here[2], here[0] * classes, zero)
    normaliser, gradient = array(here[3], 2 * rows, _f64(0)), array(here[4], rows, zero)
    by_logit, by_prior = array(here[5], rows * classes, zero), array(here[6], rows * classes, zero)
    first, last = next_piece(pointer)
    while first < last:
        _backward(logits, log_prior, normaliser, gradient, by_logit, by_prior, classes, first, last)
        first, last = next_piece(pointer)


forward_body = body(_forward_pieces)
"""The compiled divergence of a dtype, for `parallel.run`."""


backward_body = body(_backward_pieces)
"""Its compiled gradient."""
