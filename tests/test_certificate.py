"""Certificates: exact moments are those of enumeration by hand, and what is wrong is found for the right reason."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from torch import Tensor, nn
from torch.nn.functional import one_hot

from softhot.estimators import (
    Arsm,
    DisArm,
    Estimator,
    GumbelRao,
    GumbelSoftmax,
    Integrand,
    LeaveOneOut,
    LocalExpectation,
    MixtureOfDiscreteFlows,
    MuProp,
    Rebar,
    ReinMax,
    ReinMaxRao,
    Relax,
    Relaxation,
    Rodeo,
    ScoreFunction,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    SumAndSample,
    UnorderedSet,
    Vimco,
    Zgr,
)
from softhot.estimators.gradients import carry, scored
from softhot.functional import log_mass, one_hot_sample
from softhot.kl.term import Sample
from softhot.testing import NotEnumerable, assert_mean, certify, exact_gradient, exact_moments, gradient_draws
from tests.integrands import cubic, seeded

LOGITS = torch.tensor([[0.3, -0.5, 0.9], [-0.2, 1.1, 0.0]], dtype=torch.float64)
IMPOSSIBLE = torch.tensor([[0.3, -math.inf, 0.9], [-0.2, 1.1, 0.0]], dtype=torch.float64)
TWO = torch.tensor([[0.4, -0.3]], dtype=torch.float64)


def configurations(logits: Tensor) -> list[tuple[float, Tensor]]:
    """Probability and one-hot vectors of each."""
    probs = logits.softmax(-1).tolist()
    found = []
    for classes in itertools.product(range(logits.shape[-1]), repeat=len(logits)):
        z = one_hot(torch.tensor(classes), logits.shape[-1]).double()
        found.append((math.prod(row[k] for row, k in zip(probs, classes, strict=True)), z))
    return [(mass, z) for mass, z in found if mass > 0]


# ---- moments by enumeration


@pytest.mark.parametrize("logits", [LOGITS, IMPOSSIBLE], ids=["plain", "impossible class"])
def test_a_pair_of_draws_has_the_moments_of_enumeration_by_hand(logits: Tensor) -> None:
    probs = logits.softmax(-1)
    mean, square, value = torch.zeros_like(logits), torch.zeros_like(logits), 0.0
    for (p, z), (q, y) in itertools.product(configurations(logits), repeat=2):
        gradient = (cubic(z) - cubic(y)) * ((z - probs) - (y - probs)) / 2
        mean += p * q * gradient
        square += p * q * gradient**2
        value += p * q * (cubic(z) + cubic(y)).item() / 2
    found = exact_moments(LeaveOneOut(samples=2), cubic, logits)
    assert found.outcomes == len(configurations(logits)) ** 2
    assert not found.integrated
    assert found.value.mean.item() == pytest.approx(value, rel=1e-13)
    torch.testing.assert_close(found.gradient.mean, mean)
    torch.testing.assert_close(found.gradient.mean, exact_gradient(cubic, logits))
    torch.testing.assert_close(found.gradient.variance, square - mean**2)
    alone = exact_moments(LeaveOneOut(samples=2), cubic, logits, side_by_side=False)
    torch.testing.assert_close(alone.gradient, found.gradient)


def jacobian(probs: Tensor) -> Tensor:
    return torch.diag_embed(probs) - probs[:, :, None] * probs[:, None, :]


FORMULAS: dict[str, tuple[Estimator, Callable[[Tensor, Tensor], Tensor]]] = {
    "straight-through": (StraightThrough(), lambda pi, z: jacobian(pi)),
    "reinmax": (ReinMax(), lambda pi, z: 2 * jacobian((pi + z) / 2) - jacobian(pi) / 2),
    "zgr": (Zgr(), lambda pi, z: (jacobian(pi) + (z - pi)[:, :, None] * (z - pi)[:, None, :]) / 2),
}


@pytest.mark.parametrize(("estimator", "formula"), FORMULAS.values(), ids=FORMULAS.keys())
def test_hard_samples_have_the_moments_of_the_formulas(
    estimator: Estimator, formula: Callable[[Tensor, Tensor], Tensor]
) -> None:
    mean, square = torch.zeros_like(LOGITS), torch.zeros_like(LOGITS)
    for p, z in configurations(LOGITS):
        leaf = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(cubic(leaf), leaf)
        gradient = (formula(LOGITS.softmax(-1), z) @ slope[..., None])[..., 0]
        mean += p * gradient
        square += p * gradient**2
    found = exact_moments(estimator, cubic, LOGITS).gradient
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.variance, square - mean**2)


def test_zgr_is_reinmax_at_temperature_one() -> None:
    ours, theirs = (exact_moments(e, cubic, LOGITS).gradient for e in (Zgr(), ReinMax()))
    torch.testing.assert_close(ours, theirs)


ENUMERABLE: dict[str, Estimator] = {
    "local-expectation": LocalExpectation(),
    "score-function, n=2": ScoreFunction(samples=2),
    "leave-one-out, n=3": LeaveOneOut(samples=3),
    "sum-and-sample, k=3": SumAndSample(likeliest=3),
    "unordered-set, n=3": UnorderedSet(samples=3),  # later draws depend on earlier ones
    "rodeo": Rodeo(),
    "vimco, n=2": Vimco(samples=2),
}


@pytest.mark.parametrize("estimator", ENUMERABLE.values(), ids=ENUMERABLE.keys())
@pytest.mark.parametrize("logits", [LOGITS, IMPOSSIBLE], ids=["plain", "impossible class"])
def test_draws_have_the_exact_moments(estimator: Estimator, logits: Tensor) -> None:
    found = exact_moments(estimator, cubic, logits).gradient
    draws = gradient_draws(estimator, cubic, logits, 20_000, seeded()).float()
    assert_mean(draws, found.mean)
    assert_mean((draws - found.mean) ** 2, found.variance)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean((draws - found.mean) ** 2, 1.2 * found.variance)


def test_parameters_of_f() -> None:
    theta = torch.tensor([[1.0, -0.5, 2.0], [0.7, 1.5, -1.0]], dtype=torch.float64)
    found = exact_moments(StraightThrough(samples=2), lambda z, p: (z * p).sum((-1, -2)) ** 2, LOGITS, [theta])
    slopes = [(p, 2 * (z * theta).sum() * z) for p, z in configurations(LOGITS)]
    mean = sum(p * slope for p, slope in slopes)
    variance = sum(p * (slope - mean) ** 2 for p, slope in slopes) / 2
    torch.testing.assert_close(found.parameters[0].mean, mean)
    torch.testing.assert_close(found.parameters[0].variance, variance)


@dataclass(frozen=True)
class Mine(Estimator):
    """REINFORCE of one draw, by a way to draw it that a person may choose."""

    draw: Callable[[Tensor, torch.Generator | None], Tensor]
    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "a test"

    def estimate(self, f: Integrand, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        z = self.draw(logits.detach(), generator)
        value = f(z)
        return carry(value, logits, scored(value.detach(), z, logits))

    def evaluations(self, latents: int, classes: int) -> int:
        return 1


def flat(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    chosen = torch.multinomial(logits.softmax(-1).flatten(0, -2), 1, generator=generator)
    return one_hot(chosen.reshape(logits.shape[:-1]), logits.shape[-1]).to(logits.dtype)


def binary(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    second = torch.bernoulli(logits.softmax(-1)[..., 1], generator=generator)
    return torch.stack((1 - second, second), -1)


def by_torch(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.distributions.OneHotCategorical(logits=logits).sample()


@pytest.mark.parametrize("draw", [flat, binary, by_torch])
def test_other_ways_to_draw(draw: Callable[[Tensor, torch.Generator | None], Tensor]) -> None:
    logits = LOGITS[:, :2]
    found, expected = (exact_moments(e, cubic, logits) for e in (Mine(draw), ScoreFunction()))
    assert found.outcomes == expected.outcomes
    torch.testing.assert_close(found.gradient, expected.gradient)
    torch.testing.assert_close(found.value, expected.value)


@pytest.mark.parametrize(
    ("estimator", "says"),
    [
        (DisArm(), "it draws noise, by aten.rand"),
        (Arsm(), "it draws noise, by aten.exponential_"),
        (GumbelSoftmax(), "it draws noise, by softhot.relaxed_sample"),
        (GumbelRao(), "it draws noise"),
        (ReinMaxRao(), "it draws noise"),
        (LeaveOneOut(samples=4), "more outcomes than the limit; use fewer draws"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_what_cannot_be_enumerated_is_refused(estimator: Estimator, says: str) -> None:
    with pytest.raises(NotEnumerable, match=says):
        exact_moments(estimator, cubic, LOGITS[:, : estimator.classes], limit=100)


def test_nothing_is_left_behind() -> None:
    state = torch.get_rng_state()
    exact_moments(LeaveOneOut(samples=2), cubic, LOGITS)
    with pytest.raises(NotEnumerable):
        exact_moments(GumbelSoftmax(), cubic, LOGITS)
    assert torch.equal(torch.get_rng_state(), state)
    z = one_hot_sample(LOGITS.expand(100, 2, 3), generator=seeded())
    assert len(z.unique(dim=0)) > 1


# ---- moments by integration


def wavy(z: Tensor) -> Tensor:
    return torch.sin(3 * z[..., 0, 0]) + z[..., 0, 0] ** 3


def slope(z: float) -> float:
    return 3 * math.cos(3 * z) + 3 * z**2


def logistic_mean(h: Callable[[float], float]) -> float:
    """Of two classes, z = sigmoid((d + x) / t) with x logistic, d the difference of the logits."""
    d = (TWO[0, 0] - TWO[0, 1]).item()
    near = [-d + k for k in (-3, -0.3, 0, 0.3, 3)]
    return float(
        quad(lambda x: h(d + x) * expit(x) * expit(-x), -50, 50, points=near, limit=500, epsabs=1e-14, epsrel=1e-13)[0]
    )


@pytest.mark.parametrize("t", [0.05, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("hard", [False, True])
def test_relaxed_samples_have_the_moments_of_integrals(t: float, hard: bool) -> None:
    def gradient(y: float) -> float:
        z = expit(y / t)
        return slope(float(y > 0) if hard else z) * z * expit(-y / t) / t

    mean = logistic_mean(gradient)
    variance = logistic_mean(lambda y: (gradient(y) - mean) ** 2)
    kind = StraightThroughGumbelSoftmax if hard else GumbelSoftmax
    found = exact_moments(kind(temperature=t), wavy, TWO)
    assert found.integrated
    allowed = (1e-8 if t >= 0.5 else 1e-6) * math.sqrt(variance)
    assert found.gradient.mean[0].tolist() == pytest.approx([mean, -mean], abs=allowed)
    assert found.gradient.variance[0].tolist() == pytest.approx([variance, variance], rel=1e-7 if t >= 0.5 else 1e-5)


class Wave(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return torch.sin(3 * z[..., 0].sum(-1))


@pytest.mark.parametrize("estimator", [Rebar(), Rebar(Relaxation(temperature=2.0, eta=0.4)), Relax(Wave())])
def test_relaxed_controls_are_unbiased_up_to_the_error_of_the_integral(estimator: Estimator) -> None:
    logits = torch.tensor([[0.4, -0.3], [1.0, 0.2]], dtype=torch.float64)
    found = exact_moments(estimator, cubic, logits).gradient
    assert (found.mean - exact_gradient(cubic, logits)).abs().max() < 1e-6 * found.variance.sum().sqrt()


# ---- certificates


def test_figures_are_those_of_the_moments() -> None:
    (one,) = certify(StraightThrough()).figures
    (other,) = certify(StraightThrough(samples=2)).figures
    assert (one.latents, one.classes, one.count, other.count) == (2, 3, 9, 81)
    assert one.bias_error == one.variance_error == 0
    assert other.bias == pytest.approx(one.bias)
    assert other.variance == pytest.approx(one.variance / 2)


def test_drawn_figures_are_within_their_errors() -> None:
    def gumbel(logits: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.empty_like(logits).exponential_(generator=generator)
        return one_hot((logits - noise.log()).argmax(-1), logits.shape[-1]).to(logits.dtype)

    exact, drawn = certify(ScoreFunction()), certify(Mine(gumbel))
    assert drawn.passed, drawn.faults
    a, b = exact.figures[0], drawn.figures[0]
    assert b.method == "drawn"
    assert b.bias < 4 * b.bias_error
    assert abs(a.variance - b.variance) < 5 * b.variance_error


# ---- what is wrong


@dataclass(frozen=True)
class Wrong(Estimator):
    """REINFORCE with a leave-one-out baseline, and a mistake."""

    mistake: str = ""
    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "a test"

    def estimate(self, f: Integrand, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        many = logits.detach().expand(2, *logits.shape)
        z = one_hot_sample(many, generator=None if self.mistake == "generator" else generator)
        if self.mistake == "soft":
            z = many.softmax(-1)
        value = f(z)
        log_q = (z * logits.log_softmax(-1)).sum((-1, -2)) if self.mistake == "-inf" else log_mass(z, logits).sum(-1)
        times = {"own cost": 1.0, "sign": -2.0}.get(self.mistake, 2.0)  # n / (n - 1)
        advantage = times * (value - value.mean(None if self.mistake == "shared" else 0)).detach()
        if self.mistake == "detached":
            value = value.detach()
        estimate = (value + advantage * (log_q - log_q.detach())).mean(0)
        if self.mistake == "raises":
            raise RuntimeError("of no use")
        if self.mistake == "shape":
            return estimate[None]
        return estimate.double() if self.mistake == "dtype" else estimate

    def evaluations(self, latents: int, classes: int) -> int:
        return 2 + (self.mistake == "cost")


MISTAKES = {
    "sign": ("gradient", "is -1 times the truth: the sign is wrong"),
    "own cost": ("gradient", "is 0.5 times the truth: .*a baseline contains its own cost"),
    "detached": ("parameters of f", "is 0 times the truth: there is none"),
    "cost": ("cost", "3 evaluations of f are stated for N=1 and K=2, and 2 are made"),
    "shape": ("shapes and types", r"the value is of torch.float64 and shape \(1,\)"),
    "dtype": ("shapes and types", r"with logits of torch.float32 .* the value is of torch.float64"),
    "soft": ("value", "its mean is"),
    "-inf": ("impossible classes", "not finite"),
    "shared": ("batch", "in a batch and .* alone; do not mix elements of the batch"),
    "generator": ("randomness", "it draws from torch's default generator"),
    "raises": ("call", "it raises RuntimeError: of no use"),
}


def test_the_wrong_estimators_are_right_without_their_mistakes() -> None:
    assert certify(Wrong()).faults == ()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found_for_the_right_reason(mistake: str) -> None:
    check, reason = MISTAKES[mistake]
    found = certify(Wrong(mistake=mistake))
    assert not found.passed
    faults = {name: fault or "" for name, fault in found.faults}
    assert re.search(reason, faults.get(check, "")), faults


def test_noise_of_another_library_is_found() -> None:
    source = np.random.default_rng(0)

    def draw(logits: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.from_numpy(source.gumbel(size=logits.shape)).to(logits.dtype)
        return one_hot((logits + noise).argmax(-1), logits.shape[-1]).to(logits.dtype)

    faults = {name: fault or "" for name, fault in certify(Mine(draw)).faults}
    assert "with the same generator it gives another value" in faults["randomness"]


def test_a_slope_that_is_said_not_to_be_needed() -> None:
    class Taylor(MuProp):
        differentiable: ClassVar[bool] = False

    (fault,) = certify(Taylor()).faults
    assert fault.name == "call"
    assert "MuProp needs the slope of f" in (fault.fault or "")


def test_a_biased_gradient_must_not_point_away_from_the_truth() -> None:
    class Backwards(StraightThrough):
        def estimate(self, f: Integrand, logits: Tensor, generator: torch.Generator | None) -> Tensor:
            value = super().estimate(f, logits, generator)
            backwards = super().estimate(f, 2 * logits.detach() - logits, generator)
            return backwards + (value - backwards).detach()

    faults = {name: fault or "" for name, fault in certify(Backwards()).faults}
    assert re.search(r"points away from the true one: the cosine is -0\.\d", faults["gradient"])


def test_a_claim_to_be_unbiased() -> None:
    class Claims(StraightThroughGumbelSoftmax):
        unbiased: ClassVar[bool] = True

    found = certify(Claims())
    assert not found.unbiased
    faults = {name: fault or "" for name, fault in found.faults}
    assert "standard errors" in faults["gradient"]


def test_nan_is_named() -> None:
    with pytest.raises(ValueError, match=r"logits that hold NaN; use torch\.isfinite"):
        exact_moments(LeaveOneOut(samples=2), cubic, LOGITS * math.nan)


def test_a_mixture_has_no_certificate_of_independent_variables():
    with pytest.raises(ValueError, match="is of a mixture of flows"):
        certify(MixtureOfDiscreteFlows())
