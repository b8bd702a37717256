"""The relaxed sampler on the CPU: one pass over blocks that stay in the cache, compiled by Numba.

For each block of elements: random words, exponential variables, scores, and the softmax of the rows that are complete.
Everything vectorises: logarithm and exponential are series of fixed length, the exponentials of many short rows are
taken at once, and a largest score is found among integers. Loops run over slices, or over unsigned offsets: Numba lets
signed ones be negative, to count from the end, and then nothing vectorises; and a slice for every short row would take
longer than the row.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from softhot.kernels.compiled import FAST, SUMS, array, bits, body, exp, job, log, next_piece, of_rows
from softhot.kernels.parallel import HEADER
from softhot.kernels.philox_cpu import BLOCK, LANES, exponential, words_of
from softhot.kernels.short_rows import SHORT, lower, mark, normalise, shift, slopes
from softhot.kernels.vectors import LANES as GROUP

__all__ = ["backward_body", "highest", "sample_body"]

_u32, _u64, _i32, _i64, _f32, _f64 = np.uint32, np.uint64, np.int32, np.int64, np.float32, np.float64
_MANY = _u64(16)  # classes from which integers are faster
_MOST = 64  # exponents whose exponentials are normal numbers, and so is their sum
_TOP = _i32(2**31 - 1)


# ---- rows ----------------------------------------------------------------------------------------------------------


@njit(**FAST)
def _perturb(scores, logits, noise):
    for i in range(scores.size):
        scores[i] = logits[i] - log(noise[i])


def _sortable(x): ...


@overload(_sortable, jit_options=FAST)
def _sortable_of(x):
    """An integer of the same order, NaN with a positive sign the largest; and back."""

    def single(x):
        pattern = bits(x)
        return _i32(pattern ^ _i32(_i32(pattern >> _i32(31)) & _TOP))

    def double(x):
        pattern = bits(x)
        return pattern ^ ((pattern >> _i64(63)) & _i64(2**63 - 1))

    return single if x == types.float32 else double


def _unsorted(pattern): ...


@overload(_unsorted, jit_options=FAST)
def _unsorted_of(pattern):
    def single(pattern):
        return bits(_i32(pattern ^ _i32(_i32(pattern >> _i32(31)) & _TOP)))

    def double(pattern):
        return bits(pattern ^ ((pattern >> _i64(63)) & _i64(2**63 - 1)))

    return single if pattern == types.int32 else double


@njit(**FAST)
def highest(scores, base, classes):
    """The largest score of a row, or anything if a score is NaN."""
    if classes < _MANY:
        largest = scores[base]
        for k in range(classes):
            largest = max(largest, scores[base + k])
        return largest
    most = _sortable(scores[base])
    for k in range(classes):
        most = max(most, _sortable(scores[base + k]))
    return _unsorted(most)


@njit(**FAST)
def _choose(hard, scores, base, classes, largest):
    """Mark the first of several largest scores; NaN where there is none, or a score is not a number."""
    none, found = not abs(largest) < np.inf, False
    for k in range(classes):
        none = none or np.isnan(scores[base + k])
    for k in range(classes):
        mark = not found and not none and scores[base + k] == largest
        found = found or mark
        hard[base + k] = np.nan if none else 1 if mark else 0


@njit(**SUMS)
def _moderate(scores, rate):
    """Whether no exponential can overflow or vanish, so that z needs no shift of the rows; -inf is no obstacle.

    The logarithms do: that of an entry near one is small, and would be lost in the rounding of large ones.
    """
    most = scores.dtype.type(_MOST)
    low, high, none = _sortable(-most), _sortable(most), _sortable(scores.dtype.type(-np.inf))
    extreme = _i32(0)
    for i in range(scores.size):
        key = _sortable(scores[i] * rate)
        extreme += _i32((key > high) | ((key < low) & (key != none)))
    return extreme == 0


@njit(**FAST)
def _groups(size, classes):
    """How many groups of eight short rows there are, with room behind them, in an array of a size."""
    return max(0, size - SHORT) // (GROUP * classes) if classes <= SHORT else 0


@njit(**SUMS)
def _mark(scores, hard, classes):
    one, zero, width = scores.dtype.type(1), scores.dtype.type(0), _u64(classes)
    groups = _groups(scores.size, classes)
    if mark(zero, scores.ctypes.data, hard.ctypes.data, classes, groups)[0] > GROUP * groups:
        groups = 0
    for r in range(GROUP * groups, scores.size // classes):
        base, count = _u64(r) * width, zero
        largest = highest(scores, base, width)
        for k in range(width):
            hard[base + k] = one if scores[base + k] == largest else zero
            count += zero if scores[base + k] < largest else one  # NaN counts
        if count != one or not abs(largest) < np.inf:
            _choose(hard, scores, base, width, largest)


@njit(**SUMS)
def _shift(scores, shifted, rates, classes):
    """The rows of scores less their largest, times their rate."""
    width, own = _u64(classes), rates.size > 1
    each, groups = np.full(GROUP, rates[0]), _groups(scores.size, classes)
    place = rates.ctypes.data if own else each.ctypes.data
    shift(scores.dtype.type(0), scores.ctypes.data, place, 1 if own else 0, shifted.ctypes.data, classes, groups)
    each[0] = rates[0]  # read by address until here
    for r in range(GROUP * groups, scores.size // classes):
        base, rate = _u64(r) * width, rates[r if own else 0]
        largest = highest(scores, base, width)
        for k in range(width):
            shifted[base + k] = (scores[base + k] - largest) * rate


@njit(**SUMS)
def _normalise(values, soft, totals, classes):
    one, zero, width = values.dtype.type(1), values.dtype.type(0), _u64(classes)
    groups = _groups(values.size, classes)
    normalise(zero, values.ctypes.data, soft.ctypes.data, totals.ctypes.data, classes, groups)
    for r in range(GROUP * groups, values.size // classes):
        base, total = _u64(r) * width, zero
        for k in range(width):
            total += values[base + k]
        totals[r] = total
        factor = one / total
        for k in range(width):
            soft[base + k] = values[base + k] * factor


@njit(**SUMS)
def _lower(shifted, amounts, log_soft, classes):
    width, groups = _u64(classes), _groups(shifted.size, classes)
    lower(amounts.dtype.type(0), shifted.ctypes.data, amounts.ctypes.data, log_soft.ctypes.data, classes, groups)
    for r in range(GROUP * groups, shifted.size // classes):
        base, amount = _u64(r) * width, amounts[r]
        for k in range(width):
            log_soft[base + k] = shifted[base + k] - amount


@njit(**SUMS)
def _finish(scores, shifted, totals, soft, log_soft, rates, classes):
    """Softmax and, if wanted, log-softmax of the rows of scores, which are used up."""
    if not log_soft.size and rates.size == 1 and _moderate(scores, rates[0]):
        rate = rates[0]
        for i in range(scores.size):
            scores[i] = exp(scores[i] * rate)
    else:
        _shift(scores, shifted, rates, classes)
        for i in range(scores.size):
            scores[i] = exp(shifted[i])
    _normalise(scores, soft, totals, classes)
    if log_soft.size:
        for r in range(totals.size):
            totals[r] = log(totals[r]) if totals[r] > 0 else np.nan
        _lower(shifted, totals, log_soft, classes)


@njit(**FAST)
def _part(output, start, stop):
    return output[start:stop] if output.size else output


@njit(forceinline=True)
def _whole(row, classes, group):
    """The first of the rows that one block completes with this one: they are finished alike, whatever the pieces."""
    start = row * classes // group * group
    block = (row * classes - start + classes - 1) // BLOCK
    return start // classes + block * BLOCK // classes


@njit(**SUMS)
def _sample(seeds, logits, rates, soft, hard, log_soft, plain, classes, first, last):
    """Fill rows `first` to `last` of the outputs, each of the size of the logits or empty.

    There is one seed for each of as many groups of rows, of equal size, and one rate, 1 / temperature, for all rows or
    for each. If `plain`, the softmax has no noise, as in the gradient of the straight-through sample.
    """
    kind = logits.dtype
    scores, noise = np.empty(classes + BLOCK, kind), np.empty(BLOCK, kind)
    shifted, totals = np.empty(classes + BLOCK, kind), np.empty(BLOCK // classes + 1, kind)
    words, more = np.empty(BLOCK, _u32), np.empty(BLOCK, _u32)
    group = logits.size // seeds.size
    first, last = _whole(first, classes, group), _whole(last, classes, group)
    for g in range(first * classes // group, (last * classes - 1) // group + 1):
        start, stop = max(first * classes, g * group), min(last * classes, (g + 1) * group)
        filled = 0
        for block in range((start - g * group) // BLOCK, (stop - 1 - g * group) // BLOCK + 1):
            origin = g * group + block * BLOCK
            a, b = max(start, origin), min(stop, origin + BLOCK)
            lanes = min(LANES, group - block * BLOCK)
            words_of(words, lanes, block, _u64(0), seeds[g])
            exponential(noise[: b - a], words, more, a - origin, block, lanes, seeds[g])
            _perturb(scores[filled : filled + b - a], logits[a:b], noise[: b - a])
            x, filled = a - filled, filled + b - a
            ready = filled // classes * classes
            if ready:
                y = x + ready
                part = rates if rates.size == 1 else rates[x // classes : y // classes]
                done = scores[:ready]
                if hard.size:
                    _mark(done, hard[x:y], classes)
                if plain:
                    done[:] = logits[x:y]
                if soft.size:
                    _finish(
                        done,
                        shifted[:ready],
                        totals[: ready // classes],
                        soft[x:y],
                        _part(log_soft, x, y),
                        part,
                        classes,
                    )
                filled -= ready
                for i in range(filled):
                    scores[i] = scores[ready + i]


@njit(**SUMS)
def _backward(soft, gradient, log_gradient, rates, out, classes, first, last):
    """The gradient in the logits, from those in soft and in log; one of the two may be empty."""
    if classes <= SHORT and gradient.size and not log_gradient.size:
        _short_backward(soft, gradient, rates, out, classes, first, last)
        return
    zero, width = soft.dtype.type(0), _u64(classes)
    for r in range(first, last):
        base, rate = _u64(r) * width, rates[r if rates.size > 1 else 0]
        centre = zero
        if log_gradient.size:
            for k in range(width):
                centre += log_gradient[base + k]
        if gradient.size:
            for k in range(width):
                centre += soft[base + k] * gradient[base + k]
            for k in range(width):
                out[base + k] = soft[base + k] * (gradient[base + k] - centre) * rate
        else:
            for k in range(width):
                out[base + k] = -soft[base + k] * centre * rate
        if log_gradient.size:
            for k in range(width):
                out[base + k] += log_gradient[base + k] * rate


@njit(**SUMS)
def _short_backward(soft, gradient, rates, out, classes, first, last):
    """The gradient from that in soft; rows without room behind them get it elsewhere, to be rounded as the others."""
    groups, own = _groups((last - first) * classes, classes), rates.size > 1
    # these are read by address: used in the loop, so that they live until its end; and one loop for both ways, since
    # what the call emits is compiled wherever it stands
    room, each = np.zeros(3 * (GROUP * classes + SHORT), soft.dtype), np.full(GROUP, rates[0])
    here, size = room.ctypes.data, room.size // 3
    item = room.itemsize
    while first < last:
        start, rows = first * classes, min(GROUP * max(groups, 1), last - first)
        places = soft[start:].ctypes.data, gradient[start:].ctypes.data, out[start:].ctypes.data
        rate = rates[first:].ctypes.data if own and groups else each.ctypes.data
        if not groups:
            places = here, here + item * size, here + 2 * item * size
            for i in range(rows * classes):
                room[i], room[size + i] = soft[start + i], gradient[start + i]
            for i in range(rows):
                each[i] = rates[first + i if own else 0]
        slopes(soft.dtype.type(0), places[0], places[1], rate, 1 if own else 0, places[2], classes, max(groups, 1))
        if not groups:
            for i in range(rows * classes):
                out[start + i] = room[2 * size + i]
        first, groups = first + rows, 0


# ---- jobs ----------------------------------------------------------------------------------------------------------


@njit(**SUMS)
def _sample_pieces(pointer, zero):
    """Arguments: rate; number of seeds; plain; seeds, logits, rates, soft, hard, log."""
    work = job(pointer, 9)
    rows, classes = work[2], work[3]
    size, here = rows * classes, work[HEADER:]
    rates = of_rows(here[0], here[5], rows, zero)
    first, last = next_piece(pointer)
    while first < last:
        _sample(
            array(here[3], here[1], _i64(0)),
            array(here[4], size, zero),
            rates,
            array(here[6], size, zero),
            array(here[7], size, zero),
            array(here[8], size, zero),
            here[2] != 0,
            classes,
            first,
            last,
        )
        first, last = next_piece(pointer)


@njit(**SUMS)
def _backward_pieces(pointer, zero):
    """Arguments: rate; soft, gradient, gradient in log, rates, out."""
    work = job(pointer, 6)
    rows, classes = work[2], work[3]
    size, here = rows * classes, work[HEADER:]
    rates = of_rows(here[0], here[4], rows, zero)
    first, last = next_piece(pointer)
    while first < last:
        _backward(
            array(here[1], size, zero),
            array(here[2], size, zero),
            array(here[3], size, zero),
            rates,
            array(here[5], size, zero),
            classes,
            first,
            last,
        )
        first, last = next_piece(pointer)


sample_body = body(_sample_pieces)
"""The compiled sampler of a dtype, for `parallel.run`."""


backward_body = body(_backward_pieces)
"""Its compiled gradient."""
