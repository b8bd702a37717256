"""Unbiased estimators: what theory says of each, beyond the laws that all obey."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from softhot.bounds import Objective, incompatible
from softhot.estimators import (
    Carms,
    Controlled,
    DisArm,
    Estimator,
    LeaveOneOut,
    LocalExpectation,
    MuProp,
    QuadraticSurrogate,
    Rebar,
    Relax,
    Relaxation,
    Rodeo,
    RunningMean,
    ScoreFunction,
    SumAndSample,
    TaylorSurrogate,
    UnorderedSet,
    Vimco,
    configurations,
)
from softhot.estimators.distinct import distinct_draws, likeliest, outside
from softhot.kl import Categorical
from softhot.testing import assert_mean, exact_gradient, exact_moments, exact_value, gradient_draws
from tests.integrands import cubic, linear, seeded

DRAWS = 20_000
PLAIN = torch.tensor([[0.3, -0.5, 0.9], [-0.2, 1.1, 0.0]], dtype=torch.float64)
EVERY = next(configurations(2, 3, limit=9, chunk=9, like=PLAIN))
LOG_Q = (EVERY * PLAIN.log_softmax(-1)).sum((-1, -2))
TWO = torch.tensor([[0.3, -0.5], [-1.2, 1.1], [0.4, 0.4]], dtype=torch.float64)


def many(tensor: Tensor, draws: int = DRAWS) -> Tensor:
    return tensor.expand(draws, *tensor.shape)


# exact


@pytest.mark.parametrize("row", [0, 1])
def test_local_expectation_of_one_variable_is_exact(row: int) -> None:
    logits = PLAIN[row : row + 1]
    draws = gradient_draws(LocalExpectation(), cubic, logits, 50, seeded())
    torch.testing.assert_close(draws, many(exact_gradient(cubic, logits), 50))


def test_muprop_of_a_linear_function_is_exact() -> None:
    draws = gradient_draws(MuProp(), linear, PLAIN, 50, seeded())
    torch.testing.assert_close(draws, many(exact_gradient(linear, PLAIN), 50))


@pytest.mark.parametrize("estimator", [ScoreFunction(), LocalExpectation(), MuProp()])
def test_the_mean_over_all_samples_is_the_truth(estimator: Estimator) -> None:
    torch.testing.assert_close(exact_moments(estimator, cubic, PLAIN).gradient.mean, exact_gradient(cubic, PLAIN))


# antithetic draws


def pairs(estimator: Estimator) -> tuple[Tensor, Tensor]:
    """The pairs that an estimator draws for three variables of two classes, and its gradients."""
    seen: list[Tensor] = []

    def f(z: Tensor) -> Tensor:
        seen.append(z)
        return cubic(z)

    draws = gradient_draws(estimator, f, TWO, DRAWS, seeded())
    return seen[0], draws


def test_carms_of_a_pair_of_two_classes_is_disarm() -> None:
    sigma = TWO.softmax(-1).amax(-1, keepdim=True)
    joint = []
    for estimator in (DisArm(), Carms(samples=2)):
        z, draws = pairs(estimator)
        torch.testing.assert_close(draws, (cubic(z[0]) - cubic(z[1]))[:, None, None] / 2 * (z[0] - z[1]) * sigma)
        joint.append(z[0, ..., :, None] * z[1, ..., None, :])
    low = TWO.softmax(-1).amin(-1)
    likely = TWO.softmax(-1).argmax(-1)
    expected = torch.zeros(3, 2, 2, dtype=torch.float64)
    every = torch.arange(3)
    expected[every, likely, 1 - likely] = expected[every, 1 - likely, likely] = low
    expected[every, likely, likely] += 1 - 2 * low
    for law in joint:
        assert_mean(law, expected)


@pytest.mark.parametrize("samples", [2, 3, 5])
def test_carms_weights_its_pairs_by_how_rare_they_are(samples: int) -> None:
    """Every pair of classes has a weight, and the right one: an f that tells two of them apart has no bias."""
    logits = torch.tensor([[0.3, -0.5, 0.9, 0.1]], dtype=torch.float64)
    probs = logits.softmax(-1)[0]
    for a, b in ((0, 1), (0, 2), (1, 2), (2, 3), (3, 0)):
        f = torch.zeros(4, dtype=torch.float64)
        f[a], f[b] = 1.0, -1.0
        draws = gradient_draws(Carms(samples=samples), lambda z, f=f: (z * f).sum((-1, -2)), logits, DRAWS, seeded())
        assert_mean(draws[:, 0], probs * (f - (probs * f).sum()))


def test_antithetic_pairs_vary_less_than_independent_ones() -> None:
    for samples in (2, 4):
        ours, theirs = (
            gradient_draws(kind(samples=samples), linear, PLAIN, DRAWS, seeded()).var(0).sum()
            for kind in (Carms, LeaveOneOut)
        )
        assert ours < 0.9 * theirs


# without replacement


@pytest.mark.parametrize("estimator", [UnorderedSet(samples=9), UnorderedSet(samples=12), SumAndSample(likeliest=9)])
@pytest.mark.parametrize("impossible", [False, True])
def test_sets_of_everything_are_exact(estimator: Estimator, impossible: bool) -> None:
    logits = PLAIN.clone()
    if impossible:
        logits[0, 1] = logits[1, 2] = -math.inf
    draws = gradient_draws(estimator, cubic, logits, 20, seeded())
    torch.testing.assert_close(draws, many(exact_gradient(cubic, logits), 20))
    torch.testing.assert_close(estimator(cubic, many(logits, 20)), many(exact_value(cubic, logits), 20))


def test_sets_have_the_law_of_draws_without_replacement() -> None:
    z, there, log_rest = distinct_draws(3, many(PLAIN), seeded())
    assert there.all()
    index = (z.flatten(-2) @ EVERY.flatten(-2).T).argmax(-1)
    assert all((index[i] != index[j]).all() for i, j in ((0, 1), (0, 2), (1, 2)))
    q = LOG_Q.exp()
    torch.testing.assert_close(log_rest.exp(), 1 - q[index].sum(0))
    ordered = torch.zeros(9, 9, 9, dtype=torch.float64)
    for i, j, k in itertools.permutations(range(9), 3):
        ordered[i, j, k] = q[i] * q[j] / (1 - q[i]) * q[k] / (1 - q[i] - q[j])
    hot = nn.functional.one_hot(index, 9).double()
    for place, law in enumerate((ordered.sum((1, 2)), ordered.sum((0, 2)), ordered.sum((0, 1)))):
        assert_mean(hot[place], law)


def test_the_mean_over_all_sets_is_the_truth() -> None:
    """The gradient is a function of the set alone, so that one draw of each set and its probability tell the mean."""
    q = LOG_Q.exp()
    seen: list[Tensor] = []

    def f(z: Tensor) -> Tensor:
        seen.append(z)
        return cubic(z)

    draws = gradient_draws(UnorderedSet(samples=3), f, PLAIN, 60_000, seeded())
    index = (seen[0].flatten(-2) @ EVERY.flatten(-2).T).argmax(-1).sort(0).values
    code = (index * torch.tensor([81, 9, 1])[:, None]).sum(0)
    total, mass = torch.zeros_like(PLAIN), 0.0
    for members in itertools.combinations(range(9), 3):
        p = sum(
            (q[i] * q[j] / (1 - q[i]) * q[k] / (1 - q[i] - q[j])).item() for i, j, k in itertools.permutations(members)
        )
        found = (code == members[0] * 81 + members[1] * 9 + members[2]).nonzero()[:, 0]
        torch.testing.assert_close(draws[found], draws[found[:1]].expand(len(found), 2, 3))
        total, mass = total + p * draws[found[0]], mass + p
    assert mass == pytest.approx(1.0)
    torch.testing.assert_close(total, exact_gradient(cubic, PLAIN))


def test_what_is_left_of_almost_everything() -> None:
    logits = torch.tensor([[0.0, -50.0, -60.0], [0.0, -70.0, -80.0]], dtype=torch.float64)
    z, log_p = likeliest(5, logits)
    assert z.argmax(-1).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [0, 2]]
    torch.testing.assert_close(log_p, torch.tensor([0.0, -50, -60, -70, -80], dtype=torch.float64))
    draw, log_rest = outside(z[:, None].expand(5, 200, 2, 3), many(logits, 200), seeded())
    expected = torch.tensor([-120.0, -130, -130, -140], dtype=torch.float64).logsumexp(0)
    torch.testing.assert_close(log_rest, expected.expand(200))
    assert (draw.argmax(-1) > 0).all()


@pytest.mark.parametrize("latents", [1, 2, 3, 5, 6])
def test_the_likeliest_are_those_of_enumeration(latents: int) -> None:
    logits = torch.randn(4, latents, 3, dtype=torch.float64, generator=seeded())
    z = next(configurations(latents, 3, limit=999, chunk=999, like=logits))
    every = (z[:, None] * logits.log_softmax(-1)).sum((-1, -2))
    for count in (1, 2, 3):
        best, log_p = likeliest(count, logits)
        torch.testing.assert_close(log_p, every.topk(count, 0).values)
        torch.testing.assert_close((best * logits.log_softmax(-1)).sum((-1, -2)), log_p)


# baselines


def test_a_running_mean_has_seen_the_past_alone() -> None:
    baseline = RunningMean(decay=0.5)
    estimator = ScoreFunction(baseline=baseline)
    seen = []
    for call, mean in enumerate([0.0, 1.0, 1.5, 2.25, 3.125]):  # of costs 1, 2, 3, 4: plain, then by halves
        assert baseline(PLAIN) == mean
        leaf = PLAIN.clone().requires_grad_()
        cost = call + 1.0

        def f(z: Tensor, cost: float = cost) -> Tensor:
            seen.append(z)
            return cost + 0 * z.sum((-1, -2))

        estimator(f, leaf, generator=seeded(call)).backward()
        torch.testing.assert_close(leaf.grad, (cost - mean) * (seen[-1][0] - PLAIN.softmax(-1)))
    before = baseline(PLAIN)
    estimator(cubic, PLAIN.expand(0, *PLAIN.shape))
    assert (baseline(PLAIN), baseline.calls) == (before, 5)
    baseline.eval()
    estimator(cubic, PLAIN)
    assert baseline(PLAIN) == before


def test_a_baseline_with_its_own_cost_is_found_out() -> None:
    class Omniscient(nn.Module):
        def forward(self, logits: Tensor) -> Tensor:
            return 0.5 * costs[-1][0]

    costs: list[Tensor] = []

    def f(z: Tensor) -> Tensor:
        costs.append(cubic(z))
        return costs[-1]

    draws = gradient_draws(ScoreFunction(baseline=Omniscient()), f, PLAIN, DRAWS, seeded())
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(draws, exact_gradient(cubic, PLAIN))


def test_a_learned_baseline_tends_to_the_mean_and_touches_nothing_else() -> None:
    baseline = nn.Sequential(nn.Flatten(-2), nn.Linear(6, 1), nn.Flatten(-2)).double()
    estimator = ScoreFunction(baseline=baseline)
    optimiser = torch.optim.Adam(baseline.parameters(), lr=0.05)
    theta = torch.ones((), dtype=torch.float64, requires_grad=True)
    logits = many(PLAIN, 500).clone().requires_grad_()
    for step in range(200):
        optimiser.zero_grad()
        estimate = estimator.learn(lambda z: theta * cubic(z), logits, generator=seeded(step))
        optimiser.step()
    assert theta.grad is None
    assert logits.grad is None
    same = estimator(lambda z: theta * cubic(z), logits, generator=seeded(199))
    assert torch.equal(estimate, same)
    values = torch.stack([cubic(torch.eye(3).double()[[i, j]]) for i in range(3) for j in range(3)])
    spread = values.std()
    assert (baseline(PLAIN[None]) - exact_value(cubic, PLAIN)).abs() < 0.1 * spread
    slopes = [parameter.grad.clone() for parameter in baseline.parameters()]
    estimate.sum().backward()
    assert theta.grad is not None
    assert logits.grad is not None
    assert all(torch.equal(p.grad, slope) for p, slope in zip(baseline.parameters(), slopes, strict=True))


# controls


def second_moment(estimator: Controlled, logits: Tensor) -> Tensor:
    return gradient_draws(estimator, cubic, logits, 2_000, seeded()).square().sum((-1, -2)).mean()


def slope_of_second_moment(estimator: Controlled, parameter: nn.Parameter) -> Tensor:
    """By central differences, with the same noise on both sides."""
    ends = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            parameter += step
        ends.append(second_moment(estimator, PLAIN))
        with torch.no_grad():
            parameter -= step
    return (ends[0] - ends[1]) / 2e-5


@pytest.mark.parametrize("name", ["log_temperature", "eta"])
def test_rebar_learns_by_the_slope_of_its_second_moment(name: str) -> None:
    relaxation = Relaxation(temperature=0.7, eta=0.6).double()
    estimator = Rebar(relaxation)
    theta = torch.ones((), dtype=torch.float64, requires_grad=True)
    logits = many(PLAIN, 2_000).clone().requires_grad_()
    learned = estimator.learn(lambda z: theta * cubic(z), logits, generator=seeded())
    assert torch.equal(learned, estimator(cubic, logits, generator=seeded()))
    assert theta.grad is None
    assert logits.grad is None
    parameter = getattr(relaxation, name)
    slope = slope_of_second_moment(estimator, parameter)
    torch.testing.assert_close(parameter.grad, slope, rtol=1e-6, atol=1e-6)
    estimator.learn(cubic, logits, generator=seeded())  # adds up, as a backward pass does
    torch.testing.assert_close(parameter.grad, 2 * slope, rtol=1e-6, atol=1e-6)


def test_learned_controls_save_variance() -> None:
    logits = many(PLAIN, 500)
    surrogate = QuadraticSurrogate(2, 3).double()
    for estimator in (Rebar(), Relax(surrogate)):
        before = second_moment(estimator, PLAIN)
        optimiser = torch.optim.Adam(estimator.control.parameters(), lr=0.05)
        for step in range(150):
            optimiser.zero_grad()
            estimator.learn(cubic, logits, generator=seeded(100 + step))
            optimiser.step()
        assert second_moment(estimator, PLAIN) < 0.8 * before
        draws = gradient_draws(estimator, cubic, PLAIN, DRAWS, seeded())
        assert_mean(draws, exact_gradient(cubic, PLAIN))


def test_rodeo_learns_by_the_slope_of_its_second_moment() -> None:
    surrogate = TaylorSurrogate(baseline=0.9, gradient=0.3).double()
    estimator = Rodeo(samples=3, surrogate=surrogate)
    theta = torch.ones((), dtype=torch.float64, requires_grad=True)
    estimator.learn(lambda z: theta * cubic(z), many(PLAIN, 2_000), generator=seeded()).sum().backward()
    assert theta.grad is not None
    for parameter in surrogate.parameters():
        slope = slope_of_second_moment(estimator, parameter)
        torch.testing.assert_close(parameter.grad, slope, rtol=1e-6, atol=1e-6)


def test_rodeo_takes_out_what_is_linear() -> None:
    """Two classes: the calmed baseline of a linear f is its mean, and so the gradient is known draw by draw."""
    seen: list[Tensor] = []

    def f(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return linear(z)

    plain = Rodeo(samples=2, surrogate=TaylorSurrogate(gradient=0.0))
    draws = gradient_draws(plain, f, TWO, 100, seeded())
    excess = linear(seen[0]) - exact_value(linear, TWO)
    torch.testing.assert_close(draws, (excess[..., None, None] * (seen[0] - TWO.softmax(-1))).mean(0))
    moments = [
        gradient_draws(e, linear, TWO, DRAWS, seeded()).var(0).sum()
        for e in (Rodeo(samples=2), plain, LeaveOneOut(samples=2))
    ]
    assert moments[0] < 0.5 * moments[1]
    assert moments[1] < 0.8 * moments[2]


def test_rodeo_without_a_surrogate_is_leave_one_out() -> None:
    nothing = Rodeo(samples=3, surrogate=TaylorSurrogate(0.0, 0.0))
    ours, theirs = (gradient_draws(e, cubic, PLAIN, 50, seeded()) for e in (nothing, LeaveOneOut(samples=3)))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["rebar", "relax", "rodeo"])
def test_controls_learn_beside_impossible_classes(kind: str) -> None:
    controlled: dict[str, Controlled] = {
        "rebar": Rebar(),
        "relax": Relax(QuadraticSurrogate(2, 3)),
        "rodeo": Rodeo(samples=2),
    }
    logits = PLAIN.clone()
    logits[0, :2] = logits[1, 2] = -math.inf
    controlled[kind].learn(cubic, many(logits, 100), generator=seeded())
    assert all(p.grad.isfinite().all() for p in controlled[kind].control.parameters())


def test_rebar_of_two_classes_is_that_of_the_binary_formulas() -> None:
    """With u uniform and v the same noise given b: gradients through both relaxed samples, by automatic ones."""
    t, eta = 0.7, 0.6
    phi = torch.tensor([0.4], dtype=torch.float64).expand(DRAWS).clone().requires_grad_()

    def f(b: Tensor) -> Tensor:
        return (b - 0.45) ** 2 + torch.sin(3 * b)

    u = torch.rand(DRAWS, dtype=torch.float64, generator=seeded(1))
    theta = phi.sigmoid()
    b = (u > 1 - theta).double()
    edge = (1 - theta).detach()
    v = torch.where(b > 0, (u - edge) / (1 - edge), u / edge)
    tied = torch.where(b > 0, v * theta + 1 - theta, v * (1 - theta))
    soft, conditional = (((phi + w.log() - (1 - w).log()) / t).sigmoid() for w in (u, tied))
    torch.testing.assert_close(soft, conditional)
    log_q = torch.where(b > 0, theta, 1 - theta).log()
    (slope,) = torch.autograd.grad(
        (eta * (f(soft) - f(conditional))).sum() + ((f(b) - eta * f(soft)).detach() * log_q).sum(), phi
    )
    logits = torch.tensor([[0.0, 0.4]], dtype=torch.float64)
    ours = gradient_draws(Rebar(Relaxation(t, eta)), lambda z: f(z[..., 0, 1]), logits, DRAWS, seeded())
    for power in (1, 2):
        assert_mean(ours[:, 0, 1] ** power - slope**power, torch.zeros((), dtype=torch.float64))


# several draws


@pytest.mark.parametrize("samples", [2, 3])
def test_vimco_climbs_the_importance_weighted_bound(samples: int) -> None:
    """The mean over all n-tuples of configurations, differentiated; f itself depends on the logits."""
    table = torch.randn(9, dtype=torch.float64, generator=seeded(7))

    def log_weight(z: Tensor, logits: Tensor) -> Tensor:
        index = (z.flatten(-2) @ EVERY.flatten(-2).T).argmax(-1)
        return 2 * table[index] - (z * logits.log_softmax(-1)).sum((-1, -2))

    leaf = PLAIN.clone().requires_grad_()
    log_q = (EVERY * leaf.log_softmax(-1)).sum((-1, -2))
    tuples = torch.cartesian_prod(*[torch.arange(9)] * samples)
    bounds = (2 * table - log_q)[tuples].logsumexp(-1) - math.log(samples)
    truth = (log_q[tuples].sum(-1).exp() * bounds).sum()
    (gradient,) = torch.autograd.grad(truth, leaf)

    logits = many(PLAIN).clone().requires_grad_()
    estimate = Vimco(samples=samples)(lambda z: log_weight(z, logits), logits, generator=seeded())
    assert_mean(estimate, truth)
    (draws,) = torch.autograd.grad(estimate.sum(), logits)
    assert_mean(draws, gradient)
    with pytest.raises(AssertionError, match="standard errors"):  # the gradient through f is needed
        assert_mean(gradient_draws(Vimco(samples=samples), lambda z: log_weight(z, PLAIN), PLAIN, DRAWS), gradient)


def test_vimco_bears_weights_of_zero() -> None:
    def f(z: Tensor) -> Tensor:
        return torch.where(z[..., 0, 0] > 0, -math.inf, cubic(z))

    logits = torch.tensor([[-2.0, 0.5, 0.9], [-0.2, 1.1, 0.0]], dtype=torch.float64)
    draws = gradient_draws(Vimco(samples=8), f, logits, 1_000, seeded())
    assert draws.isfinite().all()
    first = torch.tensor([-math.inf, 1.0], dtype=torch.float64)[:, None]  # of a pair, the first has no weight
    assert gradient_draws(Vimco(samples=2), lambda z: first + cubic(z), logits, 100, seeded()).isfinite().all()


def test_what_is_no_estimate_of_a_mean_is_no_objective() -> None:
    with pytest.raises(ValueError, match="bound of several draws"):
        Objective(Vimco())
    assert incompatible(DisArm(), Categorical(), 4, 3) == "the estimator is for 2 classes, and there are 3"
    assert incompatible(DisArm(), Categorical(), 4, 2) is None
    assert incompatible(DisArm(), Categorical()) is None


# errors

REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: ScoreFunction(samples=0), r"samples=0.*use samples >= 1"),
    (lambda: ScoreFunction(baseline=nn.Identity())(cubic, PLAIN), r"the baseline gives shape \(2, 3\).*use a module"),
    (lambda: RunningMean(decay=1.0), r"decay=1.0.*use decay=0.99"),
    (lambda: Carms(samples=1), r"samples=1.*use samples >= 2"),
    (lambda: UnorderedSet(samples=1), r"samples=1.*use samples >= 2"),
    (lambda: UnorderedSet(samples=13), r"samples=13.*use samples <= 12"),
    (lambda: SumAndSample(likeliest=0), r"likeliest=0.*use likeliest >= 1"),
    (lambda: DisArm()(cubic, PLAIN), r"two classes.*have 3; use Carms"),
    (lambda: Rebar()(lambda z: z.argmax(-1).sum(-1).double(), PLAIN), r"Rebar needs the slope.*use LeaveOneOut"),
    (lambda: Rodeo(samples=1), r"samples=1.*use samples >= 2"),
    (lambda: Vimco(samples=1), r"samples=1.*use samples >= 2"),
    (lambda: Relaxation(temperature=0.0), r"temperature=0.0 is not a positive"),
    (lambda: Relax(temperature=-1.0), r"temperature=-1.0 is not a positive"),
    (lambda: MuProp()(lambda z: z.argmax(-1).sum(-1).double(), PLAIN), r"MuProp needs the slope.*use LeaveOneOut"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
