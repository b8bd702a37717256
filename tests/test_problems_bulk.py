"""Problems hold over sizes, dtypes, and extreme logits and parameters: what is exact is what is summed in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn.functional import one_hot

from softhot.problems import (
    PROBLEMS,
    BayesianNetwork,
    GaussianMixture,
    Node,
    Polynomial,
    Problem,
    Quadratic,
    QuadraticProgramme,
    SharedLogit,
    normal_values,
    problem,
)
from softhot.testing import exact_gradient, exact_value
from tests.bulk import DTYPES, bulk
from tests.integrands import seeded

INF = math.inf


def close(found: Tensor, expected: Tensor | float, size: float) -> None:
    """Right to rounding, of numbers of a size."""
    limit = 64 * torch.finfo(found.dtype).eps * size
    error = (found.detach().double() - expected).abs()
    assert (error <= limit).all(), (error.max().item(), limit)


# ---- problems with known truth


@dataclass(frozen=True)
class Case:
    """A problem, parameters of a batch, and the largest number that its value is summed from."""

    kind: Callable[..., Problem]
    settings: dict[str, Any]
    seed: int
    batch: tuple[int, ...]
    dtype: torch.dtype
    spread: float
    impossible: float

    @cached_property
    def toy(self) -> Problem:
        return self.kind(**self.settings)

    @cached_property
    def parameters(self) -> Tensor:
        shape = *self.batch, *self.toy.start().shape
        found = self.spread * torch.randn(shape, dtype=torch.float64, generator=seeded(self.seed))
        if shape[-1] > 1:  # one class is possible at least
            mask = torch.rand(shape, generator=seeded(self.seed)) < self.impossible
            mask[..., self.seed % shape[-1]] = False
            found = found.masked_fill(mask, -INF)
        return found.to(self.dtype).requires_grad_()

    @property
    def size(self) -> float:
        z = torch.eye(self.toy.classes, dtype=torch.float64)[torch.arange(self.toy.classes), None]
        costs = self.toy.f(z.expand(-1, self.toy.latents, -1)).abs().max().item()
        return self.toy.latents * self.toy.classes * (1 + costs)


@st.composite
def cases(draw: Callable[..., Any]) -> Case:
    seed = draw(st.integers(0, 10**6))
    latents, classes = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    numbers = st.floats(-5, 5)
    values = tuple(draw(st.lists(numbers, min_size=classes, max_size=classes)))
    kinds: list[tuple[Callable[..., Problem], dict[str, Any]]] = [
        (Polynomial, {"latents": latents, "values": values, "target": draw(numbers), "power": draw(st.floats(1, 4))}),
        (SharedLogit, {"targets": values}),
        (Quadratic, {"latents": latents, "classes": classes, "seed": seed}),
        (QuadraticProgramme, {"classes": classes}),
    ]
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 3), (0,)]))
    dtype = DTYPES[draw(st.sampled_from(list(DTYPES)))]
    spread, impossible = draw(st.sampled_from([0.0, 1.0, 30.0, 1e4])), draw(st.sampled_from([0.0, 0.3, 0.9]))
    return Case(*draw(st.sampled_from(kinds)), seed, batch, dtype, spread, impossible)


@settings(bulk, max_examples=100)
@given(case=cases())
def test_values_and_gradients(case: Case) -> None:
    toy, logits = case.toy, case.toy.logits(case.parameters)
    value = toy.value(logits)
    assert (value.shape, value.dtype) == (logits.shape[:-2], case.parameters.dtype)
    close(value, exact_value(toy.f, logits.detach()), case.size)
    gradient = toy.gradient(case.parameters)
    assert (gradient.shape, gradient.dtype) == (case.parameters.shape, case.parameters.dtype)
    wide = case.parameters.detach().double().requires_grad_()
    (chained,) = torch.autograd.grad(toy.logits(wide), wide, exact_gradient(toy.f, logits))
    close(gradient, chained, case.size)
    assert not gradient[case.parameters == -INF].any()
    least = toy.minimum()
    assert least is not None
    assert (value.double() >= least - 64 * torch.finfo(value.dtype).eps * case.size).all()


@bulk
@given(case=cases())
def test_the_least_cost_is_that_of_the_best_configuration(case: Case) -> None:
    toy = case.toy
    every = torch.cartesian_prod(*[torch.arange(toy.classes)] * toy.latents).reshape(-1, toy.latents)
    cost = toy.f(one_hot(every, toy.classes).double())
    if isinstance(toy, SharedLogit):
        cost = cost[(every == every[:, :1]).all(-1)]
    if not isinstance(toy, QuadraticProgramme):  # which is least between its configurations
        assert toy.minimum() == pytest.approx(cost.min().item(), rel=1e-12, abs=1e-13 * case.size)


@bulk
@given(classes=st.integers(2, 50), seed=st.integers(0, 2**40))
def test_normal_values_keep_the_order_of_those_they_come_from(classes: int, seed: int) -> None:
    values = torch.tensor(normal_values(classes, seed), dtype=torch.float64)
    drawn = torch.randn(classes, generator=seeded(seed)).double()
    assert (values.min(), values.max(), len(values)) == (0, 1, classes)
    assert np.corrcoef(values, drawn)[0, 1] == pytest.approx(1.0)


# ---- Gaussian mixtures


@st.composite
def mixtures(draw: Callable[..., Any]) -> tuple[GaussianMixture, Tensor]:
    """With logits of the assignments, not so sharp that a row has next to no mass and is no row."""
    seed, classes = draw(st.integers(0, 10**6)), draw(st.integers(2, 4))
    rows, width = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    noise, spread, far = (10.0 ** draw(st.floats(-2, 2)) for _ in range(3))
    data = far * torch.randn(rows, width, dtype=torch.float64, generator=seeded(seed))
    logits = draw(st.sampled_from([0.0, 1.0, 5.0])) * torch.randn(rows, classes, generator=seeded(seed)).double()
    mask = torch.rand(rows, classes, generator=seeded(seed)) < draw(st.sampled_from([0.0, 0.5]))
    mask[:, seed % classes] = False
    return GaussianMixture(data, classes, noise, spread), logits.masked_fill(mask, -INF).requires_grad_()


def weighed_evidence(mixture: GaussianMixture, r: Tensor) -> float:
    """The ELBO with the best q(mu): N(x; mu, s^2)^r is N(x; mu, s^2 / r) times a number, and x alone is normal."""
    total = -torch.special.xlogy(r, r).sum().item() - len(r) * math.log(mixture.classes)
    width = mixture.data.shape[-1]
    for k in range(mixture.classes):
        weight = r[:, k][r[:, k] > 0]
        if len(weight):
            covariance = mixture.spread**2 + torch.diag(mixture.noise**2 / weight)
            normal = MultivariateNormal(torch.zeros(len(weight), dtype=torch.float64), covariance)
            total += normal.log_prob(mixture.data[r[:, k] > 0].T).sum().item()
            scale = math.log(2 * math.pi * mixture.noise**2)
            total += 0.5 * width * ((1 - weight) * scale - weight.log()).sum().item()
    return total


@settings(bulk, max_examples=60)
@given(case=mixtures())
def test_gaussian_mixtures(case: tuple[GaussianMixture, Tensor]) -> None:
    mixture, logits = case
    elbo = mixture.elbo(logits)
    r = logits.detach().softmax(-1)
    ratio = 1 + (mixture.spread / mixture.noise) ** 2 * len(r)  # of the largest and the least of a covariance
    size = 10 + (mixture.data / mixture.noise).square().sum().item()
    assert elbo.item() == pytest.approx(weighed_evidence(mixture, r), abs=1e-13 * ratio * size)
    (slope,) = torch.autograd.grad(elbo, logits)
    assert slope.isfinite().all()
    assert not slope[logits == -INF].any()
    solved = mixture.solve(logits.detach())
    assert solved.isfinite().all()
    assert mixture.elbo(solved).item() >= elbo.item() - 1e-12 * size
    assert mixture.elbo(logits.detach().float()).item() == pytest.approx(elbo.item(), rel=1e-4, abs=1e-5 * ratio * size)


# ---- errors


def refused(call: Callable[[], Any]) -> bool:
    """Whether it is, in one line that says what to write."""
    try:
        call()
    except ValueError as error:
        said = str(error)
    else:
        return False
    assert any(cure in said for cure in ("use ", "known: ", "correct it"))
    assert "\n" not in said
    return True


def whole(least: int) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, int) and x >= least


def finite(x: Any) -> bool:
    return math.isfinite(x)


# a problem, one of its settings, and what it may be
SETTINGS: list[tuple[Callable[..., Any], str, Callable[[Any], bool]]] = [
    (Polynomial, "latents", whole(1)),
    (Polynomial, "target", finite),
    (Polynomial, "power", lambda x: 1 <= x < INF),
    (Quadratic, "latents", whole(1)),
    (Quadratic, "classes", whole(2)),
    (QuadraticProgramme, "classes", whole(2)),
    (QuadraticProgramme, "initial", finite),
    (SharedLogit, "initial", finite),
    (lambda values: Polynomial(values=(0.0, values)), "values", finite),
    (lambda targets: SharedLogit(targets=(0.0, targets)), "targets", finite),
    (normal_values, "classes", whole(2)),
    (lambda classes: GaussianMixture(torch.zeros(3, 2), classes), "classes", whole(2)),
    (lambda noise: GaussianMixture(torch.zeros(3, 2), 2, noise=noise), "noise", lambda x: 0 < x < INF),
    (lambda spread: GaussianMixture(torch.zeros(3, 2), 2, spread=spread), "spread", lambda x: 0 < x < INF),
    (lambda data: GaussianMixture(torch.tensor([[data]], dtype=torch.float64), 2), "data", finite),
    (problem, "name", lambda x: False),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("make", "name", "right"), SETTINGS, ids=[f"{n}-{s[1]}" for n, s in enumerate(SETTINGS)])
@pytest.mark.parametrize("value", [-1, 0, 1, 2, 2.0, 2.5, 1e300, math.nan, INF, -INF], ids=repr)
def test_settings_that_cannot_be(make: Any, name: str, right: Callable[[Any], bool], value: Any) -> None:
    assert refused(lambda: make(**{name: value})) != right(value)


@given(name=st.text(max_size=9))
@settings(bulk)
def test_names_of_problems(name: str) -> None:
    assert refused(lambda: problem(name)) == (name not in PROBLEMS)


@pytest.mark.usefixtures("unchecked")
@settings(bulk, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 4), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool]),
)
def test_tensors_that_do_not_fit(shape: list[int], dtype: torch.dtype) -> None:
    x = torch.zeros(shape, dtype=dtype)
    assert refused(lambda: GaussianMixture(x, 2)) == (len(shape) != 2)
    assert refused(lambda: GaussianMixture(x.tolist(), 2))  # type: ignore[arg-type]
    mixture = GaussianMixture(torch.zeros(3, 2), 2)
    fits = shape == [3, 2] and dtype.is_floating_point
    assert [refused(lambda: mixture.elbo(x)), refused(lambda: mixture.solve(x))] == [not fits] * 2
    node = Node("v", ("a", "b"), (), torch.tensor([0.5, 0.5]))
    assert refused(lambda: Node("w", ("a", "b"), (), x.tolist()))  # type: ignore[arg-type]
    assert refused(lambda: Node("w", ("a", "b"), (), x))  # which sums to zero
    network = BayesianNetwork((node, Node("w", ("a", "b", "c"), (), torch.tensor([0.5, 0.5, 0.0]))))
    assert refused(lambda: network.log_joint(x)) != (shape[-2:] == [2, 3] and dtype.is_floating_point)
    for toy in (
        Polynomial(2, (1.0, 0.5, 0.0)),
        Quadratic(2, 3),
        QuadraticProgramme(classes=3),
        SharedLogit((0.4, 0.6)),
    ):
        fits = shape[-2:] == [toy.latents, toy.classes] and dtype.is_floating_point
        assert [refused(lambda toy=toy: toy.f(x)), refused(lambda toy=toy: toy.value(x))] == [not fits] * 2
        own = list(toy.start().shape)
        fits = shape[-len(own) :] == own and dtype.is_floating_point
        assert [refused(lambda toy=toy: toy.logits(x)), refused(lambda toy=toy: toy.gradient(x))] == [not fits] * 2
