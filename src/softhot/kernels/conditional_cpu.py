"""The mean Jacobian of conditional relaxed samples on the CPU, compiled by Numba.

For each row its noise, class by class; loops run over the draws, of which there are many, and vectorise for any number
of classes. Where there is one draw, they run over many rows.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.extending import overload

from softhot.kernels.compiled import FAST, SUMS, array, bits, body, exp, job, log, next_piece
from softhot.kernels.parallel import HEADER
from softhot.kernels.philox_cpu import BLOCK, LANES, exponential, words_of

__all__ = ["average_body"]

_u32, _u64, _i64, _f32, _f64 = np.uint32, np.uint64, np.int64, np.float32, np.float64


def _weight(x, rate): ...


@overload(_weight, jit_options=FAST)
def _weight_of(x, rate):
    """x to the power of minus the rate, for x from 1 to infinity."""
    largest = np.finfo(np.float32 if x.bitwidth == 32 else np.float64).max

    def weight(x, rate):
        power = exp(-rate * log(x))
        return type(x)(0) if x > type(x)(largest) else power

    return weight


@njit(**SUMS)
def _row(noise, total, centre, ratios, gradient, rate, out, base, classes):
    """One row, whose noise is used up."""
    one, draws = ratios.dtype.type(1), total.size
    given = base
    for k in range(classes):
        if ratios[base + k] == 0:
            given = base + k
    chosen = noise[(given - base) * draws : (given - base + 1) * draws]
    for d in range(draws):
        chosen[d] = one / chosen[d]
        total[d] = one
        centre[d] = gradient[given]
    for k in range(classes):
        if base + k == given:
            continue
        w, g, u = ratios[base + k], gradient[base + k], noise[k * draws : (k + 1) * draws]
        if rate == 1:
            for d in range(draws):
                u[d] = one / (one + w * (u[d] * chosen[d]))
        elif rate == 2:
            for d in range(draws):
                root = one / (one + w * (u[d] * chosen[d]))
                u[d] = root * root
        else:
            for d in range(draws):
                u[d] = _weight(one + w * (u[d] * chosen[d]), rate)
        for d in range(draws):
            total[d] += u[d]
            centre[d] += u[d] * g
    for d in range(draws):
        chosen[d] = one
        total[d] = one / total[d]
        centre[d] *= total[d]
    for k in range(classes):
        g, u, mean = gradient[base + k], noise[k * draws : (k + 1) * draws], one - one
        for d in range(draws):
            mean += u[d] * total[d] * (g - centre[d])
        out[base + k] = mean * rate / draws


@njit(**SUMS)
def _rows_of_one(noise, ratios, gradient, rate, out, classes):
    """Rows with one draw each, whose weights are taken at once."""
    one, zero = noise.dtype.type(1), noise.dtype.type(0)
    for r in range(noise.size // classes):
        base, scale = _u64(r) * classes, one
        for k in range(classes):
            scale = one / noise[base + k] if ratios[base + k] == zero else scale
        for k in range(classes):
            noise[base + k] *= scale
    if rate == one:
        for i in range(noise.size):
            noise[i] = one / (one + ratios[i] * noise[i])
    else:
        for i in range(noise.size):
            noise[i] = _weight(one + ratios[i] * noise[i], rate)
    for r in range(noise.size // classes):
        base, total, centre = _u64(r) * classes, zero, zero
        for k in range(classes):
            total += noise[base + k]
            centre += noise[base + k] * gradient[base + k]
        total = one / total
        for k in range(classes):
            out[base + k] = noise[base + k] * total * (gradient[base + k] - centre * total) * rate


@njit(**SUMS)
def _average(seed, ratios, gradient, rate, out, classes, draws, first, last):
    kind, size = ratios.dtype, classes * draws
    rows = max(1, BLOCK // classes) if draws == 1 else 1  # at once
    noise, total, centre = np.empty(rows * size + BLOCK, kind), np.empty(draws, kind), np.empty(draws, kind)
    words, more = np.empty(BLOCK, _u32), np.empty(BLOCK, _u32)
    block, skip, filled = first * size // BLOCK, first * size % BLOCK, 0
    for start in range(first, last, rows):
        stop = min(start + rows, last)
        a, b, wanted = start * classes, stop * classes, (stop - start) * size
        while filled < wanted:
            words_of(words, LANES, block, _u64(0), seed)
            exponential(noise[filled : filled + BLOCK - skip], words, more, skip, block, LANES, seed)
            filled, block, skip = filled + BLOCK - skip, block + 1, 0
        if draws == 1:
            _rows_of_one(noise[:wanted], ratios[a:b], gradient[a:b], rate, out[a:b], _u64(classes))
        else:
            _row(noise, total, centre, ratios, gradient, rate, out, a, classes)
        filled -= wanted
        for i in range(filled):
            noise[i] = noise[wanted + i]


@njit(**SUMS)
def _pieces(pointer, zero):
    """Arguments: rate, draws; seed, ratios, gradient, out."""
    work = job(pointer, 6)
    rows, classes, here = work[2], work[3], work[HEADER:]
    size, rate = rows * classes, type(zero)(bits(here[0]))
    seed = array(here[2], 1, _i64(0))[0]
    ratios, gradient, out = array(here[3], size, zero), array(here[4], size, zero), array(here[5], size, zero)
    first, last = next_piece(pointer)
    while first < last:
        _average(seed, ratios, gradient, rate, out, classes, here[1], first, last)
        first, last = next_piece(pointer)


average_body = body(_pieces)
"""The compiled kernel of a dtype, for `parallel.run`."""
