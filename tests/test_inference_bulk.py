"""Inference holds over tables of any shape, range and dtype, with impossible configurations, and in its settings.

The truth is the table: every configuration, looked up and summed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_inference import direct_elbo, table
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.inference import boosting, likeliest, mean_field, shifted_deltas, variational
from tests.bulk import DTYPES, bulk
from tests.integrands import seeded

INF = math.inf


@dataclass(frozen=True)
class Case:
    """A random table of log p(x, z), a number of configurations or components, and the dtype of one-hot vectors."""

    values: Tensor
    count: int
    dtype: torch.dtype
    temperature: float
    seed: int

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def every(self) -> Tensor:
        """All configurations, in the order of the table."""
        return torch.cartesian_prod(*map(torch.arange, self.sizes)).reshape(-1, len(self.sizes))

    @property
    def possible(self) -> Tensor:
        """The values that are not -inf, the largest first."""
        values = self.values.flatten().sort(descending=True).values
        return values[values > -INF]

    @property
    def evidence(self) -> float:
        return self.values.flatten().logsumexp(0).item()

    @property
    def size(self) -> float:
        """The largest number that an ELBO is summed from, but for a factor of order one."""
        return 1 + self.possible.abs().max().item() + math.log(self.count * self.values.numel())


@st.composite
def cases(draw: Callable[..., Any], dtypes: tuple[str, ...] = tuple(DTYPES)) -> Case:
    seed = draw(st.integers(0, 10**6))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    dtype = DTYPES[draw(st.sampled_from(dtypes))]
    values = draw(st.sampled_from([0.0, 1.0, 30.0, 1e4])) * torch.randn(sizes, generator=seeded(seed)).double()
    values += draw(st.sampled_from([0.0, -1e4, 300.0]))
    mask = torch.rand(sizes, generator=seeded(seed + 1)) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    mask.flatten()[seed % mask.numel()] = False
    values = values.to(dtype).double().masked_fill(mask, -INF)
    count = draw(st.sampled_from([1, 2, 5, 40]))
    return Case(values, count, dtype, 10.0 ** draw(st.floats(-3, 3)), seed)


def product_elbo(q: Tensor, values: Tensor) -> float:
    """The ELBO of independent variables, -inf where an impossible configuration has mass."""
    mass = torch.ones((), dtype=torch.float64)
    for n, size in enumerate(values.shape):
        mass = mass[..., None] * q[n, :size]
    entropy = -torch.special.xlogy(q, q).sum()
    return (torch.where(mass > 0, mass * values, 0.0).sum() + entropy).item()


def attempt(call: Callable[[], Any]) -> Any:
    """What it gives, or None where it is refused in one line."""
    try:
        return call()
    except ValueError as error:
        said = str(error)
    assert any(cure in said for cure in ("use ", "sum over", "must be"))
    assert "\n" not in said
    return None


# ---- the search


@bulk
@given(case=cases())
def test_the_likeliest_of_all(case: Case) -> None:
    found = likeliest(table(case.values), case.sizes, case.count, dtype=case.dtype)
    assert (found.proven, found.evaluations) == (True, case.values.numel())
    assert torch.equal(found.log_joint.double(), case.possible[: case.count])
    assert torch.equal(case.values[tuple(found.classes.T)], found.log_joint.double())
    assert len(found.classes.unique(dim=0)) == len(found.classes)


@pytest.mark.parametrize("starts", ["all", "one", "drawn"])
@pytest.mark.parametrize("reach", [1, 2, 3])
@bulk
@given(case=cases())
def test_a_search_ends_where_nothing_within_reach_is_better(reach: int, starts: str, case: Case) -> None:
    possible = case.every[case.values.flatten() > -INF]
    given = {"all": case.every, "one": possible[case.seed % len(possible)][None], "drawn": 500}[starts]
    options: dict[str, Any] = {"starts": given, "reach": reach, "dtype": case.dtype, "generator": seeded(case.seed)}
    found = likeliest(table(case.values), case.sizes, case.count, limit=1, **options)
    values = found.log_joint.double()
    assert found.proven == (case.values.numel() == 1)
    assert torch.equal(case.values[tuple(found.classes.T)], values)
    assert torch.equal(values, values.sort(descending=True).values)
    assert len(found.classes.unique(dim=0)) == len(found.classes) <= case.count
    if starts == "all":
        assert torch.equal(values, case.possible[: case.count])
    away = (case.every[:, None] != found.classes).sum(-1).amin(-1)
    others = case.values.flatten()[(away > 0) & (away <= reach)]
    assert (others <= (values[-1] if len(values) == case.count else -INF)).all()


# ---- boosting


def close(found: float, expected: float, size: float, dtype: torch.dtype = torch.float64) -> None:
    """Right to rounding, of numbers of a size."""
    assert abs(found - expected) <= 64 * torch.finfo(dtype).eps * size, (found, expected)


@bulk
@given(case=cases())
def test_mixtures_of_the_best_configurations(case: Case) -> None:
    fit = boosting(table(case.values), case.sizes, case.count, dtype=case.dtype)
    assert (len(fit.history), fit.q.components) == (case.count, case.count)
    assert fit.elbo == fit.history[-1] <= case.evidence + 1e-14 * case.size
    wide = torch.promote_types(case.dtype, torch.float32)
    close(direct_elbo(fit.q, case.values), fit.elbo, case.size, wide)
    # no component would be better elsewhere: what it adds where it is, and what it would add there
    z = one_hot(case.every, max(case.sizes)).double()
    counts = (fit.q.log_prob(z).exp() * case.count).round()
    entropy = torch.special.xlogy(counts, counts)
    more = case.values.flatten() - torch.special.xlogy(counts + 1, counts + 1) + entropy
    last = (case.values.flatten() + torch.special.xlogy(counts - 1, counts - 1) - entropy)[counts > 0]
    assert counts.sum() == case.count
    assert last.min() >= more.max() - 1e-12 * case.size


@bulk
@given(case=cases())
def test_mixtures_with_free_weights(case: Case) -> None:
    fit = boosting(table(case.values), case.sizes, case.count, free_weights=True, dtype=case.dtype)
    expected = case.possible[: case.count].logcumsumexp(0)
    assert fit.q.components == len(fit.history) == len(expected)
    for found, exact in zip(fit.history, expected.tolist(), strict=True):
        close(found, exact, case.size)
    wide = torch.promote_types(case.dtype, torch.float32)
    close(direct_elbo(fit.q, case.values), fit.elbo, case.size**2, wide)  # weights are right to their logarithm's size


# ---- products


@bulk
@given(case=cases(("float64",)), data=st.data())
def test_coordinate_ascent(case: Case, data: st.DataObject) -> None:
    starts = likeliest(table(case.values), case.sizes, case.count).classes

    def ascend(sweeps: int) -> Any:
        return mean_field(table(case.values), case.sizes, starts, sweeps=sweeps, generator=seeded(case.seed))

    fit, early = ascend(1000), ascend(data.draw(st.integers(1, 3)))
    slack = 1e-10 * case.size
    for each in (fit, early):
        q = each.logits.exp()
        assert each.logits.shape == (len(case.sizes), max(case.sizes))
        assert not q[torch.arange(max(case.sizes)) >= torch.tensor(case.sizes)[:, None]].any()
        torch.testing.assert_close(q.sum(-1), torch.ones(len(case.sizes)).double(), rtol=0, atol=1e-12)
        close(product_elbo(q, case.values), each.elbo, case.size**2)
        assert each.elbo == max(each.elbos)
        assert len(each.elbos) == len(starts)
        assert case.possible[0].item() - slack <= each.elbo <= case.evidence + slack
    assert all(late >= soon - slack for late, soon in zip(fit.elbos, early.elbos, strict=True))
    # no variable can be chosen better, the others being as they are
    q = fit.logits.exp()
    for n, size in enumerate(case.sizes):
        each = [torch.cat([q[:n], one_hot(torch.tensor([k]), max(case.sizes)), q[n + 1 :]]) for k in range(size)]
        assert torch.tensor([product_elbo(one, case.values) for one in each]).logsumexp(0).item() <= fit.elbo + (
            1e4 * slack
        )


# ---- gradients


@bulk
@given(
    case=cases(("float64",)),
    learned=st.booleans(),
    floor=st.sampled_from([None, -50.0, -1e6]),
    samples=st.sampled_from([None, 1, 7]),
)
def test_gradient_ascent(case: Case, learned: bool, floor: float | None, samples: int | None) -> None:
    components, latents, classes = min(case.count, 5), len(case.sizes), max(case.sizes)
    family = shifted_deltas(case.sizes, components, learned_weights=learned, generator=seeded(case.seed))
    impossible = (case.values == -INF).any().item()
    options = {"temperature": case.temperature, "samples": samples, "floor": floor}
    fit = attempt(lambda: variational(table(case.values), *family, steps=3, **options, generator=seeded(case.seed)))
    if fit is None:  # a component is where nothing is possible
        assert impossible
        assert floor is None
        return
    for parameter in family[1]:
        assert parameter.isfinite().all()
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    around = 1 if floor is None else latents * classes
    assert fit.evaluations == 3 * (samples or components) * around
    assert len(fit.history) == 3
    assert all(map(math.isfinite, fit.history))
    assert not math.isnan(fit.error)
    exact = direct_elbo(fit.q, case.values)
    assert exact <= case.evidence + 1e-12 * case.size
    if samples is None:
        assert fit.error == 0.0
        if math.isfinite(exact):
            close(fit.elbo, exact, case.size)
        assert math.isfinite(fit.elbo) == math.isfinite(exact)
        if not impossible and (floor is None or floor == -1e6):
            close(fit.elbo, max(fit.history), case.size)
    elif math.isfinite(exact):
        assert abs(fit.elbo - exact) <= 4.9 * fit.error + 1e-10 * case.size  # a false-alarm rate of 1e-6


@bulk
@given(case=cases(("float64",)))
def test_shifted_deltas_are_where_their_logits_say(case: Case) -> None:
    make, (logits, weights) = shifted_deltas(case.sizes, case.count, learned_weights=True, generator=seeded(case.seed))
    with torch.no_grad():
        logits *= 10 ** (case.seed % 7)
        weights += torch.randn(weights.shape, dtype=torch.float64, generator=seeded(case.seed)) * (case.seed % 50)
    z = one_hot(case.every, max(case.sizes)).double()
    log_q = make(case.temperature).log_prob(z)
    inside = torch.arange(max(case.sizes)) < torch.tensor(case.sizes)[:, None]
    places = logits.masked_fill(~inside, -INF).argmax(-1)
    there = (case.every[:, None] == places).all(-1)
    assert torch.equal(log_q > -INF, there.any(-1))
    torch.testing.assert_close(log_q.exp(), there.double() @ weights.softmax(-1))
    for slope in torch.autograd.grad(log_q[there.any(-1)].sum(), (logits, weights)):
        assert slope.isfinite().all()
    assert not torch.autograd.grad(make(case.temperature).entropy(), logits)[0][:, ~inside].any()
