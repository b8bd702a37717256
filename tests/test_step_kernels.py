"""The compiled likelihood of pixels and divergence of logits against their definitions in plain torch."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from test_choice import random
from test_sampler import quiet
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap
from torch.testing import assert_close

import softhot
from softhot.kernels.bernoulli import binary, log_likelihood, log_likelihood_reference
from softhot.kernels.divergence import divergence, divergence_reference

INF, NAN = math.inf, math.nan
SHAPES = [(1,), (5, 1), (3, 2), (7, 300, 3), (2, 3, 341), (2, 4, 1025)]
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


class Kernel(NamedTuple):
    """A function of logits and of what is beside every draw of them: binary pixels, or the prior's logits."""

    fast: Callable[[Tensor, Tensor], Tensor]
    reference: Callable[[Tensor, Tensor], Tensor]
    beside: Callable[[Tensor], Tensor]
    learned: bool


KERNELS = {
    "likelihood": Kernel(
        lambda logits, x: log_likelihood(x, logits),
        lambda logits, x: log_likelihood_reference(x, logits),
        lambda x: (x > 0).to(x.dtype),
        learned=False,
    ),
    "divergence": Kernel(divergence, divergence_reference, lambda x: x, learned=True),
}
each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))


def call(kernel: Kernel, *shape: int) -> tuple[Tensor, Tensor]:
    """Logits, whose first dimension is one of draws, and what is beside every draw."""
    return 4 * random(*shape, seed=1), kernel.beside(2 * random(*shape[-2:], seed=2))


def results(kernel: Kernel, f: Callable[..., Tensor], given: tuple[Tensor, Tensor]) -> list[Tensor]:
    """The value, and the gradients of a weighted sum."""
    inputs = [x.clone().requires_grad_(kernel.learned or x is given[0]) for x in given]
    value = f(*inputs)
    weights = torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
    return [value.detach(), *torch.autograd.grad(value, [x for x in inputs if x.requires_grad], weights)]


@each_kernel
@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_is_the_definition_but_for_rounding(kernel: Kernel, shape: tuple[int, ...], dtype: torch.dtype):
    """In single precision, no farther from it than the definition is when it is computed in single precision."""
    given = tuple(x.to(dtype) for x in call(kernel, *shape))
    exact = results(kernel, kernel.reference, tuple(x.double() for x in given))  # type: ignore[arg-type]
    found, plain = (results(kernel, f, given) for f in (kernel.fast, kernel.reference))  # type: ignore[arg-type]
    scale = math.prod(shape[:1] if len(shape) > 2 else ()) * shape[-1] * max(x.abs().max() for x in given)
    for mine, theirs, truth in zip(found, plain, exact, strict=True):
        assert mine.dtype == dtype
        assert (mine - truth).abs().max() <= (theirs - truth).abs().max() + 8 * torch.finfo(dtype).eps * scale


@each_kernel
def test_the_kernel_is_what_runs(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an error of it would be seen."""
    logits, beside = call(kernel, 7, 300, 3)
    assert not torch.equal(kernel.fast(logits, beside), kernel.reference(logits, beside))  # other roundings
    with pytest.raises(AssertionError):
        assert_close(kernel.fast(1.000001 * logits, beside), kernel.reference(logits, beside), rtol=1e-9, atol=1e-9)


@each_dtype
def test_impossible_classes_and_what_is_not_a_number(dtype: torch.dtype) -> None:
    choose = torch.Generator().manual_seed(0)
    logits, prior = (
        x.to(dtype).masked_fill(torch.rand(x.shape, generator=choose) < 0.3, -INF)
        for x in (random(500, 6, 4, seed=1), random(6, 4, seed=2))
    )
    prior[0], prior[1] = 0.0, torch.tensor([-INF, 0.0, 1.0, 2.0])
    logits[0, :, 1], logits[1], logits[2, :, 0] = NAN, -INF, INF
    found, plain = (results(KERNELS["divergence"], f, (logits, prior)) for f in (divergence, divergence_reference))
    value = plain[0]
    assert all(bool(each.any()) for each in (value == INF, value.isfinite(), value.isnan()))
    assert_close(found[0], value, equal_nan=True)
    assert_close(found[1][3:], plain[1][3:], equal_nan=True)
    assert found[1][:3].isnan().any(-1).equal(plain[1][:3].isnan().any(-1))
    whole = logits[3:][(logits[3:] > -INF).any(-1).all(-1)]  # to the prior there is a gradient where no row is lost
    kept = [results(KERNELS["divergence"], f, (whole, prior))[2] for f in (divergence, divergence_reference)]
    assert_close(kept[0], kept[1])
    assert kept[0].isfinite().all()


def test_pixels_far_from_the_threshold_keep_their_digits() -> None:
    logits = torch.tensor([[-30.0], [30.0], [-100.0], [800.0], [-800.0]], dtype=torch.float64)
    expected = [-math.exp(-30.0), -30.0 - math.exp(-30.0), -math.exp(-100.0), -800.0, 0.0]
    found = log_likelihood(torch.zeros(1, dtype=torch.float64), logits)
    assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


@each_dtype
@pytest.mark.parametrize("place", [0, 37_000, 99_999])
@pytest.mark.parametrize("pixel", [0.5, -1.0, 2.0, NAN, INF, 1e-30])
def test_one_grey_pixel_is_found(dtype: torch.dtype, place: int, pixel: float) -> None:
    x = torch.arange(100_000).remainder(2).to(dtype).reshape(100, 1000)
    assert binary(x)
    x.view(-1)[place] = pixel
    assert not binary(x)


@each_kernel
def test_the_layout_and_what_is_repeated_do_not_matter(kernel: Kernel) -> None:
    logits, beside = call(kernel, 4, 5, 3)
    full = kernel.reference(logits, beside.expand(4, 5, 3))
    for each in (beside, beside.mT.contiguous().mT, beside.expand(4, 5, 3), beside[None]):
        assert_close(kernel.fast(logits, each), full)
    assert_close(kernel.fast(logits[:, :1], beside), kernel.reference(logits[:, :1], beside))
    assert_close(kernel.fast(logits.mT.contiguous().mT, beside[0]), kernel.reference(logits, beside[0]))
    assert kernel.fast(logits[:0], beside).shape == (0, 5)


@each_kernel
def test_threads_change_nothing(kernel: Kernel) -> None:
    given = call(kernel, 30, 1000, 3)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(kernel, kernel.fast, given))
    finally:
        torch.set_num_threads(1)
    assert all(map(torch.equal, found[0] + found[0], found[1] + found[2]))


@quiet
@each_kernel
def test_derivatives_of_every_order_and_mode(kernel: Kernel) -> None:
    logits, beside = call(kernel, 2, 2, 3)
    given = (logits.requires_grad_(), beside.requires_grad_(kernel.learned))
    assert gradcheck(kernel.fast, given, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(kernel.fast, given)


@quiet
@each_kernel
def test_transforms_and_compilers(kernel: Kernel) -> None:
    logits, beside = call(kernel, 2, 3, 4)
    value, slope, *_ = results(kernel, kernel.fast, (logits, beside))
    weights = torch.linspace(1, 2, 6).reshape(2, 3).double()
    assert_close(vmap(kernel.fast, (0, None))(logits, beside), value)
    assert_close(grad(lambda x: (weights * kernel.fast(x, beside)).sum())(logits), slope)
    assert_close(
        jvp(lambda x: kernel.fast(x, beside), (logits,), (logits,))[1],
        (0 * value + slope.mul(logits).sum(-1) / weights),
    )
    compiled = torch.compile(kernel.fast, fullgraph=True, backend="aot_eager")
    assert_close(results(kernel, compiled, (logits, beside))[:2], [value, slope])


def test_a_process_that_compiles_a_kernel_rounds_as_one_that_finds_it_compiled(tmp_path):
    script = """
import sys, torch
from softhot.kernels.divergence import divergence
torch.manual_seed(0)
logits = torch.randn(100, 30, 10).requires_grad_()
divergence(logits, torch.zeros(30, 10)).square().sum().backward()
sys.stdout.buffer.write(logits.grad.numpy().tobytes())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    compiling, loading = (
        subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout
        for _ in range(2)
    )
    assert len(loading) == 4 * 100 * 30 * 10
    assert compiling == loading


def test_a_kernel_is_compiled_again_when_what_it_calls_has_changed(tmp_path):
    package = Path(softhot.__file__).parent
    shutil.copytree(package, tmp_path / "softhot", ignore=shutil.ignore_patterns("__pycache__"))
    script = "import torch; from softhot.kernels import bernoulli; print(bernoulli.binary(torch.tensor([[0.5]])))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    for kept in (1, 1, 2):
        if kept == 2:
            with (tmp_path / "softhot" / "kernels" / "bernoulli_cpu.py").open("a") as file:
                file.write("# changed\n")
        told = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
        assert told.stdout == b"False\n"
        assert len(list((tmp_path / "kept").rglob("compiled.bernoulli_cpu_grey_pieces_float32*.nbi"))) == kept
