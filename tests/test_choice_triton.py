"""The exact engine's kernels for GPUs compute what those for the CPU do.

They run in Triton's interpreter, on the CPU; on a GPU, with TRITON_INTERPRET=0 in the environment.
"""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from softhot.kernels import choice_launch, choice_reference
from softhot.kernels.choice import Affine, contrast, expected, probabilities
from softhot.kernels.choice_tables import Tables, tables
from softhot.kernels.noise import NOISES, Noise

pytest.importorskip("triton", minversion="3.3", reason="older interpreters convert as NumPy warns of")
gpu: Any = pytest.importorskip("softhot.kernels.choice_triton")
triton = gpu.triton
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, where a GPU has none
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"),
]

LIMIT = {torch.float64: 1e-13, torch.float32: 1e-6}
SCALES = (0.1, 1.0, 6.0)
SIZES = [(3, 1, 1), (3, 2, 7), (3, 1, 50)]  # scales, rows of each, and classes
if DEVICE == "cuda":
    SIZES += [(3, 20, 10), (1, 64, 50_000), (1, 2, 1_000_000)]

noises = pytest.mark.parametrize("noise", NOISES)
dtypes = pytest.mark.parametrize("dtype", LIMIT, ids=str)


@pytest.fixture
def large_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes as long for a large tile as for a small one."""
    if DEVICE == "cpu":
        monkeypatch.setattr(gpu, "_TILE", 2**22)


def random(*shape: int, dtype: torch.dtype, spread: float = 1.0) -> Tensor:
    return (spread * torch.randn(shape, dtype=torch.float64)).to(dtype)


def tables_of(noise: Noise, s: Tensor, m: Tensor) -> Tables:
    return tables(noise, s, m.shape[-1], m.dtype, True)


def flat(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().reshape(-1, x.shape[-1]).to(DEVICE)


def check(noise: Noise, s: Tensor, m: Tensor, other: Tensor | None) -> None:
    """All that is returned, by what it is for: values, and derivatives in everything."""
    limit = LIMIT[m.dtype] * (1 + s.max().item())
    leaves = [x.requires_grad_() for x in (m, s) + (() if other is None else (other,))]
    call = m, other, s[:, None], noise
    wanted, *_ = choice_launch.survey(*(x.detach() if isinstance(x, Tensor) else x for x in call), True, False)
    by_value, by_contrast = torch.randn((2, *m.shape[:-1]), dtype=torch.float64).to(m.dtype)
    values = expected(*call), contrast(*call, Affine(lambda s: 1.0, lambda s, count: 0.0))
    gradients = torch.autograd.grad(values, leaves, (by_value.double(), by_contrast))

    table = tables_of(noise, s.detach(), m)
    rows, chances = gpu.survey(flat(m), flat(other), s.detach(), table, True, True)
    assert chances.dtype == m.dtype
    p, numbers = chances.cpu().double().view(m.shape), rows.cpu().view(*m.shape[:-1], -1).unbind(-1)
    value, top, total, possible, drift, mean, own, sum_ = numbers
    wide = s.detach().clamp_min(1.0)[:, None]
    value = top + wide * value
    close(value, wanted[0], limit)
    close(total, wanted[2], limit)
    close(possible, wanted[3], 0)
    by_all = by_value + possible * by_contrast
    slope = by_all[..., None] * p - by_contrast[..., None]
    change = by_all * (wide * drift + (wide > 1) * (value - mean) / wide)
    if other is not None:
        close(slope, gradients[2], limit)
        slope, change = -s.detach()[:, None, None] * slope, change - by_all * own + by_contrast * sum_
    close(slope, gradients[0], limit)
    close(p.sum(-1), torch.ones(p.shape[:-1]), LIMIT[m.dtype] / 2)
    close(change.sum(-1), gradients[1], limit * m.shape[-1])

    gradient = random(*m.shape, dtype=m.dtype)
    (wanted_curve,) = torch.autograd.grad(probabilities(m, s.detach()[:, None], noise), m, gradient)
    curve = gpu.curve(flat(m), s.detach(), table, flat(gradient))
    assert curve.dtype == m.dtype
    close(curve.view(m.shape), wanted_curve, limit)


def close(actual: Tensor, wanted: Tensor, limit: float) -> None:
    actual, wanted = actual.detach().cpu().double(), wanted.detach().double()
    torch.testing.assert_close(actual, wanted, rtol=limit, atol=limit, equal_nan=True)


@noises
@dtypes
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.usefixtures("large_tiles")
def test_values_and_derivatives(noise: Noise, dtype: torch.dtype, size: tuple[int, int, int]) -> None:
    m = random(*size, dtype=dtype, spread=3.0)
    other = random(*size, dtype=dtype) if noise == "-gumbel" else None
    check(noise, torch.tensor(SCALES[: size[0]], dtype=torch.float64), m, other)


def test_many_tiles_and_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long row of one piece in several tiles, and of several pieces."""
    s = torch.tensor([0.7], dtype=torch.float64)
    for piece, classes in ((4096, 200), (64, 130)):
        monkeypatch.setattr(gpu, "_PIECE", piece)
        monkeypatch.setattr(gpu, "_WIDE", 32)
        m, other = random(1, 1, classes, dtype=torch.float32, spread=3.0), random(1, 1, classes, dtype=torch.float32)
        check("-gumbel", s.clone(), m, other)


def test_windows_hold_what_counts() -> None:
    """Of one class, and of many that are alike, or all but alike."""
    m = torch.zeros(1, 3, 1200)
    m[0, 1, 1:] = -math.inf
    m[0, 2] = random(1200, dtype=torch.float32, spread=0.1)
    s = torch.tensor([0.3], dtype=torch.float64)
    rows, chances = gpu.survey(flat(m), None, s, tables_of("gumbel", s, m), True, False)
    close(rows[:, 0] + rows[:, 1], expected(m[0], None, 0.3, "gumbel"), 1e-6)
    close(chances, probabilities(m[0], 0.3, "gumbel"), 1e-8)
    close(chances.double().sum(-1), torch.ones(3), 1e-6)
    assert chances[1].tolist() == m[0, 1].exp().tolist()


ODD = {
    "some impossible": [-math.inf, 0.5, 1.0, -math.inf, 2.0],
    "one possible": [-math.inf, -math.inf, -7.0, -math.inf, -math.inf],
    "none possible": [-math.inf] * 5,
    "infinite": [0.0, 1.0, math.inf, 0.0, -math.inf],
    "not a number": [0.0, math.nan, -math.inf, math.inf, 1.0],
    "far apart": [0.0, -1e30, 1e4, -3e38, 1e4],
}


@pytest.mark.usefixtures("large_tiles")
@pytest.mark.parametrize("piece", [4096, 4])
def test_odd_rows(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_PIECE", piece)
    m, s = torch.tensor([*ODD.values()]).requires_grad_(), torch.tensor([0.7], dtype=torch.float64)
    table = tables_of("gumbel", s, m)
    rows, chances = gpu.survey(flat(m), None, s, table, True, False)
    wanted, *_ = choice_launch.survey(m.detach(), None, 0.7, "gumbel", False, False)
    close(rows[:, 0] + rows[:, 1], wanted[0], 1e-6)
    close(rows[:, 2], wanted[2], 1e-6)
    close(rows[:, 3], wanted[3], 0)
    p = probabilities(m, 0.7, "gumbel")
    close(chances, p, 1e-6)
    gradient = random(*m.shape, dtype=torch.float32)
    close(gpu.curve(flat(m), s, table, flat(gradient)), *torch.autograd.grad(p, m, gradient), 1e-6)


@pytest.mark.usefixtures("large_tiles")
def test_impossible_in_one_of_two() -> None:
    inf = math.inf
    m = torch.tensor([[-inf, 0.0, 1.0, -inf], [-inf, 0.0, 1.0, 2.0], [-inf, 1.0, 2.0, 3.0]]).requires_grad_()
    other = torch.tensor([[-inf, 0.5, 0.3, -inf], [-inf, 0.5, 0.3, -inf], [0.0, 0.3, 0.2, 0.1]])
    s = torch.tensor([1.5], dtype=torch.float64)
    rows, chances = gpu.survey(flat(m), flat(other), s, tables_of("-gumbel", s, m), True, True)
    wanted, *_ = choice_launch.survey(m.detach(), other, 1.5, "-gumbel", False, False)
    close(1.5 * rows[:, 0] + rows[:, 1], wanted[0], 1e-6)
    close(rows[:, 2], wanted[2], 1e-6)
    close(rows[:, 3], wanted[3], 0)
    slope = torch.where(m > -inf, -1.5 * chances.cpu(), 0.0)
    close(slope, *torch.autograd.grad(expected(m, other, 1.5, "-gumbel").sum(), m), 1e-6)


def test_what_is_not_wanted_is_not_there() -> None:
    s = torch.tensor([0.7], dtype=torch.float64)
    m = random(1, 3, dtype=torch.float32)
    table = tables_of("gumbel", s, m)
    rows, chances = gpu.survey(m.to(DEVICE), None, s, table, False, False)
    assert rows.shape == (1, 8)
    assert rows[0, 4:].tolist() == [0.0] * 4
    assert chances.shape == (0,)
    nothing = torch.empty(0, 3, device=DEVICE)
    rows, chances = gpu.survey(nothing, None, s, table, True, False)
    assert (rows.shape, chances.shape) == ((0, 8), (0, 3))
    assert gpu.curve(nothing, s, table, nothing).shape == (0, 3)


def test_tables_are_moved_once_and_kept_no_longer_than_they_are() -> None:
    gc.collect()
    before = len(gpu._KEPT)
    table = tables("gumbel", torch.tensor([0.7, 0.8], dtype=torch.float64), 3, torch.float32)
    assert gpu._moved(table, torch.device(DEVICE)) is gpu._moved(table, torch.device(DEVICE))
    assert len(gpu._KEPT) == before + 1
    del table
    gc.collect()
    assert len(gpu._KEPT) == before


@pytest.mark.parametrize("scales", [torch.tensor(0.7), torch.tensor([0.5, 1.0, 2.0])], ids=["one", "each"])
def test_operators_of_cuda(scales: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """They use the kernels where Triton works, and the reference where it does not."""
    m, other, g = (random(3, 5, dtype=torch.float64).to(DEVICE) for _ in range(3))
    s = scales.to(torch.float64)

    def call() -> tuple[Tensor, ...]:
        rows, chances = choice_launch.gpu_survey(m, other, s, "-gumbel", True, True)
        curve, in_scale = choice_launch.gpu_curve(m, s, "gumbel", g, False)
        probable = choice_launch.gpu_survey(m, None, s, "normal", True, False)[1]
        return rows, chances, curve, in_scale, probable

    monkeypatch.setattr(gpu, "works", lambda: False)
    reference = call()
    monkeypatch.setattr(gpu, "works", lambda: True)
    for name in ("survey", "curve"):
        monkeypatch.setattr(choice_reference, name, None)
    for x, y in zip(reference, call(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)


@pytest.mark.skipif(DEVICE == "cpu", reason="there is no GPU")
@pytest.mark.parametrize("classes", [10, 5000])
def test_nothing_waits_for_the_gpu(classes: int) -> None:
    s, m = torch.tensor([0.7], dtype=torch.float64), torch.randn(40, classes, device="cuda")
    table = tables_of("gumbel", s, m)

    def call() -> None:
        gpu.survey(m, None, s, table, True, True)
        gpu.curve(m, s, table, m)

    call()  # the first compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_kernels_compile_for_a_gpu() -> None:
    """The interpreter lets pass what the compiler does not. This needs no GPU."""
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    process = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]


def compile_kernels() -> None:
    single = {"SHIFT": 6, "PIECE": 4096, "WIDE": 16, "CLASSES": 16, "NODES": 32}
    double = {"SHIFT": 5, "PIECE": 4096, "WIDE": 1024, "CLASSES": 4, "NODES": 128}
    plain = {"other": None, "drift": None, "found": None, "sums": None}
    for architecture in (75, 80, 90, 100, 120):
        compile_kernel(gpu._survey_rows, "fp32", architecture, **plain, **single)
        compile_kernel(gpu._curve_rows, "fp32", architecture, found=None, sums=None, **single)
    one = single | {"WIDE": 1, "CLASSES": 1, "NODES": 1024, "classes": 1}
    compile_kernel(gpu._survey_rows, "fp32", **plain, **one)
    compile_kernel(gpu._curve_rows, "fp32", found=None, sums=None, **one)
    compile_kernel(gpu._survey_rows, "fp32", **single)
    compile_kernel(gpu._survey_rows, "fp64", found=None, sums=None, **double)
    compile_kernel(gpu._curve_rows, "fp64", **double)
    few = {name: double[name] for name in ("SHIFT", "PIECE", "WIDE")}
    compile_kernel(gpu._find_in_pieces, "fp32", found=None, **few)
    compile_kernel(gpu._find_in_pieces, "fp64", other=None, **few)
    compile_kernel(gpu._sum_in_pieces, "fp32", other=None, **single)
    compile_kernel(gpu._sum_in_pieces, "fp64", gradient=None, also=None, **double)


def compile_kernel(kernel: Any, kind: str, architecture: int = 80, **constants: Any) -> None:
    types = dict.fromkeys(("classes", "each", "room", "length", "entries"), "i32") | {"windows": "*i32"}
    types |= dict.fromkeys(("scales", "numbers", "found", "sums"), "*fp64")
    types["out"] = f"*{kind}" if kernel is gpu._curve_rows else "*fp64"
    signature = {x: "constexpr" if x in constants else types.get(x, f"*{kind}") for x in kernel.arg_names}
    source = triton.compiler.ASTSource(kernel, signature, constants)
    target = triton.backends.compiler.GPUTarget("cuda", architecture, 32)
    assert triton.compile(source, target=target).asm["cubin"]


if __name__ == "__main__":
    compile_kernels()
