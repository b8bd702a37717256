"""Bounds and objectives: what is reported against brute force, and what is climbed against its exact mean."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.bounds import Objective, elbo, incompatible, iwae, log_marginal
from softhot.estimators import (
    Estimator,
    Exact,
    GumbelSoftmax,
    Integrand,
    InvertibleGaussian,
    LeaveOneOut,
    ReinMax,
    StraightThrough,
    StraightThroughGumbelSoftmax,
)
from softhot.functional import relaxed_mean
from softhot.kl import TERMS, Categorical, DiscreteMass, Gaussian, Relaxed, RelaxedPosterior, Term
from softhot.testing import assert_mean, exact_gradient, exact_value
from tests.integrands import seeded

# a model of two variables of three classes, whose likelihoods are random tables for three data points
LATENTS, CLASSES, BATCH, DRAWS = 2, 3, 3, 1_500


TABLE = 2 * torch.randn(BATCH, CLASSES, CLASSES, dtype=torch.float64, generator=seeded(1))
LOGITS = torch.randn(BATCH, LATENTS, CLASSES, dtype=torch.float64, generator=seeded(2))
PRIOR = torch.randn(LATENTS, CLASSES, dtype=torch.float64, generator=seeded(3))


def log_likelihood(z: Tensor) -> Tensor:
    """An entry of the table; for relaxed z the bilinear form, so that its mean is that of the means."""
    assert z.numel()  # never asked about nothing
    return (z[..., 0, :, None] * z[..., 1, None, :] * TABLE.to(z.dtype)).sum((-1, -2))


def many(tensor: Tensor, draws: int = DRAWS) -> Tensor:
    return tensor.expand(draws, *tensor.shape)


def configurations() -> Iterator[Tensor]:
    for classes in itertools.product(range(CLASSES), repeat=LATENTS):
        yield one_hot(torch.tensor(classes), CLASSES).double()


def log_masses(logits: Tensor) -> Tensor:
    """Of the nine configurations, (9, *batch)."""
    log_pi = logits.log_softmax(-1)
    return torch.stack([torch.where(z > 0, log_pi, 0.0).sum((-1, -2)) for z in configurations()])


TABLES = torch.stack([log_likelihood(z.expand(BATCH, LATENTS, CLASSES)) for z in configurations()])
JOINT = TABLES + log_masses(PRIOR)[:, None]
EVIDENCE = JOINT.logsumexp(0)
ELBO = (log_masses(LOGITS).exp() * (JOINT - log_masses(LOGITS))).sum(0)


def exact_iwae(n: int) -> Tensor:
    """The mean over all n-tuples of configurations."""
    log_q = log_masses(LOGITS)
    ratio = JOINT - log_q
    total = torch.zeros(BATCH, dtype=torch.float64)
    for chosen in itertools.product(range(len(ratio)), repeat=n):
        total += log_q[list(chosen)].sum(0).exp() * (ratio[list(chosen)].logsumexp(0) - math.log(n))
    return total


# what is reported


@pytest.mark.parametrize("samples", [1, 3])
def test_elbo(samples: int) -> None:
    draws = elbo(log_likelihood, many(LOGITS), PRIOR, samples=samples, generator=seeded())
    assert draws.shape == (DRAWS, BATCH)
    assert_mean(draws, ELBO)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(draws, EVIDENCE)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_iwae_is_the_mean_over_all_tuples(n: int) -> None:
    draws = iwae(log_likelihood, many(LOGITS, 20_000), PRIOR, samples=n, generator=seeded())
    assert draws.shape == (20_000, BATCH)
    assert_mean(draws, exact_iwae(n))
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(draws, exact_iwae(n + 1))


def test_bounds_are_ordered() -> None:
    torch.testing.assert_close(exact_iwae(1), ELBO)
    ladder = [ELBO, exact_iwae(2), exact_iwae(3), exact_iwae(4), log_marginal(log_likelihood, PRIOR, (BATCH,))]
    assert all((low < high).all() for low, high in itertools.pairwise(ladder))


def test_iwae_tends_to_the_log_likelihood() -> None:
    # at n = 1000 the bias, of order 1 / n, is far below the standard error of 100 draws
    assert_mean(iwae(log_likelihood, many(LOGITS, 100), PRIOR, samples=1000, generator=seeded()), EVIDENCE)


@pytest.mark.parametrize("chunk", [1, 12, 2**18])
def test_log_marginal(chunk: int) -> None:
    torch.testing.assert_close(log_marginal(log_likelihood, PRIOR, (BATCH,), chunk=chunk), EVIDENCE)
    for batch in ((), (2,), (2, 3)):
        flat = log_marginal(lambda z: z[..., 0].sum(-1), PRIOR, batch, chunk=chunk)
        expected = (PRIOR.softmax(-1)[:, 0] * (math.e - 1)).log1p().sum()
        torch.testing.assert_close(flat, expected.expand(batch))


@pytest.mark.parametrize("chunk", [1, 2**18])
def test_log_marginal_of_a_learned_prior(chunk: int) -> None:
    for prior in (PRIOR, PRIOR.index_fill(-1, torch.tensor(1), -math.inf)):
        leaf = prior.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(log_marginal(log_likelihood, leaf, (BATCH,), chunk=chunk).sum(), leaf)
        posterior = (TABLES + log_masses(prior)[:, None]).softmax(0)
        z = torch.stack(list(configurations()))
        expected = torch.einsum("cb,cnk->nk", posterior, z) - BATCH * prior.softmax(-1)
        torch.testing.assert_close(gradient, expected)


def test_bounds_meet_at_the_posterior() -> None:
    """With a likelihood that factorises, the posterior is in the family."""
    table = torch.randn(BATCH, LATENTS, CLASSES, dtype=torch.float64, generator=seeded())

    def factorised(z: Tensor) -> Tensor:
        return (z * table).sum((-1, -2))

    posterior = PRIOR.log_softmax(-1) + table
    evidence = log_marginal(factorised, PRIOR, (BATCH,))
    torch.testing.assert_close(Objective(Exact())(factorised, posterior, PRIOR), evidence)
    assert_mean(elbo(factorised, many(posterior), PRIOR, generator=seeded()), evidence)
    torch.testing.assert_close(iwae(factorised, posterior, PRIOR, samples=1, generator=seeded()), evidence)
    assert (Objective(Exact())(factorised, posterior + 0.1 * table, PRIOR) < evidence).all()


def test_classes_that_the_posterior_excludes() -> None:
    logits = LOGITS.index_fill(-1, torch.tensor(1), -math.inf)
    assert elbo(log_likelihood, logits, PRIOR, generator=seeded()).isfinite().all()
    assert iwae(log_likelihood, logits, PRIOR, samples=5, generator=seeded()).isfinite().all()
    prior = PRIOR.index_fill(-1, torch.tensor(1), -math.inf)
    assert_mean(
        elbo(log_likelihood, many(logits), prior, generator=seeded()), Objective(Exact())(log_likelihood, logits, prior)
    )
    assert (elbo(log_likelihood, LOGITS, prior, generator=seeded()) == -math.inf).all()
    assert not iwae(log_likelihood, many(LOGITS), prior, samples=2, generator=seeded()).isnan().any()


def test_reports_are_in_the_type_of_the_logits_and_reproducible() -> None:
    logits, prior = LOGITS.float(), PRIOR.float()
    for report in (elbo, iwae):
        first, again, other = (
            report(log_likelihood, many(logits, 50), prior, samples=2, generator=seeded(s)) for s in (1, 1, 2)
        )
        assert first.dtype == torch.float32
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert log_marginal(log_likelihood, prior, (BATCH,)).dtype == torch.float32


# what is optimised

ESTIMATORS: dict[str, Estimator] = {
    "exact": Exact(),
    "leave-one-out": LeaveOneOut(samples=3),
    "straight-through": StraightThrough(),
    "reinmax": ReinMax(samples=2),
    "gumbel-softmax": GumbelSoftmax(samples=2, temperature=0.7),
    "st-gumbel-softmax": StraightThroughGumbelSoftmax(temperature=0.7, backward_temperature=2.0),
}
OBJECTIVES = {
    f"{e}, {t}": Objective(estimator, term)
    for e, estimator in ESTIMATORS.items()
    for t, term in {**TERMS, "concrete, prior at 0.4": Relaxed(prior_temperature=0.4)}.items()
    if incompatible(estimator, term) is None
}


def objectives(chosen: Callable[[Objective], bool] = lambda objective: True) -> pytest.MarkDecorator:
    rows = {name: objective for name, objective in OBJECTIVES.items() if chosen(objective)}
    assert rows
    return pytest.mark.parametrize("objective", rows.values(), ids=rows.keys())


def exact_term(objective: Objective, logits: Tensor, prior: Tensor) -> Tensor:
    exact = type(objective.term)(**{**vars(objective.term), "exact": True})
    return exact(logits, prior, 0.7).sum(-1)


def expected_likelihood(objective: Objective, logits: Tensor) -> Tensor:
    if objective.estimator.sample == "hard":
        return exact_value(log_likelihood, logits)
    return log_likelihood(relaxed_mean(logits, 0.7))


@objectives()
def test_value_is_the_expected_likelihood_minus_the_term(objective: Objective) -> None:
    draws = objective(log_likelihood, many(LOGITS), PRIOR, generator=seeded())
    assert draws.shape == (DRAWS, BATCH)
    assert_mean(draws, expected_likelihood(objective, LOGITS) - exact_term(objective, LOGITS, PRIOR))
    assert objective.bounds == objective.term.bounds[objective.estimator.sample]
    if objective.bounds is not None and objective.bounds.startswith("the discrete"):
        assert (objective(log_likelihood, many(LOGITS), PRIOR, generator=seeded()).mean(0) < EVIDENCE).all()


def gradient_draws(objective: Objective) -> Tensor:
    logits = many(LOGITS).clone().requires_grad_()
    return torch.autograd.grad(objective(log_likelihood, logits, PRIOR, generator=seeded()).sum(), logits)[0].float()


def elbo_gradient() -> Tensor:
    """That of the likelihood by enumeration, that of the divergence by hand."""
    pi, ratio = LOGITS.softmax(-1), LOGITS.log_softmax(-1) - PRIOR.log_softmax(-1)
    return exact_gradient(log_likelihood, LOGITS) - pi * (ratio - (pi * ratio).sum(-1, keepdim=True))


# straight-through estimators are exact for a likelihood that is linear in each variable
@objectives(lambda o: o.estimator.sample == "hard" and not o.estimator.relaxed)
def test_gradient_is_that_of_the_elbo(objective: Objective) -> None:
    assert_mean(gradient_draws(objective), elbo_gradient())


@objectives(lambda o: o.estimator.relaxed)
def test_gradient_through_a_relaxed_variable_is_not_that_of_the_elbo(objective: Objective) -> None:
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(gradient_draws(objective), elbo_gradient())


@objectives(lambda o: o.estimator.sample == "soft")
def test_gradient_of_a_relaxed_objective_is_that_of_its_exact_value(objective: Objective) -> None:
    logits = LOGITS.clone().requires_grad_()
    value = expected_likelihood(objective, logits) - exact_term(objective, logits, PRIOR)
    assert_mean(gradient_draws(objective), torch.autograd.grad(value.sum(), logits)[0])


@objectives()
def test_a_learned_prior_receives_its_gradient(objective: Objective) -> None:
    prior = PRIOR.clone().requires_grad_()
    expected = torch.autograd.grad(-exact_term(objective, LOGITS, prior).sum(), prior)[0]
    if objective.term == Categorical():
        torch.testing.assert_close(expected, (LOGITS.softmax(-1) - PRIOR.softmax(-1)).sum(0))
    generator = seeded()

    def gradient(repeats: int) -> Tensor:
        value = objective(log_likelihood, many(LOGITS, repeats), prior, generator=generator).sum(1).mean()
        return torch.autograd.grad(value, prior)[0]

    if objective.term.exact:
        torch.testing.assert_close(gradient(1), expected)
    else:
        assert_mean(torch.stack([gradient(30) for _ in range(100)]).float(), expected)


@objectives(lambda o: o.estimator.sample == "soft")
def test_relaxed_objectives_at_low_temperatures_are_finite(objective: Objective) -> None:
    low = Objective(GumbelSoftmax(samples=3, temperature=1e-3), objective.term)
    logits = many(LOGITS, 100).float().requires_grad_()
    value = low(log_likelihood, logits, PRIOR.float(), generator=seeded())
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


@objectives()
def test_classes_that_posterior_and_prior_exclude(objective: Objective) -> None:
    logits, prior = (x.index_fill(-1, torch.tensor(1), -math.inf).requires_grad_() for x in (LOGITS, PRIOR))
    value = objective(log_likelihood, logits, prior, generator=seeded())
    assert value.isfinite().all()
    for leaf, gradient in zip((logits, prior), torch.autograd.grad(value.sum(), (logits, prior)), strict=True):
        assert gradient.isfinite().all()
        assert (gradient[leaf == -math.inf] == 0).all()
    if objective.estimator == Exact():
        exact = exact_value(log_likelihood, logits) - exact_term(objective, logits, prior)
        torch.testing.assert_close(value, exact)


def test_the_gaussian_objective_has_the_mean_of_its_exact_form() -> None:
    estimator = InvertibleGaussian(samples=2, temperature=0.7, scale=1.5, delta=2.0)
    sampled, exact = (Objective(estimator, Gaussian(exact=e, scale=1.5, delta=2.0)) for e in (False, True))
    assert exact.bounds == sampled.bounds == "the log-likelihood of the relaxed model"
    # the same draws, so that what differs is the divergence
    values = [o(log_likelihood, many(LOGITS), PRIOR, generator=seeded()) for o in (sampled, exact)]
    assert_mean(values[0] - values[1], torch.zeros(BATCH, dtype=torch.float64))
    assert_mean(gradient_draws(sampled) - gradient_draws(exact), torch.zeros(BATCH, LATENTS, CLASSES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("estimator", "term"),
    [(GumbelSoftmax(), Relaxed(exact=False)), (InvertibleGaussian(), Gaussian(exact=False))],
    ids=["gumbel", "gaussian"],
)
def test_the_gradient_passes_through_samples_of_half_precision(
    estimator: Estimator, term: Term, dtype: torch.dtype
) -> None:
    def gradient(kind: torch.dtype) -> Tensor:
        logits = LOGITS.to(dtype).to(kind).requires_grad_()
        value = Objective(estimator, term)(lambda z: 0 * z.sum((-1, -2)), logits, PRIOR.to(kind), generator=seeded())
        return torch.autograd.grad(value.sum(), logits)[0].double()

    half, single = gradient(dtype), gradient(torch.float32)
    assert single.abs().max() > 0.1
    # a dozen roundings, some of which a division by an entry of the sample enlarges
    torch.testing.assert_close(half, single, atol=64 * torch.finfo(dtype).eps, rtol=0)


# what goes together

APART: list[tuple[Estimator, Term, str]] = [
    (ReinMax(), Relaxed(), "no relaxed variable"),
    (Exact(), DiscreteMass(), "no relaxed variable"),
    (LeaveOneOut(), RelaxedPosterior(exact=False), "no relaxed variable"),
    (StraightThroughGumbelSoftmax(), Relaxed(exact=False), "use the term's exact form"),
    (StraightThroughGumbelSoftmax(), DiscreteMass(exact=False), "use the term's exact form"),
    (GumbelSoftmax(), Categorical(exact=False), "use the categorical term"),
    (GumbelSoftmax(), Gaussian(), "a variable of normal noise, and the estimator's is of gumbel noise"),
    (InvertibleGaussian(), Relaxed(), "a variable of gumbel noise, and the estimator's is of normal noise"),
    (InvertibleGaussian(), DiscreteMass(exact=False), "of gumbel noise"),
    (
        InvertibleGaussian(scale=2.0),
        Gaussian(),
        "scale 1 and delta 1, and the estimator's is of scale 2 and delta 1",
    ),
    (ReinMax(), Gaussian(), "no relaxed variable"),
]


@pytest.mark.parametrize(("estimator", "term", "reason"), APART)
def test_what_does_not_go_together(estimator: Estimator, term: Term, reason: str) -> None:
    assert reason in str(incompatible(estimator, term))
    with pytest.raises(ValueError, match=f"{type(estimator).__name__} and {type(term).__name__}.*{reason}"):
        Objective(estimator, term)


def test_enumeration_beyond_its_limit_is_foreseen() -> None:
    assert incompatible(Exact(limit=9), Categorical(), latents=2, classes=3) is None
    assert "3^2 configurations is beyond the limit of 8" in str(incompatible(Exact(limit=8), Categorical(), 2, 3))
    assert incompatible(LeaveOneOut(), Categorical(), latents=100, classes=100) is None


def test_the_default_term_is_the_categorical_one() -> None:
    assert Objective(ReinMax()) == Objective(ReinMax(), Categorical())


def test_pairs() -> None:
    assert len(OBJECTIVES) == 4 * 2 + 8 + 6


REFUSED: list[tuple[Callable[[Integrand], object], str]] = [
    (lambda f: elbo(f, LOGITS, PRIOR, samples=0), "samples=0 draws nothing; use samples >= 1"),
    (lambda f: iwae(f, LOGITS, PRIOR, samples=0), "samples=0 draws nothing; use samples >= 1"),
    *(
        (lambda f, report=report, wrong=wrong: report(f, LOGITS, PRIOR, samples=wrong), "is not a whole number")
        for report in (elbo, iwae)
        for wrong in (1.5, True, "2")
    ),
    (lambda f: elbo(f, LOGITS[:, :1], PRIOR), r"1 variables of 3 classes and prior_logits of shape \(2, 3\)"),
    (lambda f: elbo(f, LOGITS, PRIOR[:1]), r"use prior_logits of shape \(2, 3\)"),
    (lambda f: iwae(f, LOGITS, LOGITS, samples=2), r"prior_logits of shape \(3, 2, 3\) are those of a batch"),
    (lambda f: log_marginal(f, LOGITS, ()), r"prior_logits of shape \(3, 2, 3\) are those of a batch"),
    (lambda f: log_marginal(f, PRIOR, (BATCH,), limit=8), "9 configurations, more than the limit of 8"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "says"), REFUSED)
def test_errors(call: Callable[[Integrand], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(log_likelihood)
