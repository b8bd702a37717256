"""Variables of softhot do in Pyro what Pyro's own do: one class of both for each."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as pd
import pytest
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.reparam import GumbelSoftmaxReparam
from test_distributions import LOGITS, Case, cases, seeded

import softhot.distributions as sd
from softhot.functional import gumbel_softmax
from softhot.testing import assert_mean


def callable_one(case: Case, logits: torch.Tensor) -> Any:
    both = type(case.ours.__name__, (case.ours, TorchDistributionMixin), {})
    return both(*([torch.tensor(0.7)] if case.relaxed else []), logits=logits)


@cases()
def test_sites(case: Case) -> None:
    q = callable_one(case, LOGITS)
    assert q.expand_by([5]).batch_shape == (5, *q.batch_shape)
    assert q.to_event(1).event_shape == (*q.batch_shape[-1:], *q.event_shape)
    assert q.shape((2,)) == (2, 3, 4)
    assert q.has_enumerate_support == (not case.relaxed)

    def model() -> torch.Tensor:
        with pyro.plate("rows", 3, dim=-1 if case.event else -2):
            z: torch.Tensor = pyro.sample("z", q)
        return z

    trace = poutine.trace(model).get_trace()
    value = trace.nodes["z"]["value"]
    torch.testing.assert_close(trace.log_prob_sum(), case.make(LOGITS).log_prob(value).sum())
    masked = q.mask(torch.tensor([True, False, False])[(...,) + (None,) * (1 - case.event)])
    torch.testing.assert_close(masked.log_prob(value).sum(), case.make(LOGITS).log_prob(value)[:1].sum())
    again = poutine.trace(poutine.condition(model, {"z": value})).get_trace()
    assert again.log_prob_sum() == trace.log_prob_sum()


def test_enumeration_gives_the_evidence() -> None:
    means, data = torch.tensor([-2.0, 0.0, 3.0]), torch.tensor([-1.7, 2.6, 0.1, 3.3])
    prior = torch.tensor([0.2, 0.5, 0.3])
    one_hot = type("OneHot", (sd.OneHotCategorical, TorchDistributionMixin), {})

    def model() -> None:
        with pyro.plate("data", 4):
            z = pyro.sample("z", one_hot(probs=prior.expand(4, 3)))
            pyro.sample("x", pd.Normal(z @ means, 1.0), obs=data)

    found = TraceEnum_ELBO(max_plate_nesting=1).loss(config_enumerate(model, "parallel"), lambda: None)
    log_joint = prior.log() + torch.distributions.Normal(means, 1.0).log_prob(data[:, None])
    assert found == pytest.approx(-log_joint.logsumexp(-1).sum().item(), rel=1e-6)


def test_a_class_of_both_is_reparametrised() -> None:
    both = type("Both", (sd.RelaxedOneHotCategorical, pd.RelaxedOneHotCategorical), {})
    q, relaxed = (kind(torch.tensor(0.7), logits=LOGITS) for kind in (both, sd.RelaxedOneHotCategorical))
    z = relaxed.sample((2,))
    assert torch.equal(q.log_prob(z), relaxed.log_prob(z))
    assert torch.equal(q.entropy(), relaxed.entropy())
    wide = (kind(0.5, logits=torch.zeros_like(LOGITS)) for kind in (both, sd.RelaxedOneHotCategorical))
    assert torch.equal(*(sd.kl_divergence(*pair) for pair in zip((q, relaxed), wide, strict=True)))

    def model() -> torch.Tensor:
        value: torch.Tensor = pyro.sample("z", q.to_event(1))
        return value

    steps = {"z": GumbelSoftmaxReparam()}
    trace = poutine.trace(poutine.reparam(model, steps)).get_trace()
    noise = trace.nodes["z_uniform"]["value"]
    expected = ((LOGITS - noise.log().neg().log()) / 0.7).softmax(-1)
    torch.testing.assert_close(trace.nodes["_RETURN"]["value"], expected)


def test_hard_samples_have_the_gradient_of_pyros_straight_through_variable() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0])
    theirs, ours, others = (LOGITS[0].expand(20_000, 4).clone().requires_grad_() for _ in range(3))
    z = pd.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.7), logits=theirs).rsample()
    for sample in (z, gumbel_softmax(ours, 0.7, hard=True), gumbel_softmax(others, 1.4, hard=True)):
        (sample * weight).sum(-1).square().sum().backward()
    assert_mean(ours.grad - theirs.grad, torch.zeros(4))
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(others.grad - theirs.grad, torch.zeros(4))


@cases("relaxed", "relaxed Bernoulli")
def test_straight_through_variables_are_those_of_pyro(case: Case) -> None:
    """A draw is the hard one of the relaxed sample of the same noise, with its gradient and its density."""
    name = case.ours.__name__ + "StraightThrough"
    temperature, weight = (torch.tensor(x).double() for x in (0.7, [1.0, -2.0, 0.5, 3.0]))
    logits = LOGITS.double().requires_grad_()
    q, theirs = (getattr(module, name)(temperature, logits=logits) for module in (sd, pd))
    relaxed = case.make(logits)
    z, soft = (each.rsample((50,), generator=seeded()) for each in (q, relaxed))
    assert torch.equal(z, pd.relaxed_straight_through.QuantizeCategorical.apply(soft) if case.event else soft.round())
    quantised = z.detach().clone()
    quantised._unquantize = soft  # what Pyro keeps
    density = theirs.log_prob(quantised)
    torch.testing.assert_close(q.log_prob(z), density)
    for ours, expected in (((z * weight).sum(), (soft * weight).sum()), (q.log_prob(z).sum(), density.sum())):
        slopes = (torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (ours, expected))
        torch.testing.assert_close(*slopes)
    assert not q.log_prob(z.clone()).isfinite().any()
    wide = q.expand((5, *q.batch_shape))
    assert type(wide) is type(q)
    assert wide.sample((2,)).unique().tolist() == [0, 1]
    p = type(q)(0.5, logits=-logits)
    torch.testing.assert_close(sd.kl_divergence(q, p), sd.kl_divergence(relaxed, case.make(-logits, 0.5)))
    torch.testing.assert_close(sd.kl_divergence(theirs, p), sd.kl_divergence(q, p))


@cases("relaxed", "relaxed Bernoulli")
def test_moments_of_straight_through_variables_are_those_of_the_draws(case: Case) -> None:
    q = getattr(sd, case.ours.__name__ + "StraightThrough")(0.7, logits=LOGITS)
    draws = q.sample((20_000,), generator=seeded())
    assert_mean(draws, q.mean)
    assert_mean((draws - q.mean).square(), q.variance)
    assert_mean(-q.log_prob(draws), q.entropy())
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(draws, case.make(LOGITS).mean)
