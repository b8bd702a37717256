"""Functions and distributions hold over shapes, dtypes, temperatures from 1e-3 to 1e3, extreme logits and masks.

Finite, right against the reference in plain torch or a formula, with finite gradients; and one kind of error.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import softhot.distributions as sd
import softhot.functional as sf
from softhot.kernels.choice_reference import EULER, Choice
from softhot.kernels.density import log_density_reference
from softhot.kernels.divergence import divergence
from softhot.kl import TERMS
from tests.bulk import DTYPES, WIDE, bulk

PRECISION = 1e-7  # of exact values that are not wanted in float64


@dataclass(frozen=True)
class Problem:
    """Random logits with impossible classes, those of a prior with the same ones, and a temperature of some shape."""

    logits: Tensor
    prior: Tensor
    temperature: float | Tensor
    seed: int
    name: str  # what distributions are given: logits, or their probabilities

    def parameters(self, logits: Tensor) -> dict[str, Tensor]:
        return {self.name: logits if self.name == "logits" else logits.softmax(-1)}

    @property
    def possible(self) -> Tensor:
        return self.logits > -math.inf

    @property
    def rows(self) -> Tensor:
        """The temperature of every row."""
        t = torch.as_tensor(self.temperature, dtype=torch.float64).detach()
        batch = self.logits.shape[:-1]
        return (t.squeeze(-1) if t.dim() > len(batch) else t).broadcast_to(batch)

    @property
    def size(self) -> Tensor:
        """The largest number that an exact value of a row is summed from."""
        finite = [torch.where(self.possible, x, 0.0).double().abs().amax(-1) for x in (self.logits, self.prior)]
        t = self.rows
        largest = finite[0] + finite[1] + t + 1 / t + 50
        return self.logits.shape[-1] * largest * (1 + t) * (1 + 1 / t)

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


@st.composite
def problems(draw: Callable[..., Any], dtypes: tuple[str, ...] = tuple(DTYPES)) -> Problem:
    dtype = DTYPES[draw(st.sampled_from(dtypes))]
    seed = draw(st.integers(0, 10**6))
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1), (0,)]))
    classes = draw(st.sampled_from([1, 2, 3, 8, 40]))
    spread = draw(st.sampled_from([0.0, 1.0, 30.0, 1e4]))
    generator = torch.Generator().manual_seed(seed)
    logits, prior = spread * torch.randn(2, *batch, classes, generator=generator, dtype=torch.float64)
    mask = torch.rand(*batch, classes, generator=generator) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    mask[..., seed % classes] = False
    heat = 10.0 ** draw(st.floats(-3, 3))
    shape = draw(st.sampled_from([None, (), batch, (*batch, 1), batch[-1:]]))
    rates = 10 ** torch.rand(shape or (), generator=generator, dtype=torch.float64)
    t = heat if shape is None else (heat * rates).clamp(max=1e3)
    logits, prior = (x.masked_fill(mask, -math.inf).to(dtype).requires_grad_() for x in (logits, prior))
    name = draw(st.sampled_from(["logits", "probs"]))
    return Problem(logits, prior, t.requires_grad_() if isinstance(t, Tensor) else t, seed, name)


def held(found: Tensor, expected: Tensor, size: Tensor | float) -> None:
    """Right to the rounding of its dtype and the precision of exact values; too large only for half precision."""
    precision = 100 * torch.finfo(torch.float64).eps if found.dtype == torch.float64 else PRECISION
    info = torch.finfo(found.dtype)
    limit = 4 * info.eps * expected.abs() + precision * torch.as_tensor(size) + info.tiny
    inside = (expected.abs() <= 0.99 * info.max) & (found.double() - expected).abs().le(limit)
    assert (inside | ((expected.abs() > 0.99 * info.max) & ~found.isnan())).all(), (found, expected)


def gradients(value: Tensor, *leaves: Any) -> list[Tensor]:
    """Those of the mean, all finite."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if not value.numel() or not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in tensors]
    weight = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
    found = torch.autograd.grad((weight * value).sum(), tensors, allow_unused=True, retain_graph=True)
    slopes = [torch.zeros_like(leaf) if slope is None else slope for leaf, slope in zip(tensors, found, strict=True)]
    for slope in slopes:
        assert slope.isfinite().all()
    return slopes


def moving(value: Tensor, problem: Problem, *leaves: Any) -> None:
    """Finite, with finite gradients; or infinite, where a softmax has rounded a probability of one of two to zero."""
    assert value.isfinite().all() or (problem.name == "probs" and not value.isnan().any())
    if value.isfinite().all():
        gradients(value, *leaves)


def invariant(slopes: Tensor, problem: Problem) -> None:
    """Nothing for impossible classes, and nothing for a constant that is added to all of a row."""
    assert not slopes[~problem.possible].any()
    eps = torch.finfo(slopes.dtype).eps if slopes.dtype == torch.float64 else PRECISION
    scale = problem.size / torch.where(problem.rows < 1, problem.rows, 1.0)
    assert (slopes.double().sum(-1).abs() <= 100 * eps * scale).all()


# ---- exact values


@bulk
@given(problem=problems(), noise=st.sampled_from(["gumbel", "-gumbel", "normal"]))
def test_choices(problem: Problem, noise: Any) -> None:
    scale: Any = problem.temperature if not isinstance(problem.temperature, Tensor) else problem.rows
    if noise != "gumbel" and problem.rows.numel():
        scale = problem.rows.max().item()
    locations = problem.logits.detach().double()
    reference = Choice(locations, scale, noise, torch.float64)
    held(sf.choice_probabilities(problem.logits, scale, noise), reference.probabilities(), 1.0)
    held(sf.choice_slopes(problem.logits, scale, noise), reference.slopes(), 1.0)
    held(sf.expected_max(problem.logits, scale, noise), reference.expected_max(), problem.size)
    held(sf.expected_logsumexp(problem.logits, scale, noise), reference.expected_max() - EULER, problem.size)


@bulk
@given(problem=problems())
def test_exact_values_of_relaxed_variables(problem: Problem) -> None:
    logits, t = problem.logits, problem.temperature
    reference = Choice(logits.detach().double(), problem.rows, "gumbel", torch.float64)
    mean, rows, count = reference.probabilities(), problem.rows, problem.possible.sum(-1).double()
    held(sf.relaxed_mean(logits, t), mean, 1.0)
    held(
        sf.relaxed_variance(logits, t),
        mean * (1 - mean) - rows[..., None] * reference.slopes(),
        problem.size[..., None],
    )
    total = torch.where(problem.possible, logits.detach().double(), 0.0).sum(-1)
    negative = (
        torch.lgamma(count)
        + (count - 1) * rows.log()
        + (count * reference.expected_max() - total) / rows
        - count * (EULER * (2 + 1 / rows) + torch.digamma(count))
    )
    held(sf.relaxed_entropy(logits, t), -negative, problem.size)
    held(sf.relaxed_kl(logits, t, logits, t), torch.zeros_like(negative), problem.size)
    categorical = divergence(logits.detach().double(), problem.prior.detach().double())
    relaxed = sf.relaxed_kl(logits, t, problem.prior, t).double()
    assert (relaxed - categorical >= -problem.size * max(PRECISION, torch.finfo(logits.dtype).eps)).all()


@bulk
@given(problem=problems(WIDE))
def test_gradients_of_exact_values(problem: Problem) -> None:
    logits, t = problem.logits, problem.temperature
    for function in (sf.relaxed_mean, sf.relaxed_variance, sf.relaxed_entropy):
        slopes = gradients(function(logits, t), logits, t)
        invariant(slopes[0], problem)
    for slopes in gradients(sf.relaxed_kl(logits, t, problem.prior, 2.0), logits, problem.prior, t)[:2]:
        invariant(slopes, problem)
    gradients(sf.relaxed_kl(problem.prior, 2.0, logits, t), logits, problem.prior, t)


@bulk
@given(problem=problems(WIDE))
def test_densities(problem: Problem) -> None:
    logits, t = problem.logits, problem.temperature
    log_sample = sf.gumbel_log_softmax(logits, t, generator=problem.generator()).detach().requires_grad_()
    found = sf.relaxed_log_prob(log_sample, logits, t)
    double = [x.detach().double() for x in (log_sample, logits)]
    expected = log_density_reference(*double, problem.rows)
    terms = (1 + problem.rows) * torch.where(problem.possible, log_sample.detach(), 0.0).double().abs().sum(-1)
    size = logits.shape[-1] * (terms + problem.size)
    assert found.isfinite().all()
    assert ((found.double() - expected).abs() <= 8 * torch.finfo(found.dtype).eps * size).all()
    for slopes in gradients(found, logits, log_sample, t)[:2]:
        assert not slopes[~problem.possible].any()


# ---- samples


@bulk
@given(problem=problems())
def test_samples(problem: Problem) -> None:
    logits, t, possible = problem.logits, problem.temperature, problem.possible
    eps = torch.finfo(logits.dtype).eps
    for function in (sf.gumbel_softmax, sf.relaxed_sample, sf.gaussian_sample):
        z = function(logits, t, generator=problem.generator())
        assert (z.dtype, z.shape) == (logits.dtype, logits.shape)
        assert ((z >= 0) & ((z == 0) | possible)).all()
        assert ((z.double().sum(-1) - 1).abs() <= 4 * eps * math.sqrt(logits.shape[-1])).all()
        assert torch.equal(z, function(logits, t, generator=problem.generator()))
        slopes = gradients(z, logits, t)[0]
        assert not slopes[~possible].any()
    hard = {
        "gumbel_softmax": sf.gumbel_softmax(logits, t, hard=True, generator=problem.generator()),
        "straight_through": sf.straight_through(logits, generator=problem.generator()),
        "one_hot_sample": sf.one_hot_sample(logits, generator=problem.generator()),
    }
    for z in hard.values():
        assert ((z == 0) | (z == 1)).all()
        assert (z.sum(-1) == 1).all()
        assert not z[~possible].any()
        gradients(z, logits, t)
    if not isinstance(t, Tensor):
        gradients(
            sf.with_conditional_gradient(hard["one_hot_sample"], logits, t, 3, generator=problem.generator()), logits
        )


@bulk
@given(problem=problems(WIDE), weight=st.sampled_from([0.0, 1e-6, 0.01, 1.0]))
def test_what_training_loops_need(problem: Problem, weight: float) -> None:
    logits, classes = problem.logits, problem.logits.shape[-1]
    mixed = sf.uniform_mix(logits, weight)
    expected = (1 - weight) * logits.detach().double().softmax(-1) + weight / classes
    largest = torch.where(problem.possible, logits, 0.0).abs().amax(-1, keepdim=True) + 50  # of the logarithms
    assert ((mixed.exp() - expected).abs() <= 8 * torch.finfo(logits.dtype).eps * largest * expected + 1e-37).all()
    if weight:
        assert mixed.isfinite().all()
        gradients(mixed, logits)
    mass = sf.log_mass(sf.one_hot_sample(logits, generator=problem.generator()), logits)
    assert mass.isfinite().all()
    assert (mass <= 0).all()
    gradients(mass, logits)
    kl = sf.categorical_kl(logits, problem.prior)
    assert kl.isfinite().all()
    gradients(kl, logits, problem.prior)
    if kl.dim() and kl.numel():
        for floor in ("example", "variable"):
            reduced = sf.reduce_kl(kl, "mean", free_nats=0.1, floor=floor)
            assert reduced >= 0.1
            gradients(reduced, logits, problem.prior)
    if logits.dim() > 1 and logits.numel():
        effective = sf.perplexity(logits.detach().softmax(-1))
        eps = 8 * classes * torch.finfo(logits.dtype).eps
        assert ((effective >= 1 - eps) & (effective <= classes + classes * eps)).all()


@bulk
@given(problem=problems(WIDE))
def test_logarithms_that_are_kept(problem: Problem) -> None:
    logits, t = problem.logits, problem.temperature
    z = sf.relaxed_sample(logits, t, generator=problem.generator())
    kept = sf.log_of(z)
    assert (kept.isfinite() == problem.possible).all()
    torch.testing.assert_close(kept, sf.gumbel_log_softmax(logits, t, generator=problem.generator()))
    assert torch.equal(sf.log_of(z.clone()), z.log())
    rest = sf.log_rest_of(z)
    torch.testing.assert_close(rest, torch.log1p(-z))
    gradients(torch.where(problem.possible, kept, 0.0), logits)
    other = z.detach().clone()
    assert sf.remember_log(other, kept.detach(), rest.detach() - 1) is other
    assert torch.equal(sf.log_of(other), kept)
    assert torch.equal(sf.log_rest_of(other), rest - 1)
    moved = sf.with_gradient_of(other, logits)
    assert torch.equal(moved, other)
    if z.numel():
        (slope,) = torch.autograd.grad(moved.sum(), logits)
        assert (slope == 1).all()


@bulk
@given(
    ends=st.tuples(*[st.one_of(st.floats(1e-30, 1e30), st.just(1.0))] * 2),
    steps=st.integers(0, 10**9),
    step=st.integers(0, 10**10),
    kind=st.sampled_from([sf.Linear, sf.Exponential, sf.Constant]),
)
def test_schedules(ends: tuple[float, float], steps: int, step: int, kind: type[sf.Schedule]) -> None:
    start, end = ends
    made = {sf.Constant: sf.Constant(start), sf.Linear: sf.Linear(*ends, steps)}.get(kind, sf.Exponential(*ends, steps))
    value = made(step)
    low, high = sorted([start, start if kind is sf.Constant else end])
    assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)
    assert math.isclose(made(0), start if steps or kind is sf.Constant else end, rel_tol=1e-12)
    fraction = min(step / steps, 1.0) if steps else 1.0
    if kind is sf.Linear:
        assert math.isclose(value, start + (end - start) * fraction, rel_tol=1e-9, abs_tol=1e-12 * max(ends))
    if kind is sf.Exponential:
        assert math.isclose(value, start ** (1 - fraction) * end**fraction, rel_tol=1e-9)
        assert start == end or sf.schedule(*ends, steps) == made
    if start != end:
        assert sf.schedule(*ends, steps, "linear") == sf.Linear(*ends, steps)
    assert sf.schedule(start, None, steps) == sf.Constant(start)


# ---- KL terms; those of mixtures are in test_flows_bulk.py, and estimators in test_estimators_bulk.py


@pytest.mark.parametrize("name", [name for name, term in TERMS.items() if not term.mixture])
@bulk
@given(problem=problems(WIDE))
def test_terms(name: str, problem: Problem) -> None:
    logits, prior, t = problem.logits, problem.prior, problem.temperature
    value = TERMS[name](logits, prior, t, generator=problem.generator())
    assert value.shape == logits.shape[:-1]
    assert value.isfinite().all()
    for slopes in gradients(value, logits, prior, t)[:2]:
        assert not slopes[~problem.possible].any()


# ---- distributions


KINDS = [
    sd.OneHotCategorical,
    sd.OneHotCategoricalStraightThrough,
    sd.RelaxedOneHotCategorical,
    sd.RelaxedOneHotCategoricalStraightThrough,
    sd.ExpRelaxedOneHotCategorical,
]


@bulk
@given(problem=problems(WIDE), kind=st.sampled_from(KINDS))
def test_methods_of_distributions(problem: Problem, kind: Any) -> None:
    logits, t, possible = problem.logits, problem.temperature, problem.possible
    heat = [] if issubclass(kind, sd.OneHotCategorical) else [t]
    hard = not heat or kind is sd.RelaxedOneHotCategoricalStraightThrough
    q, p = (kind(*heat, **problem.parameters(x), validate_args=True) for x in (logits, problem.prior))
    z = (q.rsample if q.has_rsample else q.sample)((2,), generator=problem.generator())
    assert z.shape == (2, *logits.shape)
    if hard:
        assert ((z == 0) | (z == 1)).all()
        assert (z.sum(-1) == 1).all()
    if q.has_rsample:
        moving(torch.where(possible, z, 0.0), problem, logits, t)
    for value in (q.log_prob(z), p.log_prob(z), q.entropy(), sd.kl_divergence(q, p)):
        moving(value, problem, logits, problem.prior, t)
    for part in ("mean", "variance", "stddev") if kind is not sd.ExpRelaxedOneHotCategorical else ("mean",):
        assert getattr(q, part)[q.logits > -math.inf].isfinite().all()
    assert q.log_prob(z).shape == (2, *q.batch_shape)
    torch.testing.assert_close(q.expand((5, *q.batch_shape)).entropy(), q.entropy().expand(5, *q.batch_shape))
    if hard == (not heat) and kind is not sd.RelaxedOneHotCategorical:
        assert q.log_prob(q.mode).isfinite().all()


@bulk
@given(problem=problems(WIDE), kind=st.sampled_from([sd.RelaxedBernoulli, sd.RelaxedBernoulliStraightThrough]))
def test_methods_of_the_relaxed_bernoulli(problem: Problem, kind: Any) -> None:
    t = problem.temperature if not isinstance(problem.temperature, Tensor) else problem.temperature.mean()
    if not problem.logits.numel():
        return
    certain = torch.where(torch.arange(problem.logits.shape[-1]) % 2 == 0, math.inf, -math.inf)
    logits, prior = (
        torch.where(problem.possible, x, certain.to(x.dtype)).detach().requires_grad_()
        for x in (problem.logits, problem.prior)
    )
    q, p = (
        kind(t, **{problem.name: x if problem.name == "logits" else x.sigmoid()}, validate_args=True)
        for x in (logits, prior)
    )
    z = q.rsample((2,), generator=problem.generator())
    assert ((z >= 0) & (z <= 1)).all()
    assert kind is sd.RelaxedBernoulli or ((z == 0) | (z == 1)).all()
    for value in (q.log_prob(z), p.log_prob(z), q.entropy(), q.mean, q.variance, sd.kl_divergence(q, p)):
        moving(value, problem, logits, prior, t)


# ---- errors

LOGITS: dict[str, Callable[[Tensor], Any]] = {
    "choice_probabilities": sf.choice_probabilities,
    "choice_slopes": sf.choice_slopes,
    "expected_logsumexp": sf.expected_logsumexp,
    "expected_max": sf.expected_max,
    "gaussian_means": sf.gaussian_means,
    "gaussian_sample": sf.gaussian_sample,
    "gumbel_log_softmax": sf.gumbel_log_softmax,
    "log_mass": lambda x: sf.log_mass(torch.ones(3), x),
    "one_hot_sample": sf.one_hot_sample,
    "perplexity": sf.perplexity,
    "relaxed_entropy": lambda x: sf.relaxed_entropy(x, 1.0),
    "relaxed_kl": lambda x: sf.relaxed_kl(x, 1.0, torch.zeros(3), 1.0),
    "relaxed_kl of the prior": lambda x: sf.relaxed_kl(torch.zeros(3), 1.0, x, 1.0),
    "relaxed_log_prob": lambda x: sf.relaxed_log_prob(x, torch.zeros(3), 1.0),
    "relaxed_sample": sf.relaxed_sample,
    "relaxed_mean": lambda x: sf.relaxed_mean(x, 1.0),
    "relaxed_variance": lambda x: sf.relaxed_variance(x, 1.0),
    "uniform_mix": sf.uniform_mix,
    "usage": sf.usage,
    "categorical_kl": lambda x: sf.categorical_kl(x, torch.zeros(3)),
    "reduce_kl": lambda x: sf.reduce_kl(x, "mean"),
    "OneHotCategorical": lambda x: sd.OneHotCategorical(logits=x),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("call", LOGITS.values(), ids=LOGITS.keys())
def test_what_are_no_logits(call: Callable[[Tensor], Any]) -> None:
    """Values of integers used to be integers, which rounded them away."""
    bad = [torch.zeros(2, 3, dtype=kind) for kind in (torch.int64, torch.bool, torch.complex64)]
    if call in (sf.uniform_mix, sf.gaussian_means, sf.gaussian_sample):  # others have a limit without classes, or NaN
        bad.append(torch.zeros(2, 0))
    for logits in (*bad, torch.tensor(0.0)):
        with pytest.raises(ValueError, match="use ") as error:
            call(logits)
        assert "\n" not in str(error.value)


LOGITS_LIKE = {"kl", "locations", "log_sample", "logits", "prior_logits", "z"}
HEAT_LIKE = {"prior_temperature", "scale", "tau", "temperature"}
FUNCTIONS = {
    name: {
        parameter: torch.eye(3)[:2] if parameter in LOGITS_LIKE else "mean" if parameter == "reduction" else 0.5
        for parameter in inspect.signature(getattr(sf, name)).parameters
        if parameter in LOGITS_LIKE | HEAT_LIKE | {"reduction"}
    }
    for name in sf.__all__
    if inspect.isfunction(getattr(sf, name)) and name != "remember_log"  # keeps what it is given
}
WITH_LOGITS = [(name, one) for name, given in FUNCTIONS.items() for one in given if one in LOGITS_LIKE]
WITH_HEAT = [(name, one) for name, given in FUNCTIONS.items() for one in given if one in HEAT_LIKE]
BESIDE = [pair for pair in WITH_HEAT if pair != ("gaussian_sample", "scale")]  # which is a number


def refused(name: str, changed: dict[str, Any], message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=message) as error:
        getattr(sf, name)(**FUNCTIONS[name] | changed)
    assert "\n" not in str(error.value)


def test_the_functions_of_logits_are_all_there() -> None:
    assert len(WITH_LOGITS) > 20
    assert {name for name, _ in WITH_LOGITS} >= {"gumbel_softmax", "log_mass", "relaxed_kl", "usage", "expected_max"}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "parameter"), WITH_LOGITS)
@pytest.mark.parametrize("other", [[[0.0, 1.0]], np.eye(3), None], ids=["list", "array", "None"])
def test_what_are_no_tensors(name: str, parameter: str, other: Any) -> None:
    refused(name, {parameter: other}, rf"^{parameter} is a {type(other).__name__}, .* use torch.as_tensor\({parameter}")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "parameter"), WITH_HEAT)
@pytest.mark.parametrize("heat", ["x", None, [1.0, 2.0], 1j, np.array([0.5, 0.5])], ids=repr)
def test_what_are_no_temperatures(name: str, parameter: str, heat: Any) -> None:
    refused(name, {parameter: heat}, rf"^{parameter} is a {type(heat).__name__}, .* use {parameter}=1.0")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "parameter"), WITH_HEAT)
def test_numbers_of_every_type_are_temperatures(name: str, parameter: str) -> None:
    def value(heat: Any) -> Tensor:
        torch.manual_seed(0)
        found: Tensor = getattr(sf, name)(**FUNCTIONS[name] | {parameter: heat})
        return found

    for heat in (np.float32(0.5), np.float64(0.5)):
        assert torch.equal(value(heat), value(0.5))
    for heat in (1, np.int64(1)):
        assert torch.equal(value(heat), value(1.0))


@pytest.mark.usefixtures("unchecked")
def test_an_array_may_be_a_temperature() -> None:
    logits = torch.tensor([0.0, 1.0])
    assert torch.equal(sf.relaxed_mean(logits, np.array(0.5)), sf.relaxed_mean(logits, 0.5))


@pytest.mark.parametrize(("name", "parameter"), BESIDE)
def test_temperatures_on_another_device_are_refused(name: str, parameter: str) -> None:
    """Samples and means used to be memory that nobody wrote: other numbers at every call."""
    for heat in (torch.ones((), device="meta"), torch.ones(2, device="meta")):
        refused(name, {parameter: heat}, rf"^{parameter} is on the device meta, .* use {parameter}.to\('cpu'\)")


@pytest.mark.parametrize("value", [sf.gumbel_softmax, sf.relaxed_mean, sf.relaxed_entropy, sf.expected_max])
def test_a_number_on_the_cpu_goes_with_logits_elsewhere(value: Callable[..., Tensor]) -> None:
    for heat in (torch.tensor(0.5), torch.tensor([0.5]), torch.tensor(0.5, device="meta")):
        assert value(torch.zeros(2, 3, device="meta"), heat).is_meta


PAIRS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "categorical_kl": sf.categorical_kl,
    "log_mass": sf.log_mass,
    "relaxed_kl": lambda q, p: sf.relaxed_kl(q, 1.0, p, 1.0),
    "relaxed_log_prob": lambda log_z, logits: sf.relaxed_log_prob(log_z, logits, 1.0),
    **{name: lambda q, p, term=term: term(q, p, 1.0) for name, term in TERMS.items()},
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("call", PAIRS.values(), ids=PAIRS.keys())
def test_logits_of_other_classes_or_batches(call: Callable[[Tensor, Tensor], Any]) -> None:
    for one, other in (((2, 3), (2, 4)), ((2, 3), (2, 1)), ((2, 3), (4, 3))):
        with pytest.raises(ValueError, match="use ") as error:
            call(torch.zeros(one), torch.zeros(other))
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"is on the device cpu and .* on meta; use \w+.to\(\w+.device\)"):
        call(torch.zeros(2, 3), torch.zeros(2, 3, device="meta"))


def test_gaussian_samples_show_what_is_not_a_number() -> None:
    logits = torch.tensor([[0.0, 1.0], [math.nan, 1.0], [1.0, math.nan], [-math.inf, -math.inf]])
    z = sf.gaussian_sample(logits)
    assert z[0].isfinite().all()
    assert z[1:].isnan().all()
