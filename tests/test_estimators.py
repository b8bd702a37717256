"""Estimators: each is what its class says it is, and the laws that say so can tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional

from softhot import estimators
from softhot.estimators import (
    Arsm,
    Carms,
    DisArm,
    Estimator,
    Exact,
    GumbelRao,
    GumbelSoftmax,
    Integrand,
    InvertibleGaussian,
    LeaveOneOut,
    LocalExpectation,
    MuProp,
    OptimalStraightThrough,
    Rebar,
    ReinMax,
    ReinMaxCv,
    ReinMaxRao,
    Relax,
    Relaxation,
    Rodeo,
    RunningMean,
    ScoreFunction,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    SumAndSample,
    UnorderedSet,
    Vimco,
    Zgr,
)
from softhot.functional import gumbel_log_softmax
from softhot.testing import assert_mean, certify, exact_gradient, exact_moments, exact_value, gradient_draws, target
from tests.integrands import cubic, features, linear, quadratic, seeded


class Affine(nn.Module):
    """A learned baseline: an affine function of the probabilities, in whatever precision they have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.5, -0.5]))

    def forward(self, logits: Tensor) -> Tensor:
        weight = self.weight.to(logits.dtype)
        return weight[0] + weight[1] * logits.softmax(-1)[..., 0].sum(-1)


class Wave(nn.Module):
    """A surrogate: a sine of sums, in whatever precision it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, z: Tensor) -> Tensor:
        a, b = features(z)
        return 2 * torch.sin(self.scale.to(z.dtype) * a) + b


ESTIMATORS: dict[str, Estimator] = {
    "exact": Exact(),
    "exact, chunked": Exact(chunk=2),
    "leave-one-out, n=2": LeaveOneOut(samples=2),
    "leave-one-out, n=3": LeaveOneOut(samples=3),
    "straight-through": StraightThrough(),
    "straight-through, n=3": StraightThrough(samples=3),
    "gumbel-softmax": GumbelSoftmax(),
    "gumbel-softmax, n=3, t=0.5": GumbelSoftmax(samples=3, temperature=0.5),
    "st-gumbel-softmax": StraightThroughGumbelSoftmax(),
    "st-gumbel-softmax, n=3, t=0.5": StraightThroughGumbelSoftmax(samples=3, temperature=0.5),
    "st-gumbel-softmax, decoupled": StraightThroughGumbelSoftmax(temperature=0.5, backward_temperature=2.0),
    "reinmax": ReinMax(),
    "reinmax, n=3, t=1.5": ReinMax(samples=3, temperature=1.5),
    "local-expectation": LocalExpectation(),
    "score-function": ScoreFunction(),
    "score-function, n=3, running": ScoreFunction(samples=3, baseline=RunningMean().eval()),
    "score-function, n=2, learned": ScoreFunction(samples=2, baseline=Affine()),
    "muprop": MuProp(),
    "disarm": DisArm(),
    "arsm": Arsm(),
    "carms, n=2": Carms(samples=2),
    "carms, n=4": Carms(samples=4),
    "unordered-set, n=2": UnorderedSet(samples=2),
    "unordered-set, n=4": UnorderedSet(samples=4),
    "sum-and-sample, k=1": SumAndSample(likeliest=1),
    "sum-and-sample, k=3": SumAndSample(likeliest=3),
    "rebar": Rebar(),
    "rebar, t=2, eta=0.4": Rebar(Relaxation(temperature=2.0, eta=0.4)),
    "relax": Relax(),
    "relax, a wave": Relax(Wave(), temperature=0.8),
    "rodeo, n=2": Rodeo(samples=2),
    "rodeo, n=3": Rodeo(samples=3),
    "vimco, n=2": Vimco(samples=2),
    "vimco, n=3": Vimco(samples=3),
    "gumbel-rao": GumbelRao(draws=4),
    "gumbel-rao, n=3, t=0.3": GumbelRao(samples=3, temperature=0.3, draws=2),
    "reinmax-rao, n=3, t=0.5": ReinMaxRao(samples=3, temperature=0.5, draws=3),
    "reinmax-rao": ReinMaxRao(draws=3),
    "reinmax-cv": ReinMaxCv(draws=3),
    "reinmax-cv, n=3, t=0.5": ReinMaxCv(samples=3, temperature=0.5, draws=3, eta=0.1),
    "optimal-straight-through": OptimalStraightThrough(),
    "optimal-straight-through, n=3, T=2": OptimalStraightThrough(samples=3, penalty=2.0),
    "invertible-gaussian": InvertibleGaussian(),
    "invertible-gaussian, n=3, t=0.5": InvertibleGaussian(samples=3, temperature=0.5, scale=0.7, delta=2.0),
    "zgr": Zgr(),
    "zgr, n=3": Zgr(samples=3),
}
LOGITS = {
    "plain": torch.tensor([[0.3, -0.5, 0.9], [-0.2, 1.1, 0.0]], dtype=torch.float64),
    "impossible class": torch.tensor([[0.3, -math.inf, 0.9], [-0.2, 1.1, 0.0]], dtype=torch.float64),
    "batch": torch.tensor([[[0.0, 1.0]] * 3, [[0.5, -0.5]] * 3], dtype=torch.float64),
}
DRAWS = 20_000


def cases(**attributes: Any) -> pytest.MarkDecorator:
    rows = {name: e for name, e in ESTIMATORS.items() if all(getattr(e, k) == v for k, v in attributes.items())}
    return pytest.mark.parametrize("estimator", rows.values(), ids=rows.keys())


laws = pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS.keys())


def suited(estimator: Estimator, logits: Tensor) -> Tensor:
    """The first classes of the logits, as many as the estimator is for."""
    return logits[..., : estimator.classes]


# drawn in double, compared in single precision: what is exact to rounding is exact


def values(estimator: Estimator, f: Integrand, logits: Tensor) -> Tensor:
    return estimator(f, logits.expand(DRAWS, *logits.shape), generator=seeded()).float()


def gradients(estimator: Estimator, f: Integrand, logits: Tensor) -> Tensor:
    return gradient_draws(estimator, f, logits, DRAWS, seeded()).float()


def true_value(estimator: Estimator, f: Integrand, logits: Tensor) -> Tensor:
    return exact_value(*target(estimator, f, logits))


def true_gradient(estimator: Estimator, f: Integrand, logits: Tensor) -> Tensor:
    gradient = exact_gradient(*target(estimator, f, logits))
    return torch.stack(gradient.split(logits.shape[-2], -2)).sum(0)


def recorded(f: Integrand, seen: list[Tensor]) -> Integrand:
    def recording(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return f(z)

    return recording


# the gradient to the logits


@cases(unbiased=True)
@laws
def test_gradient_is_unbiased(estimator: Estimator, logits: Tensor) -> None:
    logits = suited(estimator, logits)
    assert_mean(gradients(estimator, cubic, logits), true_gradient(estimator, cubic, logits))


@cases(unbiased=False)
@laws
def test_bias_is_detected(estimator: Estimator, logits: Tensor) -> None:
    logits = suited(estimator, logits)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(gradients(estimator, cubic, logits), true_gradient(estimator, cubic, logits))


@laws
def test_the_truth_is_the_derivative_of_the_value(logits: Tensor) -> None:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(exact_value(cubic, leaf).sum(), leaf)
    torch.testing.assert_close(gradient, exact_gradient(cubic, logits))


# the value


@cases(sample="hard")
@laws
def test_value_of_hard_samples(estimator: Estimator, logits: Tensor) -> None:
    logits = suited(estimator, logits)
    assert_mean(values(estimator, cubic, logits), true_value(estimator, cubic, logits))


@cases(sample="soft")
@laws
def test_value_of_relaxed_samples_is_not_that_of_hard_ones(estimator: Estimator, logits: Tensor) -> None:
    logits = suited(estimator, logits)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(values(estimator, cubic, logits), true_value(estimator, cubic, logits))


# the gradient to parameters of f


def wave(z: Tensor, theta: Tensor) -> Tensor:
    return torch.sin((z * theta).sum((-1, -2))) + features(z)[0] * (z * theta**2).sum((-1, -2))


def parameter_draws(estimator: Estimator, logits: Tensor, theta: Tensor) -> Tensor:
    leaf = theta.expand(DRAWS, *theta.shape).clone().requires_grad_()
    estimate = estimator(lambda z: wave(z, leaf), logits.expand(DRAWS, *logits.shape), generator=seeded())
    return torch.autograd.grad(estimate.sum(), leaf)[0].float()


def parameter_truth(estimator: Estimator, logits: Tensor, theta: Tensor) -> Tensor:
    leaf = theta.clone().requires_grad_()
    return torch.autograd.grad(true_value(estimator, lambda z: wave(z, leaf), logits), leaf)[0]


THETA = torch.tensor([[1.0, -0.5, 2.0], [0.7, 1.5, -1.0]], dtype=torch.float64)


@cases(sample="hard")
@pytest.mark.parametrize("name", ["plain", "impossible class"])
def test_parameters_behind_hard_samples(estimator: Estimator, name: str) -> None:
    logits, theta = suited(estimator, LOGITS[name]), suited(estimator, THETA)
    assert_mean(parameter_draws(estimator, logits, theta), parameter_truth(estimator, logits, theta))


@cases(sample="soft")
def test_parameters_behind_relaxed_samples_are_trained_for_another_model(estimator: Estimator) -> None:
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(
            parameter_draws(estimator, LOGITS["plain"], THETA), parameter_truth(estimator, LOGITS["plain"], THETA)
        )


# two classes: z = sigmoid((d + x) / t), x logistic, d the difference of the logits

TWO = torch.tensor([[0.4, -0.3]], dtype=torch.float64)


def logistic_mean(h: Callable[[float], float]) -> float:
    d = (TWO[0, 0] - TWO[0, 1]).item()
    mean: float = quad(lambda x: h(d + x) * expit(x) * expit(-x), -50, 50, points=[-d], limit=200)[0]
    return mean


def wavy(z: Tensor) -> Tensor:
    return torch.sin(3 * z[..., 0, 0]) + z[..., 0, 0] ** 3


def slope(z: float) -> float:
    return 3 * math.cos(3 * z) + 3 * z**2


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("t", [0.5, 1.0, 2.0])
def test_gumbel_softmax_is_exact_for_the_relaxed_model(t: float, samples: int) -> None:
    estimator = GumbelSoftmax(samples=samples, temperature=t)
    value = logistic_mean(lambda y: math.sin(3 * expit(y / t)) + expit(y / t) ** 3)
    assert_mean(values(estimator, wavy, TWO), torch.tensor(value, dtype=torch.float64))
    up = logistic_mean(lambda y: slope(expit(y / t)) * expit(y / t) * expit(-y / t) / t)
    expected = torch.tensor([[up, -up]], dtype=torch.float64)
    assert_mean(gradients(estimator, wavy, TWO), expected)
    theta = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    weight = features(torch.eye(2, dtype=torch.float64)[:, None])[0]  # wave: f = sin(th z) + a(z) th^2 z, in th_0

    def derivative(y: float) -> float:
        z = expit(y / t)
        return math.cos(z) * z + (weight[0].item() * z + weight[1].item() * (1 - z)) * 2 * z

    assert_mean(parameter_draws(estimator, TWO, theta)[..., 0, 0], torch.tensor(logistic_mean(derivative)).double())


@pytest.mark.parametrize(("t", "backward"), [(0.5, None), (2.0, None), (0.5, 2.0), (2.0, 0.5)])
def test_straight_through_gumbel_softmax_has_the_slope_at_the_hard_sample(t: float, backward: float | None) -> None:
    b = backward or t
    estimator = StraightThroughGumbelSoftmax(temperature=t, backward_temperature=backward)
    up = logistic_mean(lambda y: slope(float(y > 0)) * expit(y / b) * expit(-y / b) / b)
    draws = gradients(estimator, wavy, TWO)
    assert_mean(draws, torch.tensor([[up, -up]], dtype=torch.float64))
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(b * draws, torch.tensor([[up, -up]], dtype=torch.float64))


def jacobian_times(probs: Tensor, gradient: Tensor) -> Tensor:
    return probs * (gradient - (probs * gradient).sum(-1, keepdim=True))


@pytest.mark.parametrize("t", [0.3, 1.0, 4.0])
def test_gradients_are_those_of_the_formulas(t: float) -> None:
    logits = LOGITS["plain"]
    soft = gumbel_log_softmax(logits, t, generator=seeded()).exp()
    z = functional.one_hot(soft.argmax(-1), 3).double().requires_grad_()
    (g,) = torch.autograd.grad(cubic(z), z)
    pi, middle = logits.softmax(-1), ((logits / t).softmax(-1) + z.detach()) / 2
    formulas: list[tuple[Estimator, Tensor]] = [
        (StraightThrough(), jacobian_times(pi, g)),
        (StraightThroughGumbelSoftmax(temperature=t), jacobian_times(soft, g) / t),
        (StraightThroughGumbelSoftmax(temperature=0.9, backward_temperature=t), jacobian_times(soft, g) / t),
        (ReinMax(temperature=t), 2 * jacobian_times(middle, g) - jacobian_times(pi, g) / 2),
    ]
    for estimator, expected in formulas:
        leaf = logits.clone().requires_grad_()
        value = estimator(cubic, leaf, generator=seeded())
        assert value == cubic(z)  # the sample is the same hard one, whatever the temperature
        torch.testing.assert_close(torch.autograd.grad(value, leaf)[0], expected)


# samples


@pytest.mark.parametrize("t", [0.3, 1.0, 4.0])
def test_samples_have_the_law_of_those_of_torch(t: float) -> None:
    logits = LOGITS["batch"].expand(DRAWS, 2, 3, 2)
    for estimator, hard in ((GumbelSoftmax(temperature=t), False), (StraightThroughGumbelSoftmax(temperature=t), True)):
        seen: list[Tensor] = []
        estimator(recorded(linear, seen), logits, generator=seeded(1))
        theirs, warmer = (functional.gumbel_softmax(logits, u, hard=hard) for u in (t, 1.5 * t))
        for power in (1, 2):
            assert_mean((seen[0][0] ** power - theirs**power).float(), torch.zeros(2, 3, 2))
        if not hard:
            with pytest.raises(AssertionError, match="standard errors"):
                assert_mean((seen[0][0] ** 2 - warmer**2).float(), torch.zeros(2, 3, 2))


@cases()
def test_certificate(estimator: Estimator) -> None:
    """Shapes, types, cost, impossible classes, half precision and the laws again, at other logits and another f."""
    found = certify(estimator)
    assert found.faults == ()
    assert found.unbiased == estimator.unbiased
    assert all((one.bias < 1e-6) == found.unbiased for one in found.figures if one.method != "drawn")


@cases()
def test_adding_a_number_to_all_logits_is_no_direction(estimator: Estimator) -> None:
    draws = gradient_draws(estimator, cubic, suited(estimator, LOGITS["plain"]), 50, seeded())
    torch.testing.assert_close(draws.sum(-1), torch.zeros(50, 2, dtype=torch.float64), atol=1e-10, rtol=0)


@cases()
def test_single_and_double_precision_agree(estimator: Estimator) -> None:
    for logits in (suited(estimator, logits) for logits in LOGITS.values()):
        leaf = logits.float().requires_grad_()
        if isinstance(estimator, Exact):
            value = estimator(cubic, leaf)
            torch.testing.assert_close(value.double(), exact_value(cubic, logits), atol=1e-5, rtol=1e-5)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            torch.testing.assert_close(gradient.double(), exact_gradient(cubic, logits), atol=1e-5, rtol=1e-5)
        elif estimator.unbiased:
            assert_mean(gradients(estimator, cubic, logits.float()), true_gradient(estimator, cubic, logits))
        elif estimator.sample == "hard":
            assert_mean(values(estimator, cubic, logits.float()), true_value(estimator, cubic, logits))


EDGES = {
    "impossible class": [[0.3, -math.inf, 0.9], [-0.2, 1.1, 0.0]],
    "one class left": [[0.3, -math.inf, -math.inf], [-0.2, 1.1, -math.inf]],
    "far apart": [[0.0, -1e4, 900.0], [1e4, 1e4, 0.0]],
}


@cases()
@pytest.mark.parametrize("rows", EDGES.values(), ids=EDGES.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_impossible_classes_have_no_part(estimator: Estimator, rows: list[list[float]], dtype: torch.dtype) -> None:
    some = suited(estimator, torch.tensor(rows, dtype=dtype))
    logits = some.expand(200, *some.shape).clone().requires_grad_()
    impossible = logits == -math.inf
    seen: list[Tensor] = []
    value = estimator(recorded(cubic, seen), logits, generator=seeded())
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient[impossible] == 0).all()
    if not isinstance(estimator, Exact):
        assert all((z.masked_select(impossible) == 0).all() for z in seen)


@cases(differentiable=False)
def test_f_may_be_infinite_where_it_cannot_be_evaluated(estimator: Estimator) -> None:
    logits = suited(estimator, LOGITS["impossible class"])
    draws = gradients(estimator, lambda z: cubic(z) + 1 / (1 - z[..., 0, 1]), logits)
    assert_mean(draws, true_gradient(estimator, lambda z: cubic(z) + 1, logits))


@cases(differentiable=False)
def test_f_need_not_be_differentiable(estimator: Estimator) -> None:
    def f(z: Tensor) -> Tensor:
        return (z.argmax(-1).sum(-1) % 2).to(z.dtype)

    logits = suited(estimator, LOGITS["plain"])
    assert_mean(gradients(estimator, f, logits), true_gradient(estimator, f, logits))


@cases()
def test_generator_is_the_only_source_of_randomness(estimator: Estimator) -> None:
    logits = LOGITS["batch"].expand(10, 2, 3, 2)
    state = torch.get_rng_state()
    first, again, other = (gradient_draws(estimator, cubic, logits, 2, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert torch.equal(first, other) == isinstance(estimator, Exact)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.equal(gradient_draws(estimator, cubic, logits, 2), first)  # without one, torch's own


# theory


@pytest.mark.parametrize(
    ("estimator", "f", "exact"),
    [
        (StraightThrough(), linear, True),
        (StraightThrough(), quadratic, False),
        (ReinMax(), linear, True),
        (ReinMax(), quadratic, True),
        (ReinMax(), cubic, False),
        (ReinMax(temperature=1.3), linear, False),
        (OptimalStraightThrough(), quadratic, True),
        (OptimalStraightThrough(), cubic, False),
        (OptimalStraightThrough(penalty=3.0), linear, True),
        (OptimalStraightThrough(penalty=3.0), quadratic, False),
        (Zgr(), quadratic, True),
        (Zgr(), cubic, False),
    ],
    ids=lambda case: getattr(case, "__name__", str(case)),
)
@pytest.mark.parametrize("latents", [1, 2])
def test_polynomials_that_are_exact(estimator: Estimator, f: Integrand, exact: bool, latents: int) -> None:
    logits = LOGITS["plain"][:latents]
    error = (exact_moments(estimator, f, logits).gradient.mean - exact_gradient(f, logits)).abs().max()
    assert error < 1e-12 if exact else error > 1e-3


# enumeration


@pytest.mark.parametrize("chunk", [1, 4, 9, 1000])
def test_chunks_change_nothing(chunk: int) -> None:
    logits = LOGITS["batch"].clone().requires_grad_()
    theta = torch.tensor([[1.0, -0.5], [2.0, 0.7], [1.5, -1.0]], dtype=torch.float64, requires_grad=True)
    value = Exact(chunk=chunk)(lambda z: wave(z, theta), logits)
    torch.testing.assert_close(value, exact_value(lambda z: wave(z, theta), logits))
    gradient, slopes = torch.autograd.grad(value.sum(), (logits, theta))
    torch.testing.assert_close(gradient, exact_gradient(lambda z: wave(z, theta), logits))
    (expected,) = torch.autograd.grad(exact_value(lambda z: wave(z, theta), logits).sum(), theta)
    torch.testing.assert_close(slopes, expected)
    with torch.no_grad():
        assert torch.equal(Exact(chunk=chunk)(lambda z: wave(z, theta), logits), value)


def test_the_exact_value_can_be_differentiated_twice() -> None:
    leaf = LOGITS["plain"].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda logits: Exact(chunk=4)(cubic, logits), leaf)


# errors

REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: StraightThrough(samples=0), r"samples=0.*use samples >= 1"),
    (lambda: GumbelSoftmax(samples=-1), r"samples=-1.*use samples >= 1"),
    (lambda: LeaveOneOut(samples=1), r"samples=1.*use samples >= 2"),
    (lambda: GumbelSoftmax(temperature=0.0), r"temperature=0.0 is not a positive"),
    (lambda: ReinMax(temperature=-1.0), r"temperature=-1.0 is not a positive"),
    (lambda: ReinMax(temperature=math.inf), r"temperature=inf is not a positive"),
    (lambda: GumbelRao(temperature=-1.0), r"temperature=-1.0 is not a positive"),
    (lambda: ReinMaxRao(draws=0), r"draws=0\) leaves nothing to average"),
    (lambda: ReinMaxRao(temperature=0.0), r"temperature=0.0 is not a positive"),
    (lambda: ReinMaxCv(draws=0), r"draws=0\) leaves nothing to average"),
    (lambda: ReinMaxCv(temperature=0.0), r"temperature=0.0 is not a positive"),
    (lambda: ReinMaxCv(eta=math.nan), r"eta=nan is not a finite number"),
    (lambda: OptimalStraightThrough(penalty=-1.0), r"penalty=-1.0 is negative"),
    (lambda: OptimalStraightThrough(penalty=math.nan), r"penalty=nan is negative"),
    (lambda: InvertibleGaussian(temperature=0.0), r"temperature=0.0 is not a positive"),
    (lambda: InvertibleGaussian(scale=-1.0), r"scale=-1.0 is not a positive"),
    (lambda: InvertibleGaussian(delta=0.0), r"delta=0.0 is not a positive"),
    (lambda: GumbelRao(draws=0), r"draws=0\) leaves nothing to average"),
    (lambda: StraightThroughGumbelSoftmax(temperature=math.nan), r"temperature=nan is not a positive"),
    (lambda: StraightThroughGumbelSoftmax(backward_temperature=0.0), r"backward_temperature=0.0 is not a positive"),
    (lambda: Exact()(linear, torch.zeros(11, 3)), r"177,147 configurations, more than the limit of 65,536"),
    (lambda: Exact(limit=8)(linear, torch.zeros(2, 3)), r"9 configurations, more than the limit of 8"),
    (lambda: estimators.estimator("reinmx"), r"unknown estimator 'reinmx'; did you mean 'reinmax'"),
    (lambda: estimators.estimator("leave-1-out"), r"did you mean 'leave-one-out'"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_every_estimator_has_a_row_and_a_source() -> None:
    mixtures = {kind for kind in estimators.ESTIMATORS.values() if kind.mixture}  # of another q: test_flow_posterior.py
    assert {type(e) for e in ESTIMATORS.values()} | mixtures == set(estimators.ESTIMATORS.values())
    assert all(e.source for e in ESTIMATORS.values())
    assert all(estimators.estimator(name) is kind for name, kind in estimators.ESTIMATORS.items())
