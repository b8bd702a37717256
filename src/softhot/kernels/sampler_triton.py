r"""The relaxed sampler on a GPU, compiled by Triton.

One counter has the words of four elements that lie 256 apart. So a tile makes the noise of the aligned blocks of 1024
elements that cover it, uses every word, and then deals the noise out to its rows. Rows that are too long for a tile are
cut, in two passes: the first keeps the largest score of each piece and the sum of its exponentials; the second makes
the same noise again, and writes. The rows of many seeds, with few elements to each, use a counter for every element.

In float32, the 31 bits of stream 0 are enough except near the ends of their range, for one element in 16,000: stream 1
is made for the tiles that have one. Nothing waits for the GPU: the kernels read the seeds and temperatures.
"""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from functools import lru_cache
from math import gcd
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import constexpr, gather  # noqa: F401 - new in Triton 3.3: without it, the reference

__all__ = ["backward", "choose", "sample", "works"]

_LANES, _BLOCK = 256, 1024  # counters of a block, and elements
_TILE, _LARGE = 2**14, 2**15  # bytes of a tile, and of one that holds a long row
_PROGRAMS = 256  # that keep a GPU busy
_INF = constexpr(float("inf"))
_TOP, _TAIL = constexpr(2**31 - 1), constexpr(2**16)  # of 31 bits: nearer to an end, they are too few
_UPPER = constexpr(int(0.29 * 2**31))  # from here on, log(1 - v) is taken of 1 - v


# ---- random numbers ------------------------------------------------------------------------------------------------


@triton.jit
def _split(x):
    """x > 0 as 2^e (1 + f), with f from sqrt(1/2) - 1 to sqrt(2) - 1."""
    if x.dtype == tl.float64:
        pattern = x.to(tl.int64, bitcast=True)
        e = (pattern - 0x3FE6A09E667F3BCD) >> 52
        f = (pattern - (e << 52)).to(tl.float64, bitcast=True) - 1.0
    else:
        pattern = x.to(tl.int32, bitcast=True)
        e = (pattern - 0x3F3504F3) >> 23
        f = (pattern - (e << 23)).to(tl.float32, bitcast=True) - 1.0
    return e.to(x.dtype), f


@triton.jit
def _log1p(f):
    """log(1 + f) = 2 artanh(s) with s = f / (2 + f), |s| < 0.172."""
    s = f / (2.0 + f)
    q = s * s
    p = tl.zeros_like(q)
    for n in tl.static_range(21 if f.dtype == tl.float64 else 11, 1, -2):
        p = p * q + 1 / n
    return s * (2.0 + 2.0 * q * p)


@triton.jit
def _gumbel(high, low, kind: constexpr):
    """-log(-log(1 - v)), where the bits of v are the 31 of `high`, the 32 of `low`, and half a bit."""
    upper = high >= _UPPER
    first, last = tl.where(upper, _TOP - high, high), tl.where(upper, 0xFFFFFFFF - low, low)
    x = first.to(kind) * 2.0**-31 + (last.to(kind) + 0.5) * 2.0**-63  # 1 - v or v
    e, f = _split(x)
    log = tl.where(upper, e, 0.0) * 0.6931471805599453 + _log1p(tl.where(upper, f, -x))
    return -tl.log(-log)


@triton.jit
def _in_tail(high):
    return ((high + _TAIL) & _TOP) < 2 * _TAIL


@triton.jit
def _words(seed, counter, stream: constexpr):
    """All words of the counters of a few blocks, in the order of their elements."""
    a, b, c, d = tl.philox(seed, counter, 0, stream, 0)
    words = tl.join(tl.join(a, c), tl.join(b, d))
    return words.reshape(counter.shape[0] // 256, 256, 4).permute(0, 2, 1).reshape(4 * counter.shape[0])


@triton.jit
def _noise_of_blocks(seed, block, SIZE: constexpr, kind: constexpr):
    """The noise of the elements of a few blocks, from `block` on."""
    counter = (block * 256).to(tl.uint32) + tl.arange(0, SIZE // 4).to(tl.uint32)
    high = _words(seed, counter, 0) >> 1
    if kind == tl.float64:
        low = _words(seed, counter, 1)
    else:
        low = tl.full([SIZE], 2**31, tl.uint32)  # the middle
        tail = _in_tail(high)
        if tl.max(tail.to(tl.int32), 0) > 0:
            low = tl.where(tail, _words(seed, counter, 1), low)
    return _gumbel(high, low, kind)


@triton.jit
def _word(seed, index, stream: constexpr):
    a, b, c, d = tl.philox(seed, ((index >> 10 << 8) + (index & 255)).to(tl.uint32), 0, stream, 0)
    word = index >> 8 & 3
    return tl.where(word < 2, tl.where(word == 0, a, b), tl.where(word == 2, c, d))


@triton.jit
def _noise_of_each(seed, index, kind: constexpr):
    """The noise of elements by their index, from a counter for each."""
    high, low = _word(seed, index, 0) >> 1, _word(seed, index, 1)
    if kind == tl.float32:
        low = tl.where(_in_tail(high), low, 2**31)
    return _gumbel(high, low, kind)


# ---- samples -------------------------------------------------------------------------------------------------------


@triton.jit
def _largest(x, axis: constexpr):
    """The largest score; infinite if one is not a number."""
    return tl.max(tl.where(x == x, x, _INF), axis, keep_dims=True)


@triton.jit
def _first(k, is_best, classes, axis: constexpr):
    return tl.min(tl.where(is_best, k, classes), axis, keep_dims=True)


@triton.jit
def _mark(k, best, most):
    """One for the best class; not a number if the largest score is infinite, so that no class is possible, say."""
    return tl.where(k == best, 1.0, 0.0).to(most.dtype) + (most - most)


@triton.jit(do_not_specialize=["group", "count", "tiles", "rows"])
def _sample_rows(
    logits,
    temperatures,
    seeds,
    soft,
    hard,
    log,
    classes,  # of a row
    group,  # rows to a seed
    count,  # rows in all
    tiles,  # to a seed
    rows,  # of a tile
    STEP: constexpr,  # from temperature to temperature, 0 if there is only one
    PLAIN: constexpr,  # no noise in the softmax
    NOISE: constexpr,  # for "each" element, or for blocks: "filled" by rows, or "dealt" out to them
    ROWS: constexpr,
    CLASSES: constexpr,
):
    """Whole rows. Those of a tile have one seed, unless each element has a counter."""
    kind: constexpr = logits.dtype.element_ty
    r, k = tl.arange(0, ROWS)[:, None], tl.arange(0, CLASSES)[None, :]
    here = r * classes + k
    if NOISE == "each":
        first = tl.program_id(0).to(tl.int64) * ROWS
        row = first + r
        known = row < count
        skipped = (first % group).to(tl.int32) + r
        seed = tl.load(seeds + first // group + skipped // group, known, other=0)
        noise = _noise_of_each(seed, skipped % group * classes + k, kind)
    else:
        which = tl.program_id(0) // tiles
        skipped = tl.program_id(0) % tiles * rows
        first = which.to(tl.int64) * group + skipped
        row = first + r
        known = (r < rows) & (skipped + r < group)
        index = skipped.to(tl.int64) * classes
        noise = _noise_of_blocks(tl.load(seeds + which), index >> 10, ROWS * CLASSES, kind)
        if NOISE == "dealt":
            place = tl.minimum((index & 1023).to(tl.int32) + here, ROWS * CLASSES - 1)
            noise = tl.gather(noise, tl.reshape(place, ROWS * CLASSES), 0)
        noise = tl.reshape(noise, ROWS, CLASSES)
    inside = known & (k < classes)
    start = first * classes
    x = tl.load(logits + start + here, inside, other=-_INF)
    scores = x + noise
    most = _largest(scores, 1)
    if hard is not None:
        best = _first(k, scores == most, classes, 1)
        tl.store(hard + start + here, _mark(k, best, most), inside)
    if soft is not None:
        if PLAIN:
            z = x - _largest(x, 1)
        else:
            z = (scores - most) * (1.0 / tl.load(temperatures + row * STEP, known, other=1.0).to(kind))
        e = tl.exp(z)
        total = tl.sum(e, 1, keep_dims=True)
        tl.store(soft + start + here, e * (1.0 / total), inside)
        if log is not None:
            tl.store(log + start + here, z - tl.log(total), inside)


@triton.jit
def _piece(row, group, classes, SIZE: constexpr):
    """The block with which a piece of a row begins, counted for its seed, and the classes of its elements."""
    start = (row % group).to(tl.int64) * classes
    block = (start >> 10) + tl.program_id(1) * (SIZE // 1024)
    return block, (block * 1024 - start).to(tl.int32) + tl.arange(0, SIZE)


@triton.jit(do_not_specialize=["group"])
def _sample_pieces(
    logits,
    temperatures,
    seeds,
    tops,
    totals,
    mosts,
    bests,
    classes,
    group,
    STEP: constexpr,
    PLAIN: constexpr,
    SIZE: constexpr,
):
    """The largest score of a piece, to which class it belongs, and the sum of the exponentials."""
    kind: constexpr = logits.dtype.element_ty
    row = tl.program_id(0)
    block, k = _piece(row, group, classes, SIZE)
    x = tl.load(logits + row.to(tl.int64) * classes + k, (k >= 0) & (k < classes), other=-_INF)
    here = row * tl.num_programs(1) + tl.program_id(1) + tl.arange(0, 1)
    if bests is not None or not PLAIN:
        scores = x + _noise_of_blocks(tl.load(seeds + row // group), block, SIZE, kind)
        most = _largest(scores, 0)
    if bests is not None:
        tl.store(mosts + here, most)
        tl.store(bests + here, _first(k, scores == most, classes, 0))
    if tops is not None:
        if PLAIN:
            top = _largest(x, 0)
            z = x - tl.where(top == -_INF, 0.0, top)
        else:
            top = most
            z = (scores - tl.where(top == -_INF, 0.0, top)) * (1.0 / tl.load(temperatures + row * STEP).to(kind))
        tl.store(tops + here, top)
        tl.store(totals + here, tl.sum(tl.exp(z), 0, keep_dims=True))


@triton.jit(do_not_specialize=["group"])
def _sample_cut_rows(
    logits,
    temperatures,
    seeds,
    tops,
    totals,
    mosts,
    bests,
    soft,
    hard,
    log,
    classes,
    group,
    STEP: constexpr,
    PLAIN: constexpr,
    SIZE: constexpr,
    PIECES: constexpr,  # of a row, at most
):
    """A piece of a row, from what is known of all its pieces."""
    kind: constexpr = logits.dtype.element_ty
    row = tl.program_id(0)
    block, k = _piece(row, group, classes, SIZE)
    inside = (k >= 0) & (k < classes)
    start = row.to(tl.int64) * classes
    p = tl.arange(0, PIECES)
    known, here = p < tl.num_programs(1), row * tl.num_programs(1) + p
    if hard is not None:
        each = tl.load(mosts + here, known, other=-_INF)
        most = tl.max(each, 0, keep_dims=True)
        best = _first(tl.load(bests + here, known, other=0), each == most, classes, 0)
        tl.store(hard + start + k, _mark(k, best, most), inside)
    if soft is not None:
        x = tl.load(logits + start + k, inside, other=-_INF)
        rate = 1.0
        if not PLAIN:
            x += _noise_of_blocks(tl.load(seeds + row // group), block, SIZE, kind)
            rate = 1.0 / tl.load(temperatures + row * STEP).to(kind)
        each = tl.load(tops + here, known, other=-_INF)
        top = tl.max(each, 0, keep_dims=True)
        shares = tl.exp((each - tl.where(top == -_INF, 0.0, top)) * rate)
        total = tl.sum(shares * tl.load(totals + here, known, other=0.0), 0, keep_dims=True)
        z = (x - top) * rate
        tl.store(soft + start + k, tl.exp(z) * (1.0 / total), inside)
        if log is not None:
            tl.store(log + start + k, z - tl.log(total), inside)


# ---- gradients -----------------------------------------------------------------------------------------------------


@triton.jit
def _load(x, here, inside):
    """The elements of a tensor; zero without one."""
    return 0.0 if x is None else tl.load(x + here, inside, other=0.0)


@triton.jit(do_not_specialize=["count"])
def _backward_rows(soft, a, b, temperatures, out, classes, count, STEP: constexpr, ROWS: constexpr, CLASSES: constexpr):
    first = tl.program_id(0).to(tl.int64) * ROWS
    r, k = tl.arange(0, ROWS)[:, None], tl.arange(0, CLASSES)[None, :]
    known = first + r < count
    here, inside = first * classes + (r * classes + k), known & (k < classes)
    z, in_soft, in_log = _load(soft, here, inside), _load(a, here, inside), _load(b, here, inside)
    centre = tl.sum(z * in_soft + in_log, 1, keep_dims=True)
    rate = 1.0 / tl.load(temperatures + (first + r) * STEP, known, other=1.0).to(z.dtype)
    tl.store(out + here, (z * (in_soft - centre) + in_log) * rate, inside)


@triton.jit
def _centres(soft, a, b, centres, classes, SIZE: constexpr):
    row, part = tl.program_id(0), tl.program_id(1)
    k = part * SIZE + tl.arange(0, SIZE)
    here, inside = row.to(tl.int64) * classes + k, k < classes
    sums = tl.sum(_load(soft, here, inside) * _load(a, here, inside) + _load(b, here, inside), 0)
    tl.store(centres + row * tl.num_programs(1) + part, sums)


@triton.jit
def _backward_cut_rows(
    soft, a, b, temperatures, centres, out, classes, STEP: constexpr, SIZE: constexpr, PIECES: constexpr
):
    row, part = tl.program_id(0), tl.program_id(1)
    k, p = part * SIZE + tl.arange(0, SIZE), tl.arange(0, PIECES)
    here, inside = row.to(tl.int64) * classes + k, k < classes
    centre = tl.sum(_load(centres, row * tl.num_programs(1) + p, p < tl.num_programs(1)), 0)
    z, in_log = _load(soft, here, inside), _load(b, here, inside)
    rate = 1.0 / tl.load(temperatures + row * STEP).to(z.dtype)
    tl.store(out + here, (z * (_load(a, here, inside) - centre) + in_log) * rate, inside)


# ---- launches ------------------------------------------------------------------------------------------------------


@lru_cache
def works() -> bool:
    """Whether Triton finds a GPU, and what it needs to start kernels there: a C compiler, for one."""
    try:
        triton.runtime.driver.active.get_current_target()
    except Exception:
        return False
    return hasattr(tl, "gather")  # since Triton 3.3, which PyTorch 2.7 brings


def sample(logits: Tensor, temperature: Tensor, seed: Tensor, also: str) -> tuple[Tensor, Tensor]:
    """The operator `relaxed_sample`."""
    soft = torch.empty_like(logits, memory_format=torch.contiguous_format)
    other = torch.empty_like(soft) if also else None
    hard, log = (None, other) if also == "log" else (other, None)
    _fill(logits, temperature, seed, soft, hard, log, also == "straight")
    return soft, logits.new_empty(0) if other is None else other


def choose(logits: Tensor, seed: Tensor) -> Tensor:
    """The operator `one_hot_sample`."""
    hard = torch.empty_like(logits, memory_format=torch.contiguous_format)
    _fill(logits, None, seed, None, hard, None, False)
    return hard


def _fill(
    logits: Tensor,
    temperature: Tensor | None,
    seed: Tensor,
    soft: Tensor | None,
    hard: Tensor | None,
    log: Tensor | None,
    plain: bool,
) -> None:
    if not logits.numel():
        return
    logits, seed, classes, unit = logits.contiguous(), seed.contiguous(), logits.shape[-1], logits.element_size()
    temperature, step = (None, 0) if temperature is None else _temperatures(temperature, logits)
    count = logits.numel() // classes
    group = count // seed.numel()
    tiles = _tiles(classes, group, seed.numel(), unit)
    with torch.cuda.device_of(logits):
        if tiles is not None:
            programs = triton.cdiv(count, tiles.rows) if tiles.noise == "each" else tiles.tiles * seed.numel()
            options = {"STEP": step, "PLAIN": plain, "NOISE": tiles.noise, "ROWS": tiles.ROWS, "CLASSES": tiles.CLASSES}
            options["num_warps"] = _warps(tiles.ROWS * tiles.CLASSES * unit)
            parts = logits, temperature, seed, soft, hard, log, classes, group, count, tiles.tiles, tiles.rows
            _sample_rows[(programs,)](*parts, **options)
            return
        size = _TILE // unit
        grid = count, triton.cdiv(classes + _before(classes, group), size)
        tops, totals = (None, None) if soft is None else logits.new_empty((2, *grid))
        mosts, bests = (None, None) if hard is None else (logits.new_empty(grid), seed.new_empty(grid))
        options = {"STEP": step, "PLAIN": plain, "SIZE": size, "num_warps": _warps(_TILE)}
        known = logits, temperature, seed, tops, totals, mosts, bests
        _sample_pieces[grid](*known, classes, group, **options)
        options["PIECES"] = triton.next_power_of_2(grid[1])
        _sample_cut_rows[grid](*known, soft, hard, log, classes, group, **options)


def backward(soft: Tensor, a: Tensor | None, b: Tensor | None, temperature: Tensor) -> Tensor:
    """The operator `relaxed_sample_backward`."""
    out = torch.empty_like(soft, memory_format=torch.contiguous_format)
    if not out.numel():
        return out
    parts = [None if x is None else x.contiguous() for x in (soft, a, b)]
    temperature, step = _temperatures(temperature, out)
    classes, unit = out.shape[-1], out.element_size()
    count, width = out.numel() // classes, triton.next_power_of_2(classes)
    with torch.cuda.device_of(out):
        if width * unit <= _LARGE:
            size = _size(max(_TILE // unit, width), width, count * width)
            options = {"STEP": step, "ROWS": size // width, "CLASSES": width, "num_warps": _warps(size * unit)}
            _backward_rows[(triton.cdiv(count, size // width),)](*parts, temperature, out, classes, count, **options)
            return out
        pieces = triton.cdiv(classes, _TILE // unit)
        centres = out.new_empty(count, pieces)
        options = {"SIZE": _TILE // unit, "num_warps": _warps(_TILE)}
        _centres[count, pieces](*parts, centres, classes, **options)
        options |= {"STEP": step, "PIECES": triton.next_power_of_2(pieces)}
        _backward_cut_rows[count, pieces](*parts, temperature, centres, out, classes, **options)
    return out


def _temperatures(temperature: Tensor, like: Tensor) -> tuple[Tensor, int]:
    """One temperature, or those of all rows; and the step from one row's to the next."""
    temperature = temperature.to(like.device, non_blocking=True)
    return (temperature, 0) if temperature.numel() == 1 else (temperature.expand(like.shape[:-1]).contiguous(), 1)


class _Tiles(NamedTuple):
    """Tiles of ROWS x CLASSES elements, of which the first `rows` are used; `tiles` of them to a seed."""

    noise: str
    tiles: int
    rows: int
    ROWS: int
    CLASSES: int


@lru_cache(maxsize=1024)
def _tiles(classes: int, group: int, seeds: int, unit: int) -> _Tiles | None:
    """How `seeds` groups of rows fit into tiles; None if a row does not."""
    width = triton.next_power_of_2(classes)
    work = group * seeds * width
    if group * classes <= _LANES:  # no counter would have a second element
        rows = _size(max(_TILE // unit, width), width, work) // width
        return _Tiles("each", 0, rows, rows, width)
    whole = max(_BLOCK, width * triton.next_power_of_2(group))  # for all rows of a seed
    # the first block of a tile begins with its first row, or with what is before that
    least = min(whole, max(_BLOCK, width) if width == classes else 2 * max(_BLOCK, width))
    if least * unit > _LARGE:
        return None
    most = min(whole, max(_TILE // unit, least if width == classes else min(2 * least, _LARGE // unit)))
    size = _size(most, least, work)
    rows = size // width
    if size < whole and rows * classes + _before(rows * classes, group) > size:
        rows = (size - _BLOCK) // classes
    noise = "filled" if width == classes and classes % 16 == 0 else "dealt"
    return _Tiles(noise, triton.cdiv(group, rows), rows, size // width, width)


def _size(most: int, least: int, work: int) -> int:
    """The size of a tile: smaller than `most` if there are few."""
    while most > max(least, _LANES) and work < _PROGRAMS * most:
        most //= 2
    return most


def _before(step: int, count: int) -> int:
    """The most elements before one of `count` places, a step apart, in its block."""
    return 0 if count == 1 else _BLOCK - gcd(step, _BLOCK)


def _warps(size: int) -> int:
    return min(16, max(1, size // 2048))
