"""Samples have the law, the shape and the gradient that they promise, from any generator."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import gumbel_softmax as torch_gumbel_softmax
from torch.nn.functional import one_hot

from softhot.functional import (
    gumbel_log_softmax,
    gumbel_softmax,
    log_of,
    one_hot_sample,
    relaxed_mean,
    remember_log,
    straight_through,
    with_gradient_of,
)
from softhot.testing import assert_mean
from tests.integrands import seeded

HARD: dict[str, Callable[..., Tensor]] = {
    "gumbel_softmax, hard": lambda logits, **options: gumbel_softmax(logits, 0.7, True, **options),
    "straight_through": straight_through,
    "one_hot_sample": one_hot_sample,
}
SOFT: dict[str, Callable[..., Tensor]] = {
    "gumbel_softmax": lambda logits, **options: gumbel_softmax(logits, 0.7, **options),
    "gumbel_log_softmax": lambda logits, **options: gumbel_log_softmax(logits, 0.7, **options).exp(),
}
ALL = HARD | SOFT
OF_ANY_DIMENSION = [name for name in ALL if name not in ("one_hot_sample", "gumbel_log_softmax")]
WITH_GRADIENT = [name for name in ALL if name != "one_hot_sample"]

LOGITS = torch.tensor([[0.0, 1.0, -1.0, 2.0], [3.0, 0.0, 0.0, 0.0]])


def samplers(names: Any = ALL) -> Any:
    return pytest.mark.parametrize("sample", [ALL[name] for name in names], ids=list(names))


@samplers()
@pytest.mark.parametrize("contiguous", [True, False])
def test_the_largest_entry_is_that_of_the_class(sample: Callable[..., Tensor], contiguous: bool) -> None:
    logits = LOGITS.repeat(20_000, 1, 1) if contiguous else LOGITS.T.repeat(20_000, 1, 1).mT
    largest = one_hot(sample(logits, generator=seeded()).argmax(-1), 4).float()
    assert_mean(largest, LOGITS.softmax(-1))
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(largest, (LOGITS + torch.tensor([0.2, 0.0, 0.0, 0.0])).softmax(-1))


@samplers(SOFT)
def test_the_mean_is_the_exact_one(sample: Callable[..., Tensor]) -> None:
    draws = sample(LOGITS.expand(20_000, 2, 4), generator=seeded())
    assert_mean(draws, relaxed_mean(LOGITS, 0.7))
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(draws, relaxed_mean(LOGITS, 0.8))


@samplers(HARD)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_hard_samples_are_exactly_one_hot(sample: Callable[..., Tensor], dtype: torch.dtype) -> None:
    draws = sample(torch.randn(500, 30, generator=seeded()).to(dtype), generator=seeded())
    assert draws.dtype == dtype
    assert ((draws == 0) | (draws == 1)).all()
    assert (draws.sum(-1) == 1).all()


@samplers(SOFT)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_of_soft_samples_sum_to_one(sample: Callable[..., Tensor], dtype: torch.dtype) -> None:
    draws = sample(torch.randn(500, 30, generator=seeded()).to(dtype), generator=seeded())
    assert ((draws >= 0) & (draws <= 1)).all()
    assert (draws.double().sum(-1) - 1).abs().max() < 4 * torch.finfo(dtype).eps


def test_dtypes() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert gumbel_softmax(LOGITS.to(dtype)).dtype == dtype
        assert gumbel_log_softmax(LOGITS.to(dtype)).dtype == torch.promote_types(dtype, torch.float32)


@samplers()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_single(sample: Callable[..., Tensor], dtype: torch.dtype) -> None:
    logits = torch.randn(500, 30, generator=seeded()).to(dtype).requires_grad_()
    low, single = (sample(x, generator=seeded()) for x in (logits, logits.float()))
    assert torch.equal(low, single.to(low.dtype))
    if low.requires_grad:
        assert torch.autograd.grad(low.sum(), logits)[0].dtype == dtype


@samplers()
@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64], ids=str)
def test_other_numbers_are_refused(sample: Callable[..., Tensor], dtype: torch.dtype, unchecked: None) -> None:
    with pytest.raises(ValueError, match=r"use logits.float\(\)"):
        sample(torch.zeros(2, 3, dtype=dtype))


@samplers()
def test_generators(sample: Callable[..., Tensor]) -> None:
    """The same generator gives the same draws and leaves torch's own alone, which is used where none is given."""
    logits = LOGITS.expand(50, 2, 4)
    before = torch.get_rng_state()
    first, again, other = (sample(logits, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.equal(sample(logits), first)


@samplers()
def test_what_a_call_takes_of_a_generator(sample: Callable[..., Tensor]) -> None:
    """As much for a small sample as for a large one; the next call has other numbers."""
    small, large = torch.zeros(1, 3), torch.zeros(1000, 30)
    generator, other = seeded(), seeded()
    first = sample(large, generator=generator)
    sample(small, generator=other)
    assert torch.equal(generator.get_state(), other.get_state())
    second = sample(large, generator=generator)
    assert torch.equal(second, sample(large, generator=other))
    assert not torch.equal(second, first)


@samplers()
def test_randomness_of_vmap(sample: Callable[..., Tensor]) -> None:
    logits = torch.zeros(4, 3, 1000)
    same, different = (vmap(sample, randomness=randomness)(logits) for randomness in ("same", "different"))
    assert torch.equal(same, same[:1].expand_as(same))
    assert len(different.unique(dim=0)) == 4
    nested = vmap(vmap(sample, randomness="different"), randomness="different")(logits)
    assert len(nested.flatten(0, 1).unique(dim=0)) == 12
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(sample)(logits)


@samplers()
def test_devices(sample: Callable[..., Tensor]) -> None:
    logits = torch.zeros(3, 4, requires_grad=True)
    with torch.device("meta"):  # whatever the default one
        assert sample(logits).device == logits.device
    assert sample(logits.to("meta")).device.type == "meta"


@samplers()
def test_impossible_classes(sample: Callable[..., Tensor]) -> None:
    logits = torch.tensor([0.0, -math.inf, 1.0, -math.inf], requires_grad=True)
    draws = sample(logits.expand(1000, 4), generator=seeded())
    assert (draws[:, [1, 3]] == 0).all()
    assert (draws.sum(-1) > 1 - 1e-6).all()
    assert one_hot_sample(torch.tensor([-math.inf, 0.0, -math.inf])).tolist() == [0, 1, 0]
    if draws.requires_grad:
        (gradient,) = torch.autograd.grad(draws.square().sum() + draws[:, 0].sum(), logits)
        assert gradient.isfinite().all()
        assert (gradient[[1, 3]] == 0).all()


def test_impossible_classes_and_a_temperature_to_learn() -> None:
    for t in (0.5, 3.0):
        temperature = torch.tensor(t, requires_grad=True)
        log_z = gumbel_log_softmax(torch.tensor([0.0, -math.inf, 1.0]), temperature)
        (gradient,) = torch.autograd.grad(log_z[[0, 2]].sum(), temperature)
        assert gradient.isfinite()


@samplers()
def test_shapes(sample: Callable[..., Tensor]) -> None:
    for shape in ((1,), (5, 1), (0, 3), (2, 0, 3), (2, 3, 4)):
        draws = sample(torch.zeros(shape))
        assert draws.shape == shape
        if shape[-1] == 1:
            assert (draws == 1).all()


@samplers(OF_ANY_DIMENSION)
@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_dimensions(sample: Callable[..., Tensor], dim: int) -> None:
    logits = torch.randn(2, 3, 4, generator=seeded())
    draws = sample(logits, dim=dim, generator=seeded())
    assert draws.shape == logits.shape
    torch.testing.assert_close(draws.sum(dim), torch.ones_like(draws.sum(dim)))
    assert torch.equal(draws, sample(logits.movedim(dim, -1), generator=seeded()).movedim(-1, dim))


# ---- gradients


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(f, x)


def softmax_jacobian(p: Tensor) -> Tensor:
    return torch.diag(p) - torch.outer(p, p)


def test_the_gradient_of_straight_through_is_that_of_softmax() -> None:
    logits = LOGITS[0].double()
    actual = jacobian(lambda x: straight_through(x, generator=seeded()), logits)
    torch.testing.assert_close(actual, softmax_jacobian(logits.softmax(-1)))


def test_the_gradient_of_hard_samples_is_that_of_soft_ones() -> None:
    logits = LOGITS[0].double()
    hard, soft = (jacobian(lambda x, h=h: gumbel_softmax(x, 0.4, h, generator=seeded()), logits) for h in (True, False))
    torch.testing.assert_close(hard, soft)
    z = gumbel_softmax(logits, 0.4, generator=seeded())
    torch.testing.assert_close(soft, softmax_jacobian(z) / 0.4)
    x = logits.requires_grad_()
    z_hard = gumbel_softmax(x, 0.4, True, generator=seeded())
    assert torch.equal(z_hard, one_hot(z.argmax(-1), 4).double())


def test_the_gradient_is_that_of_the_same_noise() -> None:
    def f(logits: Tensor, temperature: Tensor) -> Tensor:
        return gumbel_log_softmax(logits, temperature, generator=seeded())

    logits = LOGITS.double().requires_grad_()
    for t in (torch.tensor(0.4), torch.tensor([0.4, 2.0]), torch.tensor([[0.4]])):
        arguments = (logits, t.double().requires_grad_())
        assert torch.autograd.gradcheck(f, arguments)
        assert torch.autograd.gradgradcheck(f, arguments)


@samplers(WITH_GRADIENT)
def test_double_backward(sample: Callable[..., Tensor]) -> None:
    """Second derivatives are those of the surrogate: the softmax, or the soft sample."""
    logits = LOGITS[0].double().requires_grad_()
    weight = torch.tensor([1.0, 2.0, 4.0, 8.0]).double()

    def hessian(f: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.autograd.functional.hessian(lambda x: f(x) @ weight, logits)

    surrogate = (lambda x: x.softmax(-1)) if sample is straight_through else SOFT["gumbel_softmax"]
    options = {} if sample is straight_through else {"generator": seeded()}
    actual = hessian(lambda x: sample(x, generator=seeded()))
    assert actual.abs().max() > 0
    torch.testing.assert_close(actual, hessian(lambda x: surrogate(x, **options)))


def test_without_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    assert not one_hot_sample(logits).requires_grad
    assert not straight_through(LOGITS).requires_grad
    with torch.no_grad():
        assert not gumbel_softmax(logits, hard=True).requires_grad


def test_with_gradient_of_is_exact() -> None:
    """value + surrogate - surrogate would round."""
    value = torch.tensor([1.0, 0.1, 1e-8, math.inf])
    surrogate = torch.tensor([1e8, 3.0, 1.0, 2.0], requires_grad=True)
    result = with_gradient_of(value, surrogate)
    assert torch.equal(result, value)
    (gradient,) = torch.autograd.grad(result, surrogate, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert gradient.tolist() == [1, 2, 3, 4]
    assert result.data_ptr() != value.data_ptr()


# ---- in the place of torch's


def test_the_signature_is_that_of_torch() -> None:
    theirs = inspect.signature(torch_gumbel_softmax).parameters.values()
    ours = list(inspect.signature(gumbel_softmax).parameters.values())
    assert [(p.name, p.default, p.kind) for p in theirs] == [(p.name, p.default, p.kind) for p in ours[: len(theirs)]]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


@pytest.mark.parametrize("arguments", [(), (2,), (0.5, True), (0.5, False, 1e-10), (0.5, True, 1e-10, 1)], ids=str)
def test_calls_of_torch_work_unchanged(arguments: tuple[Any, ...]) -> None:
    """By position and by name, with samples of the same law from other random numbers."""
    logits = LOGITS.expand(20_000, 2, 4)
    ours, theirs, others = (
        f(x, *arguments)
        for f, x in ((gumbel_softmax, logits), (torch_gumbel_softmax, logits), (torch_gumbel_softmax, logits.square()))
    )
    assert torch.equal((ours == ours.round()).all(), torch.tensor(True in arguments))
    for power in (1, 2):
        assert_mean(ours**power - theirs**power, torch.zeros(2, 4))
        with pytest.raises(AssertionError, match="standard errors"):
            assert_mean(ours**power - others**power, torch.zeros(2, 4))
    names = dict(zip(("tau", "hard", "eps", "dim"), arguments, strict=False))
    first, second = (
        gumbel_softmax(logits, *arguments, generator=seeded()),
        gumbel_softmax(logits, **names, generator=seeded()),
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("tau", [0, 0.0, -1.0, math.nan, math.inf])
def test_bad_temperatures(tau: float) -> None:
    with pytest.raises(ValueError, match=f"tau={tau} is not a positive finite number") as error:
        gumbel_softmax(LOGITS, tau)
    assert "\n" not in str(error.value)
    for temperature in (tau, torch.tensor(float(tau)), torch.tensor([1.0, float(tau)])):
        with pytest.raises(ValueError, match="temperature"):
            gumbel_log_softmax(LOGITS, temperature)


def test_extremes() -> None:
    """At every temperature log z is finite and its exponential sums to one, in spite of logits far apart."""
    logits = torch.tensor([0.0, 1e4, -1e4, 9_999.0]).expand(1000, 4)
    for t in (1e-3, 1.0, 1e3):
        log_z = gumbel_log_softmax(logits, t, generator=seeded())
        assert log_z.isfinite().all()
        torch.testing.assert_close(log_z.exp().sum(-1), torch.ones(1000))


# ---- samples that know their logarithm


def test_a_thread_that_draws_first_in_inference_mode_draws_later_outside() -> None:
    def draw() -> Tensor:
        with torch.inference_mode():
            gumbel_softmax(torch.zeros(3))
        return gumbel_softmax(torch.zeros(3))

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(draw).result().isfinite().all()


def test_logarithms_of_samples() -> None:
    z = torch.tensor([0.25, 0.75, 0.0])
    assert torch.equal(log_of(z), z.log())
    known = torch.tensor([-1.0, -2.0, -3.0])
    assert log_of(remember_log(z, known)) is known
    assert torch.equal(log_of(z.clone()), z.log())
    z[0] = 0.5  # a changed sample is another one
    assert torch.equal(log_of(z), z.log())
    with torch.inference_mode():
        z = torch.tensor([0.25, 0.75])
        assert torch.equal(log_of(z), z.log())
        assert log_of(remember_log(z, known)) is known
