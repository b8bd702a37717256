"""What torch.distributions asks of a distribution, beyond the laws of test_distributions.py, is asked of ours."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.distributions as td
from test_distributions import CASES, LOGITS, Case, cases, random
from torch import Tensor
from torch.distributions.transforms import ExpTransform, SigmoidTransform

import softhot.distributions as sd

DENSE = ["relaxed", "log of relaxed"]


def close(found: Tensor, expected: Tensor | float, relative: float = 1e-10) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=relative, atol=relative)


# ---- constraints


@cases()
def test_parameters_satisfy_their_constraints(case: Case) -> None:
    q = case.make(LOGITS)
    for name, constraint in q.arg_constraints.items():
        assert constraint.check(getattr(q, name)).all()


@cases()
@pytest.mark.parametrize("registry", [td.transform_to, td.biject_to])
def test_unconstrained_numbers_become_parameters(case: Case, registry: Any) -> None:
    """As a library does that learns parameters, or infers them, under their constraints."""
    for name, constraint in case.ours.arg_constraints.items():
        transform = registry(constraint)
        free = random(3, 4, dtype=torch.float64).requires_grad_()
        value = transform(free)
        assert constraint.check(value).all()
        q = case.ours(*([0.7] if case.relaxed else []), **{name: value}, validate_args=True)
        assert q.param_shape == value.shape
        (gradient,) = torch.autograd.grad(q.log_prob(q.sample()).sum(), free)
        assert gradient.isfinite().all()
        if registry is td.biject_to:
            close(transform.inv(value), free)


@cases("relaxed", "log of relaxed", "relaxed Bernoulli")
@pytest.mark.parametrize("registry", [td.transform_to, td.biject_to])
def test_unconstrained_numbers_become_samples(case: Case, registry: Any) -> None:
    q = case.make(LOGITS.double())
    transform = registry(q.support)
    free = random(5, *transform.inverse_shape((3, 4)), dtype=torch.float64)
    assert free.shape == (5, 3, 4 - (case.event and registry is td.biject_to))
    value = transform(free)
    assert q.support.check(value).all()
    assert q.log_prob(value).isfinite().all()
    if registry is td.biject_to:
        close(transform.inv(value), free)


# ---- the density integrates to one, and is that of the samples

CENTRES = {2: [0.0, 0.7], 3: [0.4, -1.0, 0.2]}


@cases(*DENSE)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("t", [0.5, 1.0, 2.5])
def test_quadrature(case: Case, classes: int, t: float) -> None:
    """Over all numbers that biject_to makes points of the support of.

    The integrand is analytic and falls like exp(-t |x|) or faster, so that the trapezoid rule leaves what rounding
    leaves, and the transform of torch, which clips shares of a stick at 2^-52 = exp(-36).
    """
    q = case.make(torch.tensor(CENTRES[classes], dtype=torch.float64), t)
    transform = td.biject_to(q.support)
    line = torch.arange(-36, 36.05, 0.1 if classes == 2 else 0.2, dtype=torch.float64) / t
    free = torch.cartesian_prod(*[line] * (classes - 1)).reshape(-1, classes - 1)
    value = transform(free)
    weight = (q.log_prob(value) + transform.log_abs_det_jacobian(free, value)).exp()
    weight = weight * (line[1] - line[0]) ** (classes - 1)
    limit = 1e-8 + math.exp(-36 * t)
    close(weight.sum(), 1.0, limit)
    close((weight[:, None] * value).sum(0), q.mean, 40 * limit)  # -log z and the log-density are below 40 there
    close(-(weight * q.log_prob(value)).sum(), q.entropy(), 40 * limit)


def test_quadrature_of_the_relaxed_bernoulli() -> None:
    for t in (0.5, 1.0, 2.5):
        q = sd.RelaxedBernoulli(t, logits=torch.tensor(0.7, dtype=torch.float64))
        line = torch.arange(-36, 36, 0.1, dtype=torch.float64) / t
        value = line.sigmoid()
        inside = (value > 0) & (value < 1)
        line, value = line[inside], value[inside]
        weight = (q.log_prob(value) + SigmoidTransform().log_abs_det_jacobian(line, value)).exp() * 0.1 / t
        close(weight.sum(), 1.0, 1e-7)
        close((weight * value).sum(), q.mean, 1e-7)


# ---- inside other distributions


@pytest.mark.parametrize("t", [0.3, 1.0, 4.0])
def test_transformed_distributions(t: float) -> None:
    """The density of each variable is that of another one through a transform of torch."""
    logits = random(3, 4, dtype=torch.float64)
    log, relaxed = (CASES[name].make(logits, t) for name in ("log of relaxed", "relaxed"))
    through = td.TransformedDistribution(log, ExpTransform())
    assert (through.batch_shape, through.event_shape) == (relaxed.batch_shape, relaxed.event_shape)
    value = relaxed.sample((5,)).clone()
    close(through.log_prob(value), relaxed.log_prob(value))
    assert through.rsample((5,)).shape == (5, 3, 4)
    binary, temperature = sd.RelaxedBernoulli(t, logits=logits), torch.tensor(t, dtype=torch.float64)
    odds = td.TransformedDistribution(binary, SigmoidTransform().inv)
    theirs = td.relaxed_bernoulli.LogitRelaxedBernoulli(temperature, logits=logits)
    close(odds.log_prob(3 * logits), theirs.log_prob(3 * logits), 1e-8)


@cases()
def test_independent_and_mixtures(case: Case) -> None:
    logits = random(2, 3, 4, dtype=torch.float64)
    q = td.Independent(case.make(logits), 1)
    assert q.event_shape == (3, 4)[2 - 1 - case.event :]
    draws = q.sample((5,))
    close(q.log_prob(draws), case.make(logits).log_prob(draws).sum(-1))
    if case.event:
        mixture = td.MixtureSameFamily(td.Categorical(logits=random(2, 3, dtype=torch.float64)), case.make(logits))
        value = mixture.sample((7,))
        each = torch.stack([case.make(logits[:, i]).log_prob(value) for i in range(3)], -1)
        close(mixture.log_prob(value), (each + mixture.mixture_distribution.logits).logsumexp(-1))
        weights = mixture.mixture_distribution.probs[..., None]
        close(mixture.mean, (weights * case.make(logits).mean).sum(-2))


# ---- subclasses


@cases()
def test_a_subclass_stays_one_when_it_is_expanded(case: Case) -> None:
    subclass = type("Subclass", (case.ours,), {})
    q = subclass(*([0.7] if case.relaxed else []), logits=LOGITS)
    wide = q.expand((5, *q.batch_shape))
    assert type(wide) is subclass
    value = q.sample((2, 5))
    assert torch.equal(wide.log_prob(value), q.log_prob(value))

    class Own(case.ours):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(*([0.7] if case.relaxed else []), logits=LOGITS)

    with pytest.raises(NotImplementedError, match="must also define a custom"):
        Own().expand((5, *q.batch_shape))


@cases()
def test_what_is_not_given_is_computed_when_it_is_asked_for(case: Case) -> None:
    given = {"logits": LOGITS, "probs": LOGITS.softmax(-1)}
    for name, other in (("logits", "probs"), ("probs", "logits")):
        q = case.ours(*([0.7] if case.relaxed else []), **{name: given[name]})
        assert other not in vars(q)
        getattr(q, other)
        assert other in vars(q)


@cases()
def test_values_of_another_shape_are_refused(case: Case) -> None:
    q = case.make(LOGITS, validate_args=True)
    with pytest.raises(ValueError, match=r"must match|broadcast"):
        q.log_prob(torch.full((3, 5), 0.2))


# ---- gradients


@cases(*DENSE)
def test_samples_of_equal_logits_move_by_the_derivative_of_the_softmax(case: Case) -> None:
    """z = softmax(y), so that dz / dlogits is (diag(z) - z z') / t whatever the noise, and for log z: (1 - z') / t."""
    t, logits = 0.6, torch.zeros(4, dtype=torch.float64, requires_grad=True)
    z = case.make(logits, t).rsample()
    jacobian = torch.stack([torch.autograd.grad(one, logits, retain_graph=True)[0] for one in z])
    soft = z.detach().exp() if case.space == "log" else z.detach()
    expected = (torch.eye(4, dtype=torch.float64) - soft) / t
    close(jacobian, expected if case.space == "log" else soft[:, None] * expected)
    assert math.isclose(jacobian.sum().item(), 0.0, abs_tol=1e-12) or case.space == "log"
