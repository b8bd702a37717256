"""Bounds and objectives hold over shapes, dtypes, extreme logits and masks, against every configuration in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softhot.bounds import Objective, elbo, elbo_and_iwae, incompatible, iwae, log_marginal
from softhot.distributions import MixtureOfDiscreteFlows
from softhot.estimators import ESTIMATORS, configurations
from softhot.kl import TERMS
from tests.bulk import DTYPES, WIDE, bulk
from tests.integrands import seeded


@dataclass(frozen=True)
class Case:
    """A model of N variables of K classes, whose likelihood is a sine of a linear function, and its posterior.

    Where the posterior is possible, so is the prior; of relaxed ones also the other way round, as a face of the simplex
    has no density inside. The posterior of a mixture has logits of three components.
    """

    logits: Tensor
    prior: Tensor
    theta: Tensor
    temperature: float
    seed: int

    @property
    def batch(self) -> torch.Size:
        return self.logits.shape[:-2]

    def log_likelihood(self, z: Tensor) -> Tensor:
        return 3 * torch.sin((z * self.theta.to(z.dtype)).sum((-1, -2))) - 1

    @property
    def size(self) -> float:
        """The largest number that a bound is summed from."""
        parts = [torch.where(x > -math.inf, x, 0.0).detach().double().abs().sum() for x in (self.logits, self.prior)]
        return 10 + 2 * float(sum(parts)) + 4 * self.logits.shape[-2] + float(self.theta.detach().abs().sum())

    def every(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each configuration, (configurations, *batch) in float64: log p(x | z), log p(z), and log q(z)."""
        latents, classes = self.prior.shape
        (z,) = configurations(latents, classes, limit=10**4, chunk=10**4, like=torch.zeros((), dtype=torch.float64))
        z = z.reshape(-1, *(1,) * len(self.batch), latents, classes)
        masses = [
            torch.where(z > 0, x.detach().double().log_softmax(-1), 0.0).sum((-1, -2))
            for x in (self.prior, self.logits)
        ]
        shape = len(z), *self.batch
        return self.log_likelihood(z).detach().expand(shape), masses[0].expand(shape), masses[1].expand(shape)


@st.composite
def cases(
    draw: Callable[..., Any], dtypes: tuple[str, ...] = tuple(DTYPES), components: int = 0, alike: bool = False
) -> Case:
    dtype = DTYPES[draw(st.sampled_from(dtypes))]
    seed = draw(st.integers(0, 10**6))
    latents, classes = draw(st.sampled_from([(1, 1), (1, 5), (2, 3), (4, 2)]))
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
    spread = draw(st.sampled_from([0.0, 1.0, 30.0, 1e3]))

    def normal(*shape: int, part: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=seeded(seed + part))

    prior, logits = spread * normal(latents, classes, part=0), spread * normal(*batch, latents, classes, part=1)
    mask = torch.rand(latents, classes, generator=seeded(seed)) < draw(st.sampled_from([0.0, 0.4]))
    mask[..., seed % classes] = False
    further = torch.rand(logits.shape, generator=seeded(seed + 1)) < draw(st.sampled_from([0.0, 0.4]))
    further[..., seed % classes] = False
    further &= not alike
    prior = prior.masked_fill(mask, -math.inf)
    logits = logits.masked_fill(mask | further, -math.inf)
    if components:
        logits = logits.unsqueeze(-3) + normal(components, latents, classes, part=2)
    theta = normal(latents, classes, part=3)
    leaves = (x.to(dtype).requires_grad_() for x in (logits, prior, theta))
    return Case(*leaves, temperature=10.0 ** draw(st.floats(-2, 2)), seed=seed)


def close(found: Tensor, expected: Tensor, size: float) -> None:
    """Right to rounding, of numbers of a size."""
    assert found.shape == expected.shape
    assert ((found.double() - expected).abs() <= 64 * torch.finfo(found.dtype).eps * size).all(), (found, expected)


def below(found: Tensor, bound: Tensor, size: float) -> None:
    assert (found.double() <= bound + 64 * torch.finfo(found.dtype).eps * size).all(), (found, bound)


def moving(value: Tensor, *leaves: Tensor) -> list[Tensor]:
    """The gradients of a sum, all finite."""
    assert value.isfinite().all()
    found = torch.autograd.grad(value.sum(), leaves, allow_unused=True, retain_graph=True)
    slopes = [torch.zeros_like(leaf) if slope is None else slope for leaf, slope in zip(leaves, found, strict=True)]
    assert all(slope.isfinite().all() for slope in slopes)
    return slopes


@bulk
@given(case=cases(), samples=st.sampled_from([1, 2, 7]))
def test_what_is_reported(case: Case, samples: int) -> None:
    def given(bound: Callable[..., Any]) -> Any:
        return bound(case.log_likelihood, case.logits, case.prior, samples=samples, generator=seeded(case.seed))

    f, log_p, log_q = case.every()
    low, high = given(elbo_and_iwae)
    assert torch.equal(given(elbo), low)
    assert torch.equal(given(iwae), high)
    assert low.dtype == high.dtype == case.logits.dtype
    # the mean of f is that of draws, which has no bounds but those of f; the rest is exact
    q = log_q.exp()
    divergence = (q * torch.where(q > 0, log_q - log_p, 0.0)).sum(0)
    mean = low.detach().double() + divergence
    possible = torch.where(q > 0, f, -math.inf), torch.where(q > 0, f, math.inf)
    if mean.numel():
        below(mean.to(low.dtype), possible[0].amax(0), case.size)
        below(-mean.to(low.dtype), -possible[1].amin(0), case.size)
        weight = torch.where(log_q > -math.inf, f + log_p - log_q, -math.inf)
        below(high, weight.amax(0), case.size)
    for value in (low, high):
        slopes = moving(value, case.logits, case.prior, case.theta)
        assert not slopes[0][case.logits == -math.inf].any()


@bulk
@given(case=cases(), chunk=st.sampled_from([1, 5, 2**18]))
def test_the_evidence(case: Case, chunk: int) -> None:
    f, log_p, log_q = case.every()
    found = log_marginal(case.log_likelihood, case.prior, tuple(case.batch), chunk=chunk)
    assert found.dtype == case.prior.dtype
    evidence = torch.logsumexp(f + log_p, 0)
    close(found, evidence, case.size)
    moving(found, case.prior, case.theta)
    exact = Objective(ESTIMATORS["exact"]())(case.log_likelihood, case.logits, case.prior)
    q = log_q.exp()
    close(exact, (q * torch.where(q > 0, f + log_p - log_q, 0.0)).sum(0), case.size)
    below(exact, evidence, case.size)
    moving(exact, case.logits, case.prior, case.theta)


PAIRS = [
    pytest.param(name, term, id=f"{name}, {term}")
    for name, term in itertools.product(ESTIMATORS, TERMS)
    if incompatible(ESTIMATORS[name].of_size(2, 2), TERMS[term]) is None
]


@pytest.mark.parametrize(("name", "term"), PAIRS)
@settings(bulk, max_examples=5)
@given(data=st.data())
def test_objectives(name: str, term: str, data: st.DataObject) -> None:
    kind = ESTIMATORS[name]
    case = data.draw(cases(WIDE, components=3 if kind.mixture else 0, alike=TERMS[term].temperate))
    latents, classes = case.prior.shape
    if kind.classes and kind.classes != classes:
        return
    own = {"temperature": case.temperature} if kind.relaxed and hasattr(kind, "temperature") else {}
    own |= {"components": 3} if kind.mixture else {}
    objective = Objective(kind.of_size(latents, classes, **own), TERMS[term])
    value = objective.learn(case.log_likelihood, case.logits, case.prior, generator=seeded(case.seed))
    assert value.shape == (case.batch[:-1] if kind.mixture else case.batch)
    slopes = moving(value, case.logits, case.prior, case.theta)
    assert not slopes[0][case.logits == -math.inf].any()
    again, loss = objective.with_loss(case.log_likelihood, case.logits, case.prior, generator=seeded(case.seed))
    assert torch.equal(again, value)
    assert loss.isfinite()
    posterior = objective.posterior(case.logits)
    assert isinstance(posterior, MixtureOfDiscreteFlows) == kind.mixture
    report = elbo(case.log_likelihood, posterior, case.prior, samples=2, generator=seeded(case.seed))
    assert report.shape == value.shape
    assert report.isfinite().all()


GIVEN: dict[str, Callable[[Tensor], Any]] = {
    "numbers": lambda z: z[..., :1].sum((-1, -2)),
    "a number": lambda z: z.sum(),
    "a number for each variable": lambda z: z.sum(-1),
    "integers": lambda z: z.long().sum((-1, -2)),
    "nothing": lambda z: None,
}


@pytest.mark.usefixtures("unchecked")
@bulk
@given(
    shape=st.lists(st.integers(0, 3), max_size=4),
    prior=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.complex64]),
    given=st.sampled_from(sorted(GIVEN)),
    samples=st.sampled_from([-1, 0, 1, 2, 1.5]),
)
def test_errors_are_of_one_kind(
    shape: list[int], prior: list[int], dtype: torch.dtype, given: str, samples: Any
) -> None:
    """Whatever is given, there is a number for each element of the batch, or a ValueError."""
    logits, prior_logits = torch.zeros(shape, dtype=dtype), torch.zeros(prior, dtype=dtype)
    try:
        value, _ = elbo_and_iwae(GIVEN[given], logits, prior_logits, samples=samples)
    except ValueError as error:
        said = str(error)
    else:
        assert given == "numbers"
        assert value.shape == tuple(shape[:-2])
        return
    assert "\n" not in said
    assert "use " in said or "sum over" in said
