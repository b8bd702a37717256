"""A mixture of discrete flows as a posterior: estimator, KL terms, objective and a trained model, held against sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from softhot import estimators
from softhot.bounds import Objective, elbo, incompatible, iwae, log_marginal
from softhot.distributions import MixtureOfDiscreteFlows as Mixed
from softhot.estimators import Exact, GumbelSoftmax, MixtureOfDiscreteFlows, StraightThrough
from softhot.kl import TERMS, Categorical, Mixture, ProductOfMixtures
from softhot.lab.config import Config
from softhot.lab.gradients.draws import measure, reference
from softhot.lab.gradients.targets import VaeTarget
from softhot.lab.training.loop import Run, evaluate, few
from softhot.problems.data import load, prepare
from softhot.problems.vae import CategoricalVAE
from softhot.testing import assert_mean
from tests.integrands import cubic, seeded

B, N, K = 5, 3, 4
LOGITS = torch.randn(2, B, N, K, dtype=torch.float64, generator=seeded())
PRIOR = torch.randn(N, K, dtype=torch.float64, generator=seeded(1))
DRAWS = 20_000


def configurations() -> Tensor:
    """Of shape (B, 2, N, K): the likeliest classes of each component, for both elements of the batch."""
    return one_hot(LOGITS.argmax(-1), K).double().transpose(0, 1)


def log_prior(z: Tensor) -> Tensor:
    return (z * PRIOR.log_softmax(-1)).sum((-1, -2))


# the estimator


def test_value_is_the_mean_over_the_components() -> None:
    estimator = MixtureOfDiscreteFlows(components=B)
    seen: list[Tensor] = []

    def f(z: Tensor) -> Tensor:
        seen.append(z)
        return cubic(z)

    value = estimator(f, LOGITS)
    torch.testing.assert_close(value, cubic(configurations()).mean(0))
    assert seen[0].shape[0] == estimator.evaluations(N, K) == B
    draws = Mixed.of_deltas(LOGITS).sample((DRAWS,), generator=seeded())
    assert_mean(cubic(draws), value)


@pytest.mark.parametrize("t", [0.3, 1.0, 4.0])
def test_gradient_is_straight_through(t: float) -> None:
    logits = LOGITS.clone().requires_grad_()
    (found,) = torch.autograd.grad(MixtureOfDiscreteFlows(B, temperature=t)(cubic, logits).sum(), logits)
    z = configurations().requires_grad_()
    (slope,) = torch.autograd.grad(cubic(z).sum() / B, z)
    soft = (logits / t).softmax(-1)
    (expected,) = torch.autograd.grad((soft * slope.transpose(0, 1)).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_gradient_to_parameters_of_f_is_exact() -> None:
    theta = torch.randn(N, K, dtype=torch.float64, generator=seeded(2)).requires_grad_()

    def f(z: Tensor) -> Tensor:
        return torch.sin((z * theta).sum((-1, -2)))

    found = torch.autograd.grad(MixtureOfDiscreteFlows(B)(f, LOGITS).sum(), theta)[0]
    torch.testing.assert_close(found, torch.autograd.grad(f(configurations()).mean(0).sum(), theta)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_given_half_precision(dtype: torch.dtype) -> None:
    """It used to be given float32, which layers in half precision refuse."""
    layer = torch.nn.Linear(N * K, 1).to(dtype)
    logits = LOGITS.to(dtype).requires_grad_()
    value = MixtureOfDiscreteFlows(components=B)(lambda z: layer(z.flatten(-2)).squeeze(-1), logits)
    assert (value.shape, value.dtype) == ((2,), dtype)
    value.sum().backward()
    assert logits.grad is not None
    assert logits.grad.any()


def test_impossible_classes_have_no_part() -> None:
    logits = torch.tensor([[[0.3, -math.inf, 0.9], [-0.2, 1.1, 0.0]]] * 2, requires_grad=True)
    value = (
        MixtureOfDiscreteFlows(2)(lambda z: cubic(z) + z[..., 0, 1], logits) - Mixture()(logits, torch.zeros(2, 3))[0]
    )
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.isfinite().all()
    assert (gradient[:, 0, 1] == 0).all()


# the terms


def test_the_joint_term_is_the_divergence() -> None:
    z = configurations()
    same = (z[:, None] == z).all(-1).all(-1)  # which components coincide
    log_q = same.double().mean(1).log()
    expected = (log_q - log_prior(z)).mean(0)
    found = Mixture()(LOGITS, PRIOR)
    assert found.shape == (2, 1)
    torch.testing.assert_close(found.squeeze(-1), expected)
    torch.testing.assert_close(Mixture().expected_log_q(LOGITS, 1.0).squeeze(-1), log_q.mean(0))


def test_the_product_term_is_that_of_the_product_and_overstates_the_entropy() -> None:
    z = configurations()
    alone = z.mean(0)
    expected = torch.xlogy(alone, alone).sum(-1) - (alone * PRIOR.log_softmax(-1)).sum(-1)
    found = ProductOfMixtures()(LOGITS, PRIOR)
    torch.testing.assert_close(found, expected)
    assert (found.sum(-1) < Mixture()(LOGITS, PRIOR).squeeze(-1)).all()
    product = Mixed.of_deltas(LOGITS).product_of_marginals()
    torch.testing.assert_close(-ProductOfMixtures().expected_log_q(LOGITS, 1.0).sum(-1), product.entropy())
    assert (Mixed.of_deltas(LOGITS).entropy() <= math.log(B) + 1e-12).all()


def test_only_the_joint_term_is_a_bound() -> None:
    apart = torch.eye(K)[torch.arange(K)][:, None].expand(K, N, K)  # all variables of component b of class b
    prior, steep = torch.zeros(N, K), torch.tensor([2.0, 0.0, 0.0, 0.0])

    def likelihood(z: Tensor) -> Tensor:  # all variables agree, or it is unlikely
        return -20 * (z[..., :-1, :] - z[..., 1:, :]).abs().sum((-1, -2)) + (z * steep).sum((-1, -2)) / N

    truth = log_marginal(likelihood, prior, ())
    joint = Objective(MixtureOfDiscreteFlows(K), Mixture())
    product = Objective(MixtureOfDiscreteFlows(K), ProductOfMixtures())
    assert joint(likelihood, apart, prior) <= truth
    assert product(likelihood, apart, prior) > truth
    assert (joint.bounds, product.bounds) == ("the discrete log-likelihood", None)


# the objective, and reports


def log_likelihood(z: Tensor) -> Tensor:
    return cubic(z) / 10


def test_objective_and_reports_are_of_the_same_posterior() -> None:
    objective = Objective(MixtureOfDiscreteFlows(B), Mixture())
    value = objective(log_likelihood, LOGITS, PRIOR)
    posterior = objective.posterior(LOGITS)
    z = configurations()
    expected = (log_likelihood(z) + log_prior(z) - posterior.log_prob(z)).mean(0)
    torch.testing.assert_close(value, expected)
    many = objective.posterior(LOGITS.expand(2_000, *LOGITS.shape))
    assert_mean(elbo(log_likelihood, many, PRIOR, generator=seeded()), expected)
    assert_mean(iwae(log_likelihood, many, PRIOR, samples=1, generator=seeded()), expected)
    truth = log_marginal(log_likelihood, PRIOR, (2,))
    tighter = iwae(log_likelihood, many, PRIOR, samples=20, generator=seeded()).mean(0)
    assert (expected < tighter).all()
    assert (tighter < truth).all()


def test_terms_and_estimators_of_different_posteriors_do_not_mix() -> None:
    for term in TERMS.values():
        assert (incompatible(MixtureOfDiscreteFlows(), term) is None) == term.mixture
        assert (incompatible(Exact(), term) is None) <= (not term.mixture)
    with pytest.raises(
        ValueError, match="the term is that of independent variables, and the estimator's posterior is a m"
    ):
        Objective(MixtureOfDiscreteFlows(), Categorical())
    with pytest.raises(
        ValueError, match="the term is that of a mixture of flows, and the estimator's posterior is ind"
    ):
        Objective(StraightThrough(), Mixture())
    assert incompatible(GumbelSoftmax(), Mixture()) is not None


# the categorical VAE


@pytest.fixture(scope="module")
def run() -> Run:
    config = Config(estimator="mixture-of-discrete-flows", term="mixture", components=4, hidden=(32,), epochs=12)
    trained = Run(config, prepare(load("digits"), "threshold"))
    list(trained.epochs())
    return trained


def test_a_model_is_trained(run: Run) -> None:
    fresh = Run(run.config, run.images)
    before, after = (evaluate(each, run.images.test) for each in (fresh, run))
    assert after.elbo > before.elbo + 3
    assert after.objective == pytest.approx(after.elbo, abs=0.1)  # exact against 20 draws
    assert after.log_likelihood is not None
    assert after.elbo < after.iwae < after.log_likelihood
    assert run.config.arm == "mixture-of-discrete-flows B=4 t=1 + mixture"


def test_the_gradient_of_the_decoder_is_exact_and_that_of_the_encoder_has_no_truth(run: Run) -> None:
    target = VaeTarget(run.model, few(run.images.test, 8), Mixture())
    truth = reference(target)
    found = measure(target, run.config.make_estimator(1.0), truth).parts
    assert truth.how == "exact"
    assert (truth.parts["encoder"].gradient == 0).all()
    assert math.isnan(found["encoder"].bias)
    assert found["decoder"].bias < 1e-3
    assert found["decoder"].cosine_of_mean > 0.9999


def test_a_mixture_is_measured_with_its_own_posterior_alone(run: Run) -> None:
    target = VaeTarget(run.model, few(run.images.test, 8), Mixture())
    assert target.refusal(StraightThrough()) == "the model's posterior is a mixture"
    plain = VaeTarget(CategoricalVAE(64, 2, 2), run.images.test[:8])
    assert plain.refusal(MixtureOfDiscreteFlows(3)) == "the model's posterior is a product of independent variables"


# errors

REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: MixtureOfDiscreteFlows(components=0), r"components=0\) leaves nothing to draw from"),
    (lambda: MixtureOfDiscreteFlows(temperature=0.0), r"temperature=0.0 is not a positive"),
    (lambda: MixtureOfDiscreteFlows(3)(cubic, LOGITS), r"logits of shape \(2, 5, 3, 4\) are not those of 3 components"),
    (lambda: MixtureOfDiscreteFlows(3)(cubic, LOGITS[0, 0]), r"use logits of shape \(\*batch, 3, N, K\)"),
    (lambda: Mixture(exact=False), r"Mixture\(exact=False\) has nothing to draw"),
    (lambda: Config(components=0), r"components=0 is too small"),
    (lambda: Config(estimator="mixture-of-discrete-flows"), r"the term is that of independent variables"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_it_has_a_name_and_a_source() -> None:
    kind = estimators.estimator("mixture-of-discrete-flows")
    assert kind is MixtureOfDiscreteFlows
    assert kind.source
