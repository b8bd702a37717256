"""The log-likelihood of binary pixels and its gradient on the CPU: one pass each, compiled by Numba.

With u = exp(-|l|), the softplus is max(l, 0) + log(1 + u), without overflow and with the digits of a small u. Sums are
of double precision.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softhot.kernels.compiled import SUMS, array, body, exp, job, log1p, next_piece
from softhot.kernels.parallel import HEADER

__all__ = ["backward_body", "forward_body", "grey_body"]

_f32, _f64 = np.float32, np.float64


# ---- rows ----------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _forward(x, logits, each):
    zero, half, one = logits.dtype.type(0), logits.dtype.type(0.5), logits.dtype.type(1)
    ln2, middle, total = logits.dtype.type(0.6931471805599453), logits.dtype.type(0.4), _f64(0)
    for d in range(logits.size):
        each[d] = exp(-abs(logits[d]))
    for d in range(logits.size):
        u, softplus = each[d], logits[d] if logits[d] > zero else zero
        softplus += log1p(half * (u - one) if u > middle else u)  # of 1 + u = 2 (1 + (u - 1) / 2), or of 1 + u
        softplus += ln2 if u > middle else zero
        each[d] = x[d] * logits[d] - softplus
    for d in range(logits.size):
        total += _f64(each[d])
    return total


@njit(**SUMS)
def _backward(x, logits, gradient, by_logit):
    one = logits.dtype.type(1)
    for d in range(logits.size):
        u = exp(-abs(logits[d]))
        by_logit[d] = gradient * (x[d] - (one if logits[d] >= 0 else u) / (one + u))


@njit(**SUMS)
def _grey(x):
    """How many pixels are neither 0 nor 1."""
    count = 0
    for d in range(x.size):
        count += (x[d] != 0) & (x[d] != 1)
    return count


# ---- jobs ----------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _forward_pieces(pointer, zero):
    """Arguments: the rows of x; x, logits, value."""
    work = job(pointer, 4)
    rows, pixels, here = work[2], work[3], work[HEADER:]
    x, logits = array(here[1], here[0] * pixels, zero), array(here[2], rows * pixels, zero)
    value, each = array(here[3], rows, zero), np.empty(pixels, logits.dtype)
    first, last = next_piece(pointer)
    while first < last:
        for r in range(first, last):
            of_x = r % here[0] * pixels
            value[r] = _forward(x[of_x : of_x + pixels], logits[r * pixels : (r + 1) * pixels], each)
        first, last = next_piece(pointer)


@njit(**SUMS)
def _backward_pieces(pointer, zero):
    """Arguments: the rows of x; x, logits, gradient, gradient by the logits."""
    work = job(pointer, 5)
    rows, pixels, here = work[2], work[3], work[HEADER:]
    x, logits = array(here[1], here[0] * pixels, zero), array(here[2], rows * pixels, zero)
    gradient, by_logit = array(here[3], rows, zero), array(here[4], rows * pixels, zero)
    first, last = next_piece(pointer)
    while first < last:
        for r in range(first, last):
            of_x, row = r % here[0] * pixels, slice(r * pixels, (r + 1) * pixels)
            _backward(x[of_x : of_x + pixels], logits[row], gradient[r], by_logit[row])
        first, last = next_piece(pointer)


@njit(**SUMS)
def _grey_pieces(pointer, zero):
    """Arguments: x; what becomes 1 if a pixel is grey."""
    work = job(pointer, 2)
    rows, pixels, here = work[2], work[3], work[HEADER:]
    x, grey = array(here[0], rows * pixels, zero), array(here[1], 1, np.int64(0))
    first, last = next_piece(pointer)
    while first < last:
        if _grey(x[first * pixels : last * pixels]):
            grey[0] = 1
        first, last = next_piece(pointer)


forward_body = body(_forward_pieces)
"""The compiled log-likelihood of a dtype, for `parallel.run`."""


backward_body = body(_backward_pieces)
"""Its compiled gradient."""


grey_body = body(_grey_pieces)
"""The compiled search for grey pixels."""
