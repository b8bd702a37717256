"""Inference by mixtures of discrete flows: what is said to be the best is, by trying all; the rest is near it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.distributions import Autoregressive, MaskedNetwork, MixtureOfDiscreteFlows, bases
from softhot.functional import Exponential
from softhot.inference import LogJoint, boosting, likeliest, mean_field, shifted_deltas, variational
from softhot.testing import assert_mean
from tests.integrands import seeded

INF = math.inf
UNEVEN = (2, 4, 3)


def table(values: Tensor) -> LogJoint:
    """The target of a table of log-probabilities, with a dimension for each variable; linear in each of them."""

    def log_joint(z: Tensor) -> Tensor:
        mass = z.new_ones(*z.shape[:-2], 1)
        for n, size in enumerate(values.shape):
            mass = (mass[..., None] * z[..., n, None, :size]).flatten(-2)
        flat = values.flatten().to(z.dtype)
        impossible = flat == -INF
        inside = (mass * flat.masked_fill(impossible, 0.0)).sum(-1)
        return inside.masked_fill(((mass > 0) & impossible).any(-1), -INF)

    return log_joint


def random_table(*sizes: int, seed: int = 0, impossible: float = 0.0) -> Tensor:
    values = 2 * torch.randn(sizes, dtype=torch.float64, generator=seeded(seed))
    drawn = torch.rand(sizes, dtype=torch.float64, generator=seeded(seed + 1))
    return values.masked_fill(drawn < impossible, -INF)


def earthquake() -> Tensor:
    """The joint table of burglary, earthquake, alarm and John calls, with Mary calls observed; true is first."""

    def coin(*p: float) -> Tensor:
        p = torch.tensor(p, dtype=torch.float64)
        return torch.stack([p, 1 - p], -1)

    alarm = coin(0.95, 0.94, 0.29, 0.001).reshape(2, 2, 2)
    mary, john = coin(0.7, 0.01)[:, 0], coin(0.9, 0.05)
    joint = torch.einsum("b,e,bea,aj,a->beaj", coin(0.01)[0], coin(0.02)[0], alarm, john, mary)
    return joint.log()


def divergence(elbo: float, values: Tensor) -> float:
    return values.logsumexp(tuple(range(values.dim()))).item() - elbo


def direct_elbo(q: MixtureOfDiscreteFlows, values: Tensor) -> float:
    """By enumeration of z and the joint probability of the mixture."""
    z = one_hot(torch.tensor(list(itertools.product(*map(range, values.shape)))), max(values.shape)).double()
    log_q = q.log_prob(z)
    terms = log_q.exp() * (values.flatten() - log_q)
    return terms[log_q > -INF].sum().item()


# the search


@pytest.mark.parametrize("impossible", [0.0, 0.5])
@pytest.mark.parametrize("sizes", [UNEVEN, (2,) * 7, (5,), (3, 1, 3)], ids=str)
def test_the_search_finds_what_enumeration_finds(sizes: tuple[int, ...], impossible: float) -> None:
    values = random_table(*sizes, impossible=impossible)
    every = likeliest(table(values), sizes, 10)
    expected = values.flatten().sort(descending=True).values
    expected = expected[expected > -INF][:10]
    assert torch.equal(every.log_joint, expected)
    assert every.proven
    assert every.evaluations == values.numel()
    looked_up = values[tuple(every.classes.T)]
    assert torch.equal(looked_up, expected)
    found = likeliest(table(values), sizes, 10, limit=1, starts=3 if not impossible else 20, generator=seeded())
    assert torch.equal(found.log_joint, expected)
    assert not found.proven


def test_the_search_looks_at_few_of_many() -> None:
    size, count = 40, 50
    weights = torch.randn(size, 2, dtype=torch.float64, generator=seeded())
    found = likeliest(lambda z: (z * weights).sum((-1, -2)), (2,) * size, count, starts=10, generator=seeded())
    # independent variables: the gaps to the best configuration are sums of the gaps of variables
    gaps = (weights[:, 0] - weights[:, 1]).abs().sort().values[:12]
    sums = torch.tensor(sorted(sum(part) for r in range(5) for part in itertools.combinations(gaps.tolist(), r)))
    expected = weights.amax(-1).sum() - sums[:count]
    torch.testing.assert_close(found.log_joint, expected.double())
    assert found.evaluations < 10**5


def test_a_wider_reach_gets_out_of_a_corner() -> None:
    values = torch.full((2, 2, 2), -INF, dtype=torch.float64)
    values[0, 0, 0], values[1, 1, 0] = -1.0, 0.0
    start = torch.zeros(1, 3, dtype=torch.long)
    near, far = (likeliest(table(values), (2,) * 3, 2, limit=1, starts=start, reach=r) for r in (1, 2))
    assert near.log_joint.tolist() == [-1.0]
    assert far.log_joint.tolist() == [0.0, -1.0]


# boosting


def best_of_all(log_p: Sequence[float], components: int) -> float:
    """The largest ELBO of all ways to put components on configurations."""
    best = -INF
    for chosen in itertools.combinations_with_replacement(range(len(log_p)), components):
        counts = [chosen.count(place) / components for place in range(len(log_p))]
        best = max(best, sum(c * (log_p[i] - math.log(c)) for i, c in enumerate(counts) if c))
    return best


@pytest.mark.parametrize("seed", range(5))
def test_every_stage_is_the_best_mixture_of_that_many(seed: int) -> None:
    values = random_table(2, 3, seed=seed)
    fit = boosting(table(values), values.shape, components=6)
    assert fit.proven
    for number, elbo in enumerate(fit.history, start=1):
        assert elbo == pytest.approx(best_of_all(values.flatten().tolist(), number), abs=1e-12)
    assert fit.elbo == fit.history[-1]
    assert direct_elbo(fit.q, values) == pytest.approx(fit.elbo, abs=1e-12)
    assert fit.q.components == 6
    free = boosting(table(values), values.shape, components=4, free_weights=True)
    mass = values.flatten().sort(descending=True).values[:4].logsumexp(0).item()
    assert free.elbo == pytest.approx(mass, abs=1e-12)
    assert direct_elbo(free.q, values) == pytest.approx(mass, abs=1e-12)
    assert free.elbo > boosting(table(values), values.shape, components=4).elbo


def test_earthquake() -> None:
    values = earthquake()
    fit = boosting(table(values), values.shape, components=100)
    assert divergence(fit.elbo, values) == pytest.approx(0.0070, abs=5e-5)
    searched = boosting(table(values), values.shape, components=100, limit=1, starts=4, generator=seeded())
    assert searched.elbo == fit.elbo
    all_of_it = boosting(table(values), values.shape, components=100, free_weights=True)
    assert divergence(all_of_it.elbo, values) == pytest.approx(0.0, abs=1e-12)
    assert all_of_it.q.components == 16


def test_variables_of_different_numbers_of_classes() -> None:
    values = random_table(*UNEVEN, impossible=0.3)
    fit = boosting(table(values), UNEVEN, components=50)
    draws = fit.q.sample((1000,), generator=seeded())
    assert draws.shape == (1000, 3, 4)
    assert (draws[:, 0, 2:] == 0).all()
    assert (draws[:, 2, 3:] == 0).all()
    assert (table(values)(draws) > -INF).all()
    assert divergence(fit.elbo, values) < 0.05


# plain variational inference


@pytest.mark.parametrize("floor", [None, -30.0])
def test_gradients_come_near(floor: float | None) -> None:
    values = earthquake()
    for learned, near in ((False, 0.3), (True, 0.01)):
        family = shifted_deltas(values.shape, 50, learned_weights=learned, generator=seeded())
        fit = variational(table(values), *family, steps=200, floor=floor)
        assert 0 <= divergence(fit.elbo, values) < near
        assert fit.elbo == pytest.approx(max(fit.history), abs=1e-12)
        assert direct_elbo(fit.q, values) == pytest.approx(fit.elbo, abs=1e-12)
        assert not fit.proven


def test_differences_are_the_slope_of_a_target_that_is_linear_in_each_variable() -> None:
    values = random_table(*UNEVEN)
    found = []
    for floor in (None, -1e6):
        make, parameters = shifted_deltas(UNEVEN, 6, generator=seeded())
        fit = variational(table(values), make, parameters, steps=20, floor=floor)
        found.append((torch.tensor(fit.history), parameters[0].detach()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_impossible_configurations_are_left_for_possible_ones() -> None:
    values = random_table(2, 2, 2, 2, impossible=0.4, seed=3)
    family = shifted_deltas(values.shape, 8, generator=seeded())
    with pytest.raises(ValueError, match=r"the ELBO is -inf at step 0.*use floor=-50.0"):
        variational(table(values), *family)
    fit = variational(table(values), *family, floor=-50.0, temperature=Exponential(3.0, 0.5, 200), steps=200)
    best = boosting(table(values), values.shape, 8)
    assert best.elbo - 0.5 < fit.elbo <= best.elbo


@pytest.mark.parametrize("samples", [None, 24])
def test_any_flow_and_base(samples: int | None) -> None:
    values = random_table(*UNEVEN, seed=6)
    torch.manual_seed(0)
    network = MaskedNetwork(3, 4, hidden=8, components=3).double()
    base = bases.dirichlet(3, UNEVEN, 0.5, generator=seeded()).double().requires_grad_()

    def make(temperature: float) -> MixtureOfDiscreteFlows:
        return MixtureOfDiscreteFlows(base, Autoregressive(network, None, temperature, UNEVEN))

    parameters = [base, *network.parameters()]
    before = direct_elbo(make(1.0), values)
    fit = variational(
        table(values), make, parameters, steps=150, learning_rate=0.03, samples=samples, generator=seeded()
    )
    after = direct_elbo(fit.q, values)
    assert after > before + 0.5
    if samples is None:
        assert (fit.elbo, fit.error) == (pytest.approx(after, abs=1e-12), 0.0)
    else:
        assert abs(fit.elbo - after) < 4.9 * fit.error  # a false-alarm rate of 1e-6
        z = fit.q.sample((2_000,), generator=seeded(1))
        assert_mean(table(values)(z) - fit.q.log_prob(z), torch.tensor(after, dtype=torch.float64))


# errors

REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: boosting(table(random_table(2)), (2,), 0), r"components=0 is no mixture"),
    (lambda: likeliest(table(random_table(2)), (2,), 0), r"count=0 finds nothing; use count >= 1"),
    (lambda: likeliest(table(random_table(2)), (), 3), r"cardinalities=\(\) do not fit"),
    (lambda: likeliest(table(random_table(2)), (0,), 3), r"cardinalities=\(0,\) do not fit"),
    (lambda: likeliest(lambda z: z.sum((-1, -2)) * math.nan, (2, 2), 3), r"NaN or \+inf at the configuration \[0, 0\]"),
    (
        lambda: mean_field(
            lambda z: z[..., 0, 1].masked_fill(z[..., 0, 1] > 0, math.nan), (2,), torch.eye(2)[:, 1:].long()
        ),
        r"NaN or \+inf at the configuration \[1\]",
    ),
    (lambda: likeliest(table(torch.full((2, 2), -INF)), (2, 2), 3), r"none of 4 configurations is possible"),
    (
        lambda: variational(table(random_table(2)), *shifted_deltas((2,), 3), steps=0),
        r"steps=0 trains nothing",
    ),
    (
        lambda: variational(table(random_table(2)), *shifted_deltas((2,), 3), samples=0),
        r"samples=0 draws nothing",
    ),
]


@pytest.mark.parametrize(("call", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
