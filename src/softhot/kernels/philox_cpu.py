"""Random numbers by counting, and exponential variables of them, on the CPU: those of `philox`, compiled by Numba."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from softhot.kernels.compiled import FAST, log1p, split

__all__ = ["BLOCK", "LANES", "exponential", "words_of"]

_u32, _u64, _i32, _f32, _f64 = np.uint32, np.uint64, np.int32, np.float32, np.float64
LANES = 256  # counters of a block; four words each
BLOCK = 4 * LANES
_MULTIPLY_A, _MULTIPLY_C = _u64(0xD2511F53), _u64(0xCD9E8D57)
_WEYL_A, _WEYL_B = _u64(0x9E3779B9), _u64(0xBB67AE85)
_LOW, _HALF = _u64(0xFFFFFFFF), _u64(32)
_TOP, _TAIL = _i32(2**31 - 1), _i32(2**16)  # of 31 bits: nearer to an end, they are too few


@njit(forceinline=True)
def _philox(counter, stream, key_a, key_b):
    """Philox 4x32-10: four words of 32 bits, each in 64."""
    a, b, c, d = counter & _LOW, counter >> _HALF, stream, _u64(0)
    for _ in range(10):
        p, q = _MULTIPLY_A * a, _MULTIPLY_C * c
        a, b, c, d = (q >> _HALF) ^ b ^ key_a, q & _LOW, (p >> _HALF) ^ d ^ key_b, p & _LOW
        key_a, key_b = (key_a + _WEYL_A) & _LOW, (key_b + _WEYL_B) & _LOW
    return a, b, c, d


@njit(cache=True)
def words_of(words, lanes, block, stream, seed):
    one, two = words[:LANES], words[LANES : 2 * LANES]
    three, four = words[2 * LANES : 3 * LANES], words[3 * LANES :]
    start, key_a, key_b = _u64(block * LANES), _u64(seed) & _LOW, _u64(seed) >> _HALF
    for j in range(lanes):
        one[j], two[j], three[j], four[j] = _philox(start + _u64(j), stream, key_a, key_b)


@njit(**FAST)
def _fine(high, low):
    """An exponential variable, the small ones of a small `high`, from 31 and 32 bits."""
    below = (_f64(high) * 2.0**32 + _f64(low) + 0.5) * 2.0**-63
    above = (_f64(_TOP - high) * 2.0**32 + (2.0**32 - _f64(low)) - 0.5) * 2.0**-63
    e, f = split(above)
    return -(e * 0.6931471805599453 + log1p(-below if below < 0.29 else f))


def exponential(noise, words, more, first, block, lanes, seed): ...


@overload(exponential, jit_options=FAST)
def _exponential_of(noise, words, more, first, block, lanes, seed):
    """Fill `noise`, the elements of a block from `first` on."""

    def single(noise, words, more, first, block, lanes, seed):
        words = words[first : first + noise.size]
        low = _TOP
        for i in range(noise.size):
            high = _i32(words[i] >> _u32(1))
            low = min(low, _i32(_i32(high + _TAIL) & _TOP))
            below = (_f32(high) + _f32(0.5)) * _f32(2.0**-31)
            above = (_f32(_i32(_TOP - high)) + _f32(0.5)) * _f32(2.0**-31)
            e, f = split(above)
            noise[i] = -(e * _f32(0.6931471805599453) + log1p(-below if below < _f32(0.29) else f))
        if low < 2 * _TAIL:
            for i in range(noise.size):
                high = _i32(words[i] >> _u32(1))
                if _i32(_i32(high + _TAIL) & _TOP) < 2 * _TAIL:
                    counter = _u64(block * LANES + (first + i) % LANES)
                    fine = _philox(counter, _u64(1), _u64(seed) & _LOW, _u64(seed) >> _HALF)
                    noise[i] = _f32(_fine(high, fine[(first + i) // LANES]))

    def double(noise, words, more, first, block, lanes, seed):
        words_of(more, lanes, block, _u64(1), seed)
        words, more = words[first : first + noise.size], more[first : first + noise.size]
        for i in range(noise.size):
            noise[i] = _fine(_i32(words[i] >> _u32(1)), more[i])

    return single if noise.dtype == types.float32 else double
