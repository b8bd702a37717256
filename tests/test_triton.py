"""The kernels for GPUs compute what the plain-torch reference does.

They run in Triton's interpreter, on the CPU; on a GPU, with TRITON_INTERPRET=0 in the environment.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import product
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

from softhot.kernels import routes, sampler
from softhot.kernels.philox import philox

gpu: Any = pytest.importorskip("softhot.kernels.sampler_triton")
triton, tl = gpu.triton, gpu.tl
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, where a GPU has none
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"),
]

# name: shape of the seeds, and the rest of that of the logits
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "one class": ((), (5, 1)),
    "few elements": ((), (7, 10)),
    "no row but one": ((), (300,)),
    "few elements to each of many seeds": ((60,), (3, 4)),
    "rows that do not fill a tile": ((), (700, 10)),
    "rows that do": ((), (100, 64)),
    "short rows that do": ((), (600, 4)),
    "several seeds": ((2, 2), (40, 30)),
    "long rows": ((2,), (3, 1500)),
    "the longest row": ((), (1, 8192)),
    "rows that are cut": ((2,), (2, 4100)),
}
if DEVICE == "cuda":
    CASES |= {"a million classes": ((), (3, 1_000_000)), "many rows": ((), (100_000, 10))}
DTYPES = {"float32": (torch.float32, 2e-5), "float64": (torch.float64, 1e-13)}  # and the rounding of log z

cases = pytest.mark.parametrize(("groups", "rest"), CASES.values(), ids=CASES)
dtypes = pytest.mark.parametrize(("dtype", "rounding"), DTYPES.values(), ids=DTYPES)


def logits_of(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """With impossible classes; and rows without a possible class, with an infinite one, and with NaN."""
    logits = 3 * torch.randn(shape, dtype=dtype, device=DEVICE)
    if shape[-1] > 1:
        rows = logits.view(-1, shape[-1])
        rows[:, 1::3] = -math.inf
        for row, value in zip(rows[2:], (math.nan, -math.inf, math.inf), strict=False):
            row[1:] = value
            row[0] = value if value == -math.inf else 0
    return logits


def seeds_of(groups: tuple[int, ...]) -> Tensor:
    return torch.randint(2**63 - 1, groups, device=DEVICE)


def temperatures_of(shape: tuple[int, ...], which: str) -> Tensor:
    """One, or one for each of the rows, or for some of them, in another dtype."""
    batch = {"one": (), "all": shape[:-1], "some": shape[-2:-1]}[which]
    return torch.rand(batch, device=DEVICE, dtype=torch.float64 if which == "all" else torch.float32) + 0.5


@dtypes
@cases
def test_samples(groups: tuple[int, ...], rest: tuple[int, ...], dtype: torch.dtype, rounding: float) -> None:
    shape = groups + rest
    logits, seed = logits_of(shape, dtype), seeds_of(groups)
    for also, which in zip(("", "log", "hard", "straight"), ("one", "all", "some", "one"), strict=True):
        temperature = temperatures_of(shape, which)
        soft, other = gpu.sample(logits, temperature, seed, also)
        soft_expected, expected = sampler.sample_reference(logits.double(), temperature.double(), seed, also)
        assert soft.dtype == dtype
        same(soft.log() if also != "log" else soft, soft_expected.log() if also != "log" else soft_expected, rounding)
        same(other, expected, rounding if also == "log" else 0)
        sums = soft[~soft.isnan().any(-1)].double().sum(-1)
        assert not len(sums) or (sums - 1).abs().max() < 8 * torch.finfo(dtype).eps
    same(gpu.choose(logits, seed), sampler.largest(sampler._scores(logits.double(), seed)), 0)


@dtypes
@cases
def test_gradients(groups: tuple[int, ...], rest: tuple[int, ...], dtype: torch.dtype, rounding: float) -> None:
    shape = groups + rest
    soft = torch.rand(shape, dtype=dtype, device=DEVICE)
    a, b = torch.randn((2, *shape[::-1]), dtype=dtype, device=DEVICE).permute(0, *range(len(shape), 0, -1))
    for which, parts in zip(("one", "all", "some"), ((a, b), (a, None), (None, b)), strict=True):
        temperature = temperatures_of(shape, which)
        expected = sampler._backward_reference(
            soft.double(), *(None if x is None else x.double() for x in parts), temperature.double()
        )
        actual = gpu.backward(soft, *parts, temperature)
        assert actual.dtype == dtype
        same(actual, expected, rounding * float(expected.abs().max()))


def same(actual: Tensor, expected: Tensor, rounding: float) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=rounding, equal_nan=True)


@dtypes
def test_ties_go_to_the_first(dtype: torch.dtype, rounding: float) -> None:
    for classes in (6, 64, 4100):
        logits = torch.full((2, classes), 1e18, dtype=dtype, device=DEVICE)
        logits[:, 0] = 0
        for hard in (gpu.choose(logits, seeds_of(())), gpu.sample(logits, torch.ones(()), seeds_of(()), "hard")[1]):
            assert hard[:, 1].tolist() == [1, 1]
            assert hard.sum() == 2


def test_samples_of_nothing() -> None:
    for shape in ((0, 3), (2, 0, 3)):
        logits = torch.zeros(shape, device=DEVICE)
        assert gpu.sample(logits, torch.ones(()), seeds_of(()), "log")[1].shape == shape
        assert gpu.choose(logits, seeds_of(())).shape == shape
        assert gpu.backward(logits, logits, None, torch.ones(())).shape == shape


# ---- random numbers


@triton.jit
def store_words(seeds: Any, blocks: Any, each: Any, first: Any, STREAM: tl.constexpr) -> None:
    i = tl.arange(0, 2048)
    seed, counter = tl.load(seeds), (first // 4).to(tl.uint32) + tl.arange(0, 512).to(tl.uint32)
    tl.store(blocks + i, gpu._words(seed, counter, STREAM).to(tl.int64))
    tl.store(each + i, gpu._word(seed, first + i, STREAM).to(tl.int64))


@triton.jit
def store_noise(high: Any, low: Any, noise: Any, SIZE: tl.constexpr) -> None:
    i = tl.arange(0, SIZE)
    high, low = tl.load(high + i).to(tl.uint32), tl.load(low + i).to(tl.uint32)
    tl.store(noise + i, gpu._gumbel(high, low, noise.dtype.element_ty))


@pytest.mark.parametrize("stream", [0, 1])
def test_words(stream: int) -> None:
    for seed, first in ((0, 0), (2**63 - 2, 1024), (0x123456789ABCDEF, 1024 * (2**22 - 2))):
        blocks, each = torch.zeros((2, 2048), dtype=torch.int64, device=DEVICE)
        store_words[(1,)](torch.tensor(seed, device=DEVICE), blocks, each, first, stream)
        i = first + torch.arange(2048)
        words = torch.stack(philox((i >> 10 << 8) + (i & 255), stream, torch.tensor(seed)))
        expected = words.gather(0, (i >> 8 & 3)[None])[0]
        assert torch.equal(blocks.cpu(), expected)
        assert torch.equal(each.cpu(), expected)


@dtypes
def test_noise(dtype: torch.dtype, rounding: float) -> None:
    """Right to rounding from one end of the 63 bits to the other."""
    turn = int(0.29 * 2**31)
    highs = (0, 1, 2**16, turn - 1, turn, 2**30, 2**31 - 2**16, 2**31 - 2, 2**31 - 1, 1_357_471_234)
    high, low = (torch.tensor(x, device=DEVICE) for x in zip(*product(highs, (0, 1, 2**31, 2**32 - 1)), strict=True))
    noise = torch.zeros(64, dtype=dtype, device=DEVICE)
    pad = (0, 64 - len(high))
    store_noise[(1,)](torch.nn.functional.pad(high, pad), torch.nn.functional.pad(low, pad), noise, 64)
    with mpmath.workdps(60):
        for one, other, actual in zip(high.tolist(), low.tolist(), noise.tolist(), strict=False):
            v = (mpmath.mpf(one * 2**32 + other) + 0.5) / 2**63
            expected = float(-mpmath.log(-mpmath.log1p(-v)))
            assert abs(actual - expected) < 4 * torch.finfo(dtype).eps * max(1, abs(expected))


def test_noise_near_the_ends() -> None:
    """One element in 16,000 needs the second stream in float32: here, tiles that have one and do not."""
    seeds = torch.arange(400, device=DEVICE)
    words = torch.stack(philox(torch.arange(256)[:, None], 0, seeds.cpu()))
    tail = (((words >> 1) + 2**16) & (2**31 - 1)) < 2**17
    seeds = seeds[tail.any(0).any(0).argsort(descending=True)[:24]]  # 22 in expectation
    logits = torch.zeros((24, 16, 64), device=DEVICE)
    log = gpu.sample(logits, torch.ones(()), seeds, "log")[1]
    same(log, sampler.sample_reference(logits.double(), torch.ones(()), seeds, "log")[1], 1e-5)


# ---- launches


def test_tiles_hold_all_rows_and_their_noise() -> None:
    for classes, group, seeds, unit in product(
        (1, 2, 3, 8, 10, 16, 30, 33, 64, 100, 255, 256, 257, 500, 1000, 1024, 1025, 2047, 2048, 3000, 4096, 4097, 8192),
        (1, 2, 3, 25, 26, 31, 100, 1000, 100_000),
        (1, 3, 1000),
        (4, 8),
    ):
        tiles = gpu._tiles(classes, group, seeds, unit)
        if tiles is None:
            assert classes * unit > 2**13
            continue
        size = tiles.ROWS * tiles.CLASSES
        assert size * unit <= 2**15
        assert classes <= tiles.CLASSES
        if tiles.noise == "each":
            assert group * classes <= 256
            continue
        assert tiles.rows <= tiles.ROWS
        assert tiles.rows * tiles.tiles >= group
        for tile in range(min(tiles.tiles, 1024)):
            first = tile * tiles.rows
            before = first * classes % 1024
            assert before + min(tiles.rows, group - first) * classes <= size
            assert tiles.noise == "dealt" or (before == 0 and classes == tiles.CLASSES)


def test_operators_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """They use the kernels where Triton works, and the reference where it does not, or is not there."""
    logits, t, seed = torch.randn(3, 5), torch.tensor(0.5), torch.tensor(7)
    a = torch.randn(3, 5)

    def call() -> tuple[Tensor, ...]:
        soft, log = sampler._draw_gpu(logits, t, seed, "log")
        return soft, log, sampler._choose_gpu(logits, seed), sampler._backward_gpu(soft, a, None, t)

    def without(*_: Any) -> Any:
        raise AssertionError("not to be called")

    names = "sample", "choose", "backward"
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "works", lambda: False)
        for name in names:
            patch.setattr(gpu, name, without)
        reference = call()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "triton", None)
        patch.delitem(sys.modules, gpu.__name__)
        routes.compiled.cache_clear()
        missing = call()
        assert routes.compiled("sampler_triton") is None
    routes.compiled.cache_clear()
    for x, y in zip(reference, missing, strict=True):
        assert torch.equal(x, y)
    if DEVICE == "cpu":
        monkeypatch.setattr(gpu, "works", lambda: True)
        for name in ("sample_reference", "largest", "_backward_reference"):
            monkeypatch.setattr(sampler, name, without)
        for x, y in zip(reference, call(), strict=True):
            same(x, y, 1e-5)


@pytest.mark.skipif(DEVICE == "cpu", reason="there is no GPU")
def test_on_the_gpu() -> None:
    """From the public functions to the kernels, without waiting for the GPU in between."""
    from softhot.functional import gumbel_softmax, one_hot_sample

    logits = torch.randn(40, 30, device="cuda", requires_grad=True)
    generator = torch.Generator("cuda").manual_seed(0)

    def call() -> None:
        gumbel_softmax(logits, 0.7, generator=generator).square().sum().backward()
        gumbel_softmax(logits, 0.7, True, generator=generator).sum().backward()
        one_hot_sample(logits, generator=generator)

    call()  # the first compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_triton_is_imported_when_needed() -> None:
    code = "import softhot.distributions, softhot.functional, sys; print('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_kernels_compile_for_a_gpu() -> None:
    """The interpreter lets pass what the compiler does not. This needs no GPU."""
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    process = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]


def compile_kernels() -> None:
    rows = {"STEP": 1, "PLAIN": False, "ROWS": 128, "CLASSES": 16}
    compile_kernel(gpu._sample_rows, "fp32", NOISE="dealt", **rows)
    compile_kernel(gpu._sample_rows, "fp32", NOISE="each", temperatures=None, soft=None, log=None, **rows)
    compile_kernel(gpu._sample_rows, "fp64", NOISE="filled", log=None, **rows)
    cut = {"STEP": 0, "PLAIN": False, "SIZE": 2048}
    compile_kernel(gpu._sample_pieces, "fp32", **cut)
    compile_kernel(gpu._sample_cut_rows, "fp32", PIECES=4, **cut)
    compile_kernel(gpu._backward_rows, "fp32", STEP=1, ROWS=128, CLASSES=16, a=None)
    compile_kernel(gpu._centres, "fp64", SIZE=2048, b=None)
    compile_kernel(gpu._backward_cut_rows, "fp64", STEP=0, SIZE=2048, PIECES=4)


def compile_kernel(kernel: Any, kind: str, **constants: Any) -> None:
    numbers = {"classes": "i32", "group": "i32", "count": "i32", "tiles": "i32", "rows": "i32"}
    others = {**numbers, "seeds": "*i64", "bests": "*i64"}
    signature = {x: "constexpr" if x in constants else others.get(x, f"*{kind}") for x in kernel.arg_names}
    source = triton.compiler.ASTSource(kernel, signature, constants)
    target = triton.backends.compiler.GPUTarget("cuda", 80, 32)
    assert triton.compile(source, target=target).asm["cubin"]


if __name__ == "__main__":
    compile_kernels()
