"""The compiled log-density against its definition in plain torch: values, derivatives, and every way of a call."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from test_choice import random
from test_sampler import quiet
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacrev, vmap
from torch.testing import assert_close

from softhot.kernels.density import log_density, log_density_reference

INF = math.inf
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
SHAPES = [(1,), (5, 1), (3, 2), (300, 3), (2, 3, 341), (4, 1024), (3, 1025)]
Call = tuple[Tensor, Tensor, Tensor]


def call(*shape: int) -> Call:
    """Points of the simplex, logits, and a temperature for each row."""
    z, logits = random(*shape, seed=1).log_softmax(-1), 3 * random(*shape, seed=2)
    return z, logits, torch.linspace(0.1, 3.0, math.prod(shape[:-1]), dtype=torch.float64).reshape(shape[:-1])


def results(f: Callable[..., Tensor], given: Call, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The value, and the gradients of a weighted sum."""
    inputs = [x.to(dtype).requires_grad_() for x in given]
    value = f(*inputs)
    weights = torch.linspace(1, 2, value.numel(), dtype=dtype).reshape(value.shape)
    return [value.detach(), *torch.autograd.grad(value, inputs, weights)]


@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_is_the_definition_but_for_rounding(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """In single precision, no farther from it than the definition is when it is computed in single precision."""
    given = call(*shape)
    exact = results(log_density_reference, tuple(x.to(dtype).double() for x in given))  # type: ignore[arg-type]
    kernel, plain = results(log_density, given, dtype), results(log_density_reference, given, dtype)
    scale = shape[-1] * max((1 + given[2].max()) * given[0].abs().max(), given[1].abs().max())  # of what is summed
    for mine, theirs, truth in zip(kernel, plain, exact, strict=True):
        assert mine.dtype == dtype
        error, allowed = (mine - truth).abs().max(), (theirs - truth).abs().max()
        assert error <= allowed + 32 * torch.finfo(dtype).eps * scale


@each_dtype
def test_rows_of_every_kind(dtype: torch.dtype) -> None:
    """Impossible classes, points on the boundary where the density is infinite, zero or neither, and outside."""
    z, logits, t = call(2000, 4)
    choose = torch.Generator().manual_seed(0)
    z, logits = (x.masked_fill(torch.rand(x.shape, generator=choose) < 0.3, -INF) for x in (z, logits))
    z[1000:][logits[1000:] == -INF] = -INF
    logits[0], z[1, 0], logits[2, 1], z[3] = -INF, math.nan, math.nan, -INF
    t[::2] = torch.tensor([0.5, 1.0, 2.0, 3.0]).repeat(250).double()  # where vanishing entries can balance
    kernel, plain = (results(f, (z, logits, t), dtype) for f in (log_density, log_density_reference))
    value = plain[0]
    assert all(bool(found.any()) for found in (value == INF, value == -INF, value.isfinite(), value.isnan()))
    assert torch.equal(kernel[0].isnan(), value.isnan())
    for mine, theirs in zip(kernel, plain, strict=True):
        assert_close(mine[3:], theirs[3:], equal_nan=True, rtol=1e-4 if dtype == torch.float32 else 1e-10, atol=1e-4)


def test_an_error_of_the_kernel_would_be_seen() -> None:
    given = call(300, 3)
    for wrong in (
        lambda z, x, t: log_density(z, x, 1.0001 * t),
        lambda z, x, t: log_density(z, x.detach(), t) + 0 * x[..., 0],
    ):
        with pytest.raises(AssertionError):
            assert_close(results(wrong, given), results(log_density_reference, given), rtol=1e-6, atol=1e-6)


def test_the_layout_and_the_shape_of_the_temperature_do_not_matter() -> None:
    z, logits, t = call(4, 5, 3)
    for heat in (0.7, torch.tensor(0.7), t[:, :1], t[0], t):
        full = torch.as_tensor(heat, dtype=torch.float64).expand(4, 5).contiguous()
        expected = log_density(z, logits, full)
        assert_close(log_density(z.mT.contiguous().mT, logits, heat), expected)
        assert_close(log_density(z, logits[:1].expand(4, 5, 3), heat), log_density(z, logits[:1].repeat(4, 1, 1), full))


def test_threads_change_nothing() -> None:
    given = call(30_000, 3)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(log_density, given))
    finally:
        torch.set_num_threads(1)
    assert all(map(torch.equal, found[0] + found[0], found[1] + found[2]))


@quiet
def test_derivatives_of_every_order_and_mode() -> None:
    given = tuple(x.requires_grad_() for x in call(2, 3))
    assert gradcheck(log_density, given, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(log_density, given)


@quiet
def test_transforms_and_compilers() -> None:
    z, logits, t = call(2, 3, 4)
    expected = results(log_density, (z, logits, t))
    assert_close(vmap(log_density)(z, logits, t), expected[0])
    assert_close(vmap(log_density, (None, 0, None))(z[0], logits, t[0])[1], log_density(z[0], logits[1], t[0]))
    weights = torch.linspace(1, 2, 6).reshape(2, 3).double()

    def total(*given: Tensor) -> Tensor:
        return (weights * log_density(*given)).sum()

    assert_close(list(grad(total, (0, 1, 2))(z, logits, t)), expected[1:])
    assert_close(jacrev(total, 1)(z, logits, t), expected[2])
    compiled = torch.compile(log_density, fullgraph=True, backend="aot_eager")
    assert_close(results(compiled, (z, logits, t)), expected)
