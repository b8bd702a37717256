"""Flows and their mixtures hold over shapes, dtypes, numbers of classes, extreme logits and masks.

Right against the arithmetic of classes, one configuration after the other, in float64; with finite gradients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Independent, Transform
from torch.nn.functional import one_hot

from softhot.distributions import (
    Autoregressive,
    Flow,
    MaskedNetwork,
    MixtureOfDiscreteFlows,
    OneHotCategorical,
    Scale,
    Shift,
    bases,
    kl_divergence,
    location_scale,
)
from softhot.distributions.flows import separable
from softhot.kl import TERMS
from tests.bulk import DTYPES, WIDE, bulk
from tests.integrands import seeded


@dataclass(frozen=True)
class Case:
    """Logits of shifts and scales and of the weights of B components, whose bases are of one of four kinds."""

    shifts: Tensor
    scales: Tensor
    weights: Tensor
    other: Tensor
    own: tuple[int, ...]
    temperature: float
    kind: str
    start: str
    seed: int

    @cached_property
    def base(self) -> Tensor:
        """Logits of one of the bases, or any that have the right classes."""
        components, latents, classes = self.shifts.shape[-3:]
        uniform = bases.uniform(components, self.own)
        made: dict[str, Callable[[], Tensor]] = {
            "delta": lambda: bases.delta(torch.zeros(components, latents, dtype=torch.long), classes),
            "enumerated": lambda: bases.enumerated(components, self.own),
            "uniform": lambda: uniform,
            "dirichlet": lambda: bases.dirichlet(components, self.own, self.temperature, generator=seeded(self.seed)),
            "any": lambda: uniform + self.other,
        }
        return made[self.start]().to(self.shifts.dtype).requires_grad_()

    @property
    def size(self) -> float:
        """The largest number that a log-probability is summed from."""
        parts = [torch.where(x > -math.inf, x, 0.0).detach().abs() for x in (self.base, self.weights)]
        return 10 + 2 * len(self.own) * sum(x.max().item() for x in parts if x.numel())

    def flow(self) -> Transform:
        if self.kind == "shift":
            return Shift(self.shifts, self.temperature, self.own)
        if self.kind == "scale":
            return Scale(self.scales, self.temperature, self.own)
        return location_scale(self.shifts, self.scales, self.temperature, self.own)

    def mixture(self) -> MixtureOfDiscreteFlows:
        return MixtureOfDiscreteFlows(self.base, self.flow(), self.weights, validate_args=True)

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        return self.shifts, self.scales, self.weights, self.base

    def log_probabilities(self) -> Tensor:
        """Of every configuration, of shape (configurations, *batch), by moving the mass of each base."""
        shifts, scales, weights, base = (x.detach().double() for x in self.leaves)
        batch = shifts.shape[:-3]
        weights = weights.log_softmax(-1).expand(*batch, -1)
        base = base.log_softmax(-1).expand(*batch, *base.shape[-3:])
        every = [*itertools.product(*map(range, self.own))]
        found = {z: torch.full((*weights.shape[-1:], *batch), -math.inf, dtype=torch.float64) for z in every}
        for place in itertools.product(*map(range, batch)):
            for b in range(weights.shape[-1]):
                shift, scale = (self._chosen(x[place][b]) for x in (shifts, scales))
                shift = [0] * len(self.own) if self.kind == "scale" else shift
                scale = [1] * len(self.own) if self.kind == "shift" else scale
                for u in every:
                    z = tuple((m + s * j) % k for m, s, j, k in zip(shift, scale, u, self.own, strict=True))
                    mass = sum(base[place][b, n, j].item() for n, j in enumerate(u))
                    found[z][(b, *place)] = weights[place][b] + mass
        return torch.stack(list(found.values())).logsumexp(1)

    def _chosen(self, logits: Tensor) -> list[int]:
        """The likeliest of what is allowed; among scales only what is coprime is possible, see `cases`."""
        return [int(row[:k].argmax()) for row, k in zip(logits, self.own, strict=True)]


def one_hots(own: Sequence[int], classes: int) -> Tensor:
    return one_hot(torch.tensor([*itertools.product(*map(range, own))]), classes).double()


@st.composite
def cases(draw: Callable[..., Any], dtypes: tuple[str, ...] = tuple(DTYPES)) -> Case:
    dtype = DTYPES[draw(st.sampled_from(dtypes))]
    seed, kind = draw(st.integers(0, 10**6)), draw(st.sampled_from(["shift", "scale", "both"]))
    own = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    batch = draw(st.sampled_from([(), (1,), (2,), (2, 2), (0,)]))
    components, classes = draw(st.sampled_from([1, 2, 4])), max(own)
    spread = draw(st.sampled_from([1e-3, 1.0, 30.0, 1e4]))
    shape = *batch, components, len(own), classes

    def normal(*shape: int, part: int) -> Tensor:
        return spread * torch.randn(shape, dtype=torch.float64, generator=seeded(seed + part))

    def possible(x: Tensor, part: int) -> Tensor:
        """Some entries are excluded, of the first class none, nor of what it would leave without one."""
        mask = torch.rand(x.shape, generator=seeded(seed + part)) < draw(st.sampled_from([0.0, 0.5]))
        mask[..., 0] = False
        return x.masked_fill(mask, -math.inf)

    coprime = torch.tensor([[math.gcd(s, k) == 1 and s < k for s in range(classes)] for k in own])
    leaves = (
        possible(normal(*shape, part=0), 1),
        normal(*shape, part=2).masked_fill(~coprime, -math.inf),
        possible(normal(components, part=3), 4),
    )
    shifts, scales, weights = (x.to(dtype).requires_grad_() for x in leaves)
    other = possible(normal(*shape, part=5), 6)
    temperature = 10.0 ** draw(st.floats(-3, 3))
    start = draw(st.sampled_from(["any", "delta", "dirichlet", "enumerated", "uniform"]))
    return Case(shifts, scales, weights, other, own, temperature, kind, start, seed)


def close(found: Tensor, expected: Tensor, size: float | Tensor = 1.0) -> None:
    """Right to rounding: of a sum of a few dozen numbers of a size, in the dtype or float32."""
    info = torch.finfo(found.dtype)
    wide = torch.finfo(torch.promote_types(found.dtype, torch.float32)).eps
    limit = info.eps * expected.abs() + 64 * wide * torch.as_tensor(size) + info.tiny
    assert found.shape == expected.shape
    assert ((found.double() - expected).abs() <= limit).all(), (found, expected)


def moving(value: Tensor, *leaves: Tensor) -> None:
    """Finite gradients of a sum, and finite numbers."""
    assert value.isfinite().all()
    if value.numel() and value.requires_grad:
        for slope in torch.autograd.grad(value.sum(), leaves, allow_unused=True, retain_graph=True):
            assert slope is None or slope.isfinite().all()


@bulk
@given(case=cases())
def test_flows_are_permutations(case: Case) -> None:
    flow, classes = case.flow(), case.base.shape[-1]
    u = one_hots(case.own, classes)[(..., *(None,) * (case.shifts.dim() - 2), slice(None), slice(None))]
    u = u.to(case.base.dtype)
    z = flow(u)
    assert z.shape == (len(u), *case.shifts.shape)
    assert torch.equal(z.sort(0).values, u.expand_as(z).sort(0).values)
    assert torch.equal(flow.inv(z), u.expand_as(z))
    assert not flow.log_abs_det_jacobian(u, z).any()
    assert separable(flow)
    moving(z * torch.arange(classes), *case.leaves[:2])


@bulk
@given(case=cases())
def test_mixtures_are_distributions(case: Case) -> None:
    q, classes, batch = case.mixture(), case.base.shape[-1], case.shifts.shape[:-3]
    z = one_hots(case.own, classes)
    points = z.reshape(len(z), *(1,) * len(batch), *z.shape[1:]).expand(len(z), *batch, *z.shape[1:])
    log_probs = case.log_probabilities()
    probs = log_probs.exp()
    found = q.log_prob(points.to(case.base.dtype))
    assert found.dtype == case.base.dtype
    possible = log_probs > -math.inf
    assert torch.equal(found > -math.inf, possible)
    close(torch.where(possible, found, 0.0), torch.where(possible, log_probs, 0.0), case.size)
    # p log p has a slope of log p: of the smallest that is no rounding, a few dozen
    close(q.entropy(), -torch.xlogy(probs, probs).sum(0), 64 * case.size)
    mean = (probs[..., None, None] * points).sum(0)
    close(q.mean, mean, case.size)
    close(q.variance, mean * (1 - mean), case.size)
    each = torch.arange(1.0, 1 + classes)
    close(q.expectation(lambda z: (z * each.to(z.dtype)).sum((-1, -2))), (mean * each).sum((-1, -2)), 64 * case.size)
    for value in (q.entropy(), q.mean, q.expectation(lambda z: z[..., 0].sum(-1))):
        moving(value, *case.leaves)


@bulk
@given(case=cases(), stratified=st.booleans())
def test_draws_of_mixtures(case: Case, stratified: bool) -> None:
    q = case.mixture()

    def drawn(of: MixtureOfDiscreteFlows) -> tuple[Tensor, Tensor]:
        return of.rsample_and_log_prob((5,), stratified=stratified, generator=seeded(case.seed))

    z, log_q = drawn(q)
    assert z.dtype == log_q.dtype == case.base.dtype
    assert torch.equal(z.sum(-1), torch.ones(5, *q.batch_shape, len(case.own), dtype=z.dtype))
    assert ((z == 0) | (z == 1)).all()
    assert all(not z[..., n, k:].any() for n, k in enumerate(case.own))
    close(log_q, q.log_prob(z).detach().double(), 100)
    assert torch.equal(z, q.sample((5,), stratified=stratified, generator=seeded(case.seed)))
    assert torch.equal(z, q.rsample((5,), stratified=stratified, generator=seeded(case.seed)))
    for value in (z * torch.arange(z.shape[-1]), log_q, q.log_prob(z)):
        moving(value, *case.leaves)
    wider = q.expand((3, *q.batch_shape))
    assert drawn(wider)[0].shape == (5, 3, *q.batch_shape, *q.event_shape)
    close(wider.entropy(), q.entropy().detach().double().expand(3, *q.batch_shape), 100)


@bulk
@given(case=cases(WIDE), spread=st.sampled_from([0.0, 1.0, 30.0]))
def test_divergences_of_mixtures(case: Case, spread: float) -> None:
    q, classes = case.mixture(), case.base.shape[-1]
    prior = spread * torch.randn(len(case.own), classes, dtype=torch.float64, generator=seeded(case.seed + 9))
    prior = prior.to(case.base.dtype).requires_grad_()
    p = Independent(OneHotCategorical(logits=prior), 1)
    probs, z = case.log_probabilities().exp(), one_hots(case.own, classes)
    log_p = (z * prior.detach().double().log_softmax(-1)).sum((-1, -2))
    expected = torch.xlogy(probs, probs).sum(0) - (probs.movedim(0, -1) * log_p).sum(-1)
    size = 64 * (1 + spread * 5) * case.size
    divergence = kl_divergence(q, p)
    close(divergence, expected, size)
    moving(divergence, prior, *case.leaves)
    close(kl_divergence(q, q), torch.zeros_like(expected), size)

    deltas = MixtureOfDiscreteFlows.of_deltas(case.shifts, case.temperature)
    joint = TERMS["mixture"](case.shifts, prior, case.temperature)
    close(joint, kl_divergence(deltas, p).detach().double()[..., None], size)
    apart = TERMS["product-of-mixtures"](case.shifts, prior, case.temperature)
    assert (apart.sum(-1) <= joint.sum(-1) + 1e-4 * size).all()
    for value in (joint, apart):
        moving(value, prior, case.shifts)


@bulk
@given(
    own=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    components=st.sampled_from([None, 1, 3]),
    scales=st.booleans(),
    weight=st.sampled_from([0.0, 1.0, 1e3]),
    seed=st.integers(0, 10**6),
)
def test_autoregressive_flows(own: list[int], components: int | None, scales: bool, weight: float, seed: int) -> None:
    torch.manual_seed(seed)
    order = torch.randperm(len(own)).tolist()
    network = MaskedNetwork(len(own), max(own), 3, order, components, scales)
    with torch.no_grad():
        network.second.mul_(weight)
    flow: Flow = Autoregressive(network, order, 0.5, own)
    u = one_hots(own, max(own)).float()
    u = u if components is None else u[:, None].expand(-1, components, -1, -1)
    z = flow(u)
    assert torch.equal(flow.inv(z), u)
    for b in range(components or 1):
        every = z if components is None else z[:, b]
        assert len({tuple(row) for row in every.flatten(1).tolist()}) == len(u)
    assert not separable(flow)
    q = MixtureOfDiscreteFlows(bases.uniform(components or 1, own), flow)
    close(q.entropy().detach(), torch.tensor(math.log(len(u)), dtype=torch.float64), 10)
    moving(flow(u) * torch.arange(max(own)), *network.parameters())


MAKES: dict[str, Callable[..., Any]] = {
    "shift": Shift,
    "scale": Scale,
    "location-scale": lambda logits, t, own: location_scale(logits, torch.zeros(2, 3), t, own),
    "deltas": lambda logits, t, own: MixtureOfDiscreteFlows.of_deltas(logits, t, cardinalities=own),
    "bases": lambda logits, t, own: MixtureOfDiscreteFlows(logits, Shift(torch.zeros(2, 3), t, own)),
    "weights": lambda logits, t, own: MixtureOfDiscreteFlows.of_deltas(torch.zeros(3, 2, 3), t, logits, own),
}


@pytest.mark.usefixtures("unchecked")
@bulk
@given(
    shape=st.lists(st.integers(0, 3), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.complex64]),
    fill=st.sampled_from([0.0, -math.inf, math.inf, math.nan]),
    own=st.one_of(st.none(), st.lists(st.integers(-1, 4), max_size=3)),
    temperature=st.sampled_from([1.0, 0.0, -1.0, math.nan]),
    kind=st.sampled_from(sorted(MAKES)),
)
def test_errors_are_of_one_kind(
    shape: list[int], dtype: torch.dtype, fill: float, own: list[int] | None, temperature: float, kind: str
) -> None:
    """Whatever is given, there is a flow of finite draws, or a ValueError."""
    logits = torch.zeros(shape, dtype=dtype)
    if shape and dtype.is_floating_point:
        logits[..., :1] = fill
    try:
        made = MAKES[kind](logits, temperature, own)
        z = made.sample() if isinstance(made, MixtureOfDiscreteFlows) else made(torch.zeros(shape))
    except ValueError as error:
        said = str(error)
    else:
        assert z.isfinite().all()
        assert dtype.is_floating_point
        assert temperature == 1.0
        return
    assert "\n" not in said
    assert "use " in said
