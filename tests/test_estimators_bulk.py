"""Estimators hold over shapes, dtypes, temperatures, settings, extreme logits and masks, beyond what is certified.

Values are those of f where it was evaluated, gradients are finite and none of impossible classes, and what has no
randomness left is right, against enumeration in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from softhot.estimators import (
    BASELINES,
    ESTIMATORS,
    Estimator,
    Exact,
    Integrand,
    LocalExpectation,
    MuProp,
    QuadraticSurrogate,
    Relaxation,
    ScoreFunction,
    StraightThrough,
    SumAndSample,
    UnorderedSet,
    Vimco,
)
from softhot.testing import assert_mean, exact_gradient, exact_moments, exact_value, gradient_draws, target
from tests.bulk import DTYPES, WIDE, bulk
from tests.integrands import seeded


@dataclass(frozen=True)
class Case:
    """Random logits with impossible classes, parameters of f, and what an estimator may be set to."""

    logits: Tensor
    theta: Tensor
    settings: dict[str, Any]
    seed: int

    @property
    def possible(self) -> Tensor:
        return self.logits > -math.inf

    @property
    def size(self) -> float:
        """The largest number that a gradient is summed from, but for a factor of order one."""
        slope = (1 + self.theta.detach().double().abs().amax(-1).sum().item()) ** 2
        return self.logits.shape[-1] * slope * max(1.0, 1 / self.settings["temperature"])

    def made(self, name: str) -> Estimator:
        """The estimator, with those of the settings that it has."""
        kind = ESTIMATORS[name]
        latents, classes = self.logits.shape[-2:]
        own = {field.name for field in fields(kind)}
        return kind.of_size(latents, classes, **{key: x for key, x in self.settings.items() if key in own})


@st.composite
def cases(draw: Callable[..., Any], name: str = "", dtypes: tuple[str, ...] = tuple(DTYPES)) -> Case:
    kind = ESTIMATORS.get(name)
    dtype = DTYPES[draw(st.sampled_from(dtypes))]
    seed = draw(st.integers(0, 10**6))
    latents = draw(st.sampled_from([1, 2, 3, 5]))
    classes = kind.classes if kind and kind.classes else draw(st.sampled_from([1, 2, 3, 7]))
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 3), (0,)]))
    components = (3,) if kind and kind.mixture else ()
    spread = draw(st.sampled_from([0.0, 1.0, 30.0, 1e4]))
    logits = spread * torch.randn(*batch, *components, latents, classes, generator=seeded(seed), dtype=torch.float64)
    mask = torch.rand(logits.shape, generator=seeded(seed)) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    mask[..., seed % classes] = False
    temperature = 10.0 ** draw(st.floats(-3, 3))
    own: dict[str, Any] = {"temperature": temperature, "components": 3, "draws": draw(st.sampled_from([1, 3]))}
    own |= {"samples": draw(st.sampled_from([2, 3])), "likeliest": draw(st.sampled_from([1, 3, 20]))}
    own |= {"penalty": draw(st.sampled_from([0.0, 1.0, math.inf])), "baseline": draw(st.sampled_from([*BASELINES]))}
    own |= {"relaxation": Relaxation(temperature, eta=draw(st.sampled_from([0.0, 0.7])))}
    if name == "relax":
        own["surrogate"] = QuadraticSurrogate(latents, classes)
        torch.nn.init.normal_(own["surrogate"].matrix, generator=seeded(seed))
    theta = torch.randn(latents, classes, generator=seeded(seed + 1), dtype=torch.float64).to(dtype)
    masked = logits.masked_fill(mask, -math.inf).to(dtype)
    if draw(st.booleans()):
        masked = masked.mT.contiguous().mT
    return Case(masked.requires_grad_(), theta.requires_grad_(), own, seed)


def smooth(z: Tensor, theta: Tensor) -> Tensor:
    """In which all variables interact; of order one."""
    a = (z * theta.to(z.dtype)).sum((-1, -2))
    return torch.sin(a) + a * a / 4


def close(found: Tensor, expected: Tensor, size: float) -> None:
    """Right to rounding, of numbers of a size."""
    limit = 64 * torch.finfo(found.dtype).eps * size
    error = (found.double() - expected).abs()
    assert (error <= limit).all(), (error.max().item(), limit)


def recorded(f: Integrand, seen: list[Tensor]) -> Integrand:
    def recording(z: Tensor) -> Tensor:
        seen.append(z.detach().clone())
        return f(z)

    return recording


def mean_at(z: Tensor, theta: Tensor, batch: torch.Size) -> Tensor:
    """The mean of f over the draws at which it was evaluated."""
    value = smooth(z, theta)
    return value.mean(0) if value.dim() > len(batch) else value


SUMS = ("exact", "unordered-set", "sum-and-sample", "vimco")  # whose value is not the mean of f where it is evaluated


@pytest.mark.parametrize("name", ESTIMATORS)
@bulk
@given(data=st.data())
def test_values_and_gradients(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(name))
    estimator, batch = case.made(name), case.logits.shape[: -3 if ESTIMATORS[name].mixture else -2]
    seen: list[Tensor] = []
    estimate = estimator.learn(
        recorded(lambda z: smooth(z, case.theta), seen), case.logits, generator=seeded(case.seed)
    )
    points = list(seen)
    assert (estimate.shape, estimate.dtype) == (batch, case.logits.dtype)
    assert estimate.isfinite().all()
    slope, parameters = torch.autograd.grad(estimate.sum(), (case.logits, case.theta))
    for gradient, leaf in ((slope, case.logits), (parameters, case.theta)):
        assert (gradient.shape, gradient.dtype) == (leaf.shape, leaf.dtype)
        assert gradient.isfinite().all()
    assert not slope[~case.possible].any()

    control = [] if estimator.control is None else [p.grad for p in estimator.control.parameters()]
    assert all(gradient is None or gradient.isfinite().all() for gradient in control)

    # where f is evaluated
    evaluations = sum(z.shape[: z.dim() - 2].numel() for z in points)
    assert evaluations == estimator.evaluations(*case.logits.shape[-2:]) * batch.numel()
    for z in points:
        assert z.dtype == case.logits.dtype
        assert ((z >= 0) & (z <= 1)).all()
        if name not in ("exact", "mixture-of-discrete-flows"):
            assert not z.masked_select(~case.possible).any()
    if estimator.sample == "hard":
        assert torch.equal(points[0], (points[0] == points[0].amax(-1, keepdim=True)).to(points[0].dtype))

    # its value, and its gradient to the parameters of f, there
    if name not in SUMS:
        expected = mean_at(points[0], case.theta, batch)
        assert torch.equal(estimate, expected) or name == "mixture-of-discrete-flows"  # whose weights are 1 / B
        close(estimate, expected.double(), case.size)
        close(parameters, torch.autograd.grad(expected.sum(), case.theta)[0].double(), case.size * batch.numel())

    # adding a number to all logits of a variable is no direction; ARSM has one of mean zero to impossible classes
    if name != "arsm" or case.possible.all():
        close(slope.double().sum(-1).to(slope.dtype), torch.zeros(slope.shape[:-1]).double(), case.size)

    again = case.made(name)(lambda z: smooth(z, case.theta), case.logits.detach(), generator=seeded(case.seed))
    assert torch.equal(again, estimate)


def linear(z: Tensor, theta: Tensor) -> Tensor:
    return (z * theta.to(z.dtype)).sum((-1, -2))


# those that have no randomness left, where they have none: which of value and gradient are exact
CERTAIN: dict[str, tuple[Callable[[int, int], Estimator | None], Callable[[Tensor, Tensor], Tensor], bool]] = {
    "exact": (lambda latents, classes: Exact(), smooth, True),
    "exact, chunked": (lambda latents, classes: Exact(chunk=7) if classes**latents <= 49 else None, smooth, True),
    "local expectation of one variable": (
        lambda latents, classes: LocalExpectation() if latents == 1 else None,
        smooth,
        False,
    ),
    "a set of all": (
        lambda latents, classes: UnorderedSet(samples=12) if classes**latents <= 12 else None,
        smooth,
        True,
    ),
    "a sum of all": (lambda latents, classes: SumAndSample(likeliest=classes**latents), smooth, True),
    "muprop of a linear f": (lambda latents, classes: MuProp(), linear, False),
    "straight through a linear f": (lambda latents, classes: StraightThrough(), linear, False),
}


@pytest.mark.parametrize(("make", "f", "valued"), CERTAIN.values(), ids=CERTAIN.keys())
@bulk
@given(case=cases(dtypes=WIDE))
def test_what_has_no_randomness_left_is_exact(make: Any, f: Any, valued: bool, case: Case) -> None:
    latents, classes = case.logits.shape[-2:]
    estimator = make(latents, classes)
    if estimator is None:
        return
    value = estimator(lambda z: f(z, case.theta), case.logits, generator=seeded(case.seed))
    slope, parameters = torch.autograd.grad(value.sum(), (case.logits, case.theta))
    size = latents * classes * (1 + case.theta.double().abs().amax(-1).sum().item() ** 2)
    close(slope, exact_gradient(lambda z: f(z, case.theta), case.logits.double()), size)
    if valued:
        theta = case.theta.detach().double().requires_grad_()
        expected = exact_value(lambda z: f(z, theta), case.logits.detach().double())
        close(value, expected, size)
        close(parameters, torch.autograd.grad(expected.sum(), theta)[0], size * max(1, expected.numel()))


# what certificates are made of

COUNTED = {"score-function": (1, ScoreFunction()), "vimco": (2, Vimco(samples=2))}  # draws of each variable in one call


@pytest.mark.parametrize(("draws", "estimator"), COUNTED.values(), ids=COUNTED.keys())
@bulk
@given(case=cases(dtypes=WIDE))
def test_moments_over_all_outcomes_are_those_of_enumeration(draws: int, estimator: Estimator, case: Case) -> None:
    latents, classes = case.logits.shape[-2:]
    if not case.logits.numel() or classes ** (draws * latents) > 100:
        return
    logits, theta = case.logits.detach().double().reshape(-1, latents, classes)[0], case.theta.detach().double()

    def f(z: Tensor) -> Tensor:
        return smooth(z, theta)

    bound, copies = target(estimator, f, logits)
    mean, slope = exact_value(bound, copies), exact_gradient(bound, copies)
    assert copies.shape == (draws * latents, classes)
    found = exact_moments(estimator, f, logits)
    close(found.value.mean, mean, case.size)
    close(found.gradient.mean, slope.unflatten(-2, (draws, latents)).sum(-3), case.size)
    assert found.outcomes <= classes ** (draws * latents)
    assert (found.gradient.variance >= -1e-12 * case.size**2).all()
    many = gradient_draws(estimator, f, logits, 150, seeded(case.seed))
    assert many.shape == (150, latents, classes)
    assert many.isfinite().all()
    if found.outcomes == 1:  # the mean is that of every draw
        close(many, found.gradient.mean.expand(many.shape), case.size)


@bulk
@given(
    shape=st.lists(st.integers(0, 3), max_size=3),
    count=st.sampled_from([0, 99, 100, 1000]),
    scale=st.sampled_from([0.0, 1e-30, 1.0, 1e30]),
    off=st.sampled_from([0.0, 1.0, math.nan, math.inf]),
    seed=st.integers(0, 10**6),
)
def test_means_that_are_wrong_are_seen(shape: list[int], count: int, scale: float, off: float, seed: int) -> None:
    """By a whole standard deviation, of which there are a hundred draws or more."""
    draws = scale * torch.randn(count, *shape, generator=seeded(seed), dtype=torch.float64)
    expected = torch.full(shape, off * scale if scale else off, dtype=torch.float64)
    if count < 100 or (not math.isfinite(off) and expected.numel()):
        with pytest.raises(ValueError, match="use "):
            assert_mean(draws, expected, false_alarm=1e-9)
    elif off and expected.numel():
        with pytest.raises(AssertionError, match="standard errors"):
            assert_mean(draws, expected, false_alarm=1e-9)
    else:
        assert_mean(draws, expected, false_alarm=1e-9)


GIVEN: dict[str, Callable[[Tensor], Any]] = {
    "numbers": lambda z: z[..., :1].sum((-1, -2)),
    "a number": lambda z: z.sum(),
    "a number for each variable": lambda z: z.sum(-1),
    "integers": lambda z: z.long().sum((-1, -2)),
    "no slope": lambda z: z.detach().sum((-1, -2)),
    "nothing": lambda z: None,
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ESTIMATORS)
@settings(bulk, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(0, 3), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64]),
    fill=st.sampled_from([0.0, 1e30, -math.inf, math.inf, math.nan]),
    given=st.sampled_from(list(GIVEN)),
)
def test_errors_are_of_one_kind(name: str, shape: list[int], dtype: torch.dtype, fill: float, given: str) -> None:
    """Whatever the logits are, and whatever f gives: an estimate for each element of the batch, or a ValueError."""
    logits = torch.zeros(shape, dtype=dtype)
    if shape and dtype.is_floating_point:
        logits[..., :1] = fill
    logits.requires_grad_(dtype.is_floating_point)
    size = [1, 1, *shape][-2:]
    own = {"components": 2} if ESTIMATORS[name].mixture else {}
    try:
        estimate = ESTIMATORS[name].of_size(*size, **own)(GIVEN[given], logits)
    except ValueError as error:
        said = str(error)
    else:
        alone = len(shape) < 3 and given == "a number"  # for each, as there is one
        assert given == "numbers" or alone or (given == "no slope" and not ESTIMATORS[name].differentiable)
        assert estimate.shape == tuple(shape[: -3 if ESTIMATORS[name].mixture else -2])
        assert dtype.is_floating_point
        return
    assert "use " in said or "sum over" in said
    assert "\n" not in said
