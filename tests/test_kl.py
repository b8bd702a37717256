"""KL terms: the exact value is the mean of the Monte Carlo form, and what is said to be bounded is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical as TorchExpRelaxed
from torch.nn import functional

from softhot import kl
from softhot.functional import gaussian_sample, log_of
from softhot.kl import ALIASES, TERMS, Categorical, DiscreteMass, Gaussian, Relaxed, RelaxedPosterior, Term
from softhot.kl.term import Sample
from softhot.testing import assert_mean, exact_value
from tests.integrands import seeded

EXACT: dict[str, Term] = {
    "categorical": Categorical(),
    "maddison21": DiscreteMass(),
    "concrete": Relaxed(),
    "concrete, prior at 0.7": Relaxed(prior_temperature=0.7),
    "relaxed-posterior": RelaxedPosterior(),
    "gaussian": Gaussian(),
    "gaussian, s=0.7": Gaussian(scale=0.7, delta=2.0),
}
LOGITS = torch.tensor([[0.3, -0.5, 0.9], [-0.2, 2.1, 0.0]], dtype=torch.float64)
PRIOR = torch.tensor([[0.0, 1.0, -1.0], [0.5, 0.0, -0.5]], dtype=torch.float64)
TEMPERATURES = (0.3, 1.0, 4.0)
DRAWS = 20_000

terms = pytest.mark.parametrize("term", EXACT.values(), ids=EXACT.keys())
soft_terms = pytest.mark.parametrize(
    "term", [t for t in EXACT.values() if t.sample == "soft"], ids=[n for n, t in EXACT.items() if t.sample == "soft"]
)
# of variables whose relaxation has the law of their logits
gumbel_terms = pytest.mark.parametrize(
    "term",
    [t for t in EXACT.values() if t.noise == "gumbel"],
    ids=[n for n, t in EXACT.items() if t.noise == "gumbel"],
)
at = pytest.mark.parametrize("t", TEMPERATURES)


def many(tensor: Tensor) -> Tensor:
    return tensor.expand(DRAWS, *tensor.shape)


def monte_carlo(term: Term, t: float) -> Tensor:
    return replace(term, exact=False)(many(LOGITS), PRIOR, t, generator=seeded())


# exact against Monte Carlo


@terms
@at
def test_exact_value_is_the_mean_of_the_monte_carlo_form(term: Term, t: float) -> None:
    assert_mean(monte_carlo(term, t), term(LOGITS, PRIOR, t))


@pytest.mark.parametrize(("drawn", "named"), list(itertools.permutations(EXACT, 2)))
def test_terms_can_be_told_apart(drawn: str, named: str) -> None:
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(monte_carlo(EXACT[drawn], 1.0), EXACT[named](LOGITS, PRIOR, 1.0))


@terms
@at
def test_expected_log_q_is_the_mean_of_log_q(term: Term, t: float) -> None:
    z = term.draw(many(LOGITS), t, seeded())
    assert_mean(term.log_q(z, LOGITS, t), term.expected_log_q(LOGITS, t))
    # what is left is the mean of log p
    assert_mean(term.log_p(z, PRIOR, t), term.expected_log_q(LOGITS, t) - term(LOGITS, PRIOR, t))


@soft_terms
@at
def test_gradient_of_the_monte_carlo_form_is_that_of_the_exact_one(term: Term, t: float) -> None:
    logits, prior = (x.clone().requires_grad_() for x in (LOGITS, PRIOR))
    temperature = torch.full((2,), t, dtype=torch.float64, requires_grad=True)
    inputs = (logits, prior, temperature)
    exact = torch.autograd.grad(term(*inputs).sum(), inputs, materialize_grads=True)
    leaves = [many(x).clone().requires_grad_() for x in (LOGITS, PRIOR, temperature.detach())]
    drawn = torch.autograd.grad(replace(term, exact=False)(*leaves, generator=seeded()).sum(), leaves)
    for draws, expected in zip(drawn, exact, strict=True):
        if expected.abs().max() > 1e-12:
            assert_mean(draws, expected)
        else:  # terms that do not depend on equal temperatures do not at any sample
            assert draws.abs().max() < 1e-9


@soft_terms
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_single(term: Term, dtype: torch.dtype) -> None:
    sampled, half = replace(term, exact=False), (LOGITS.to(dtype).expand(500, 2, 3), PRIOR.to(dtype).expand(500, 2, 3))

    def results(kind: torch.dtype) -> list[Tensor]:
        leaves = [x.to(kind).clone().requires_grad_() for x in half]
        value = sampled(*leaves, 0.3, generator=seeded())
        return [value, *torch.autograd.grad(value.sum(), leaves)]

    for found, single in zip(results(dtype), results(torch.float32), strict=True):
        torch.testing.assert_close(found, single.to(dtype))


# independent evaluations


def relaxed_grid(logits: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Points log z and weights that integrate over the relaxed variable of 2 or 3 classes, by torch's density.

    The trapezoid rule in the coordinates log z_k - log z_K, where the density is analytic.
    """
    classes = logits.shape[-1]
    step = 0.5 / max(t, 1.0)
    reach = (logits.abs().max().item() * 2 + 36) / t
    line = torch.arange(-reach, reach, step, dtype=torch.float64)
    ratios = torch.cartesian_prod(*[line] * (classes - 1)).reshape(-1, classes - 1)
    log_z = torch.cat([ratios, torch.zeros(len(ratios), 1)], -1).log_softmax(-1)
    return log_z, torch_exp_relaxed(logits, t).log_prob(log_z).exp() * step ** (classes - 1)


def torch_exp_relaxed(logits: Tensor, t: float) -> TorchExpRelaxed:
    return TorchExpRelaxed(torch.tensor(t, dtype=torch.float64), logits=logits, validate_args=False)


def torch_log_density(log_z: Tensor, logits: Tensor, t: float) -> Tensor:
    return torch_exp_relaxed(logits, t).log_prob(log_z) - log_z.sum(-1)


def evaluated(term: Term, log_z: Tensor, log_pi: Tensor, log_prior: Tensor, t: float) -> Tensor:
    """The integrands of the terms, from their definitions."""
    z, log_q = log_z.exp(), torch_log_density(log_z, log_pi, t)
    match term:
        case Categorical():
            return (log_pi.exp() * (log_pi - log_prior)).sum().expand(len(z))
        case DiscreteMass():
            return (z * (log_pi - log_prior)).sum(-1)
        case Relaxed(prior_temperature=s):
            return log_q - torch_log_density(log_z, log_prior, s or t)
        case RelaxedPosterior():
            return log_q - (z * log_prior).sum(-1)
    raise AssertionError


@gumbel_terms
@at
@pytest.mark.parametrize("classes", [2, 3])
def test_exact_value_is_the_integral_of_the_definition(term: Term, t: float, classes: int) -> None:
    logits, prior = LOGITS[0, :classes], PRIOR[0, :classes]
    log_z, weight = relaxed_grid(logits, t)
    assert weight.sum().item() == pytest.approx(1, abs=1e-10)
    integral = (weight * evaluated(term, log_z, logits.log_softmax(-1), prior.log_softmax(-1), t)).sum()
    torch.testing.assert_close(term(logits, prior, t), integral, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["categorical", "maddison22", "jang"])
def test_published_expression_from_probabilities(name: str) -> None:
    q, p = np.exp(LOGITS.numpy()), np.exp(PRIOR.numpy())
    q, p = q / q.sum(-1, keepdims=True), p / p.sum(-1, keepdims=True)
    expected = (q * (np.log(q) - np.log(p))).sum(-1)
    np.testing.assert_allclose(kl.term(name)(LOGITS, PRIOR).numpy(), expected, rtol=1e-12)
    # Jang et al.: a uniform prior
    uniform = kl.term(name)(LOGITS, torch.zeros(3, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(uniform, (q * (np.log(q) - np.log(1 / 3))).sum(-1), rtol=1e-12)


def test_values_by_hand() -> None:
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64).log()
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
    assert Categorical().expected_log_q(logits, 1.0).item() == pytest.approx(-1.75 * math.log(2))
    assert Categorical()(logits, prior).item() == pytest.approx(0.6057, abs=5e-5)
    for t, mass, density in ((10.0, -1.526, 6.97), (1.0, -1.317, 2.74)):
        assert DiscreteMass().expected_log_q(logits, t).item() == pytest.approx(mass, abs=0.005)
        assert Relaxed().expected_log_q(logits, t).item() == pytest.approx(density, abs=0.03)
        assert RelaxedPosterior().expected_log_q(logits, t) == Relaxed().expected_log_q(logits, t)
        assert Relaxed()(logits, prior, t).item() == pytest.approx(1.5524, abs=5e-5)
        assert Relaxed(prior_temperature=t)(logits, prior, 1.0) == Relaxed(prior_temperature=1.0)(logits, prior, 1 / t)


@at
def test_relaxed_term_charges_more_than_the_categorical_one(t: float) -> None:
    logits, prior = torch.randn(2, 1000, 4, dtype=torch.float64, generator=seeded()) * 3
    for s in (None, 0.2, 3.0):
        assert (Relaxed(prior_temperature=s)(logits, prior, t) >= Categorical()(logits, prior) - 1e-9).all()
    nearly, nearer = torch.tensor([[0.9, 0.1], [0.89, 0.11]], dtype=torch.float64).log()
    assert DiscreteMass()(nearly, nearer, t) < 0  # not a divergence


# shapes, edges and errors


@terms
@pytest.mark.parametrize("exact", [True, False])
def test_logits_and_prior_broadcast(term: Term, exact: bool) -> None:
    term = replace(term, exact=exact)
    batch = torch.randn(5, 2, 3, dtype=torch.float64, generator=seeded())
    for logits, prior in ((batch, PRIOR), (LOGITS, batch), (batch, PRIOR[0]), (LOGITS[0], batch)):
        both = torch.broadcast_tensors(logits, prior)
        value = term(logits, prior, 0.7, generator=seeded())
        assert value.shape == (5, 2)
        torch.testing.assert_close(value, term(both[0].contiguous(), both[1].contiguous(), 0.7, generator=seeded()))
        single = term(logits.float(), prior.float(), 0.7, generator=seeded())
        assert single.dtype == torch.float32


@terms
@at
def test_derivatives(term: Term, t: float) -> None:
    leaves = [x.clone().requires_grad_() for x in (LOGITS, PRIOR)]
    temperature = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    inputs = (*leaves, temperature) if term.temperate else tuple(leaves)
    assert torch.autograd.gradcheck(term, inputs, fast_mode=True)


def excluding(row: Tensor, k: int) -> Tensor:
    return row.index_fill(-1, torch.tensor(k), -math.inf)


EDGES: dict[str, tuple[Tensor, Tensor, bool, bool]] = {  # logits, prior, infinite, infinite if densities are compared
    "q excludes a class": (excluding(LOGITS, 1), PRIOR, False, True),
    "both exclude a class": (excluding(LOGITS, 1), excluding(PRIOR, 1), False, False),
    "both leave one class": (excluding(excluding(LOGITS, 1), 0), excluding(excluding(PRIOR, 1), 0), False, False),
    "the prior excludes a class": (LOGITS, excluding(PRIOR, 1), True, True),
    "the prior excludes a rare class": (LOGITS - 900 * torch.eye(3)[1], excluding(PRIOR, 1), True, True),
    "each excludes another class": (excluding(LOGITS, 0), excluding(PRIOR, 1), True, True),
}


@terms
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("t", [0.05, 0.5, 2.0])
@pytest.mark.parametrize(("logits", "prior", "infinite", "singular"), EDGES.values(), ids=EDGES.keys())
def test_impossible_classes(
    term: Term, exact: bool, t: float, logits: Tensor, prior: Tensor, infinite: bool, singular: bool
) -> None:
    leaves = [x.clone().requires_grad_() for x in (logits, prior)]
    value = replace(term, exact=exact)(*leaves, t, generator=seeded())
    if singular if isinstance(term, Relaxed | Gaussian) else infinite:
        # other Monte Carlo forms see an excluded class where the sample has it
        assert (value == math.inf).all() or not (exact or isinstance(term, Relaxed | Gaussian) or value.isnan().any())
    else:
        assert value.isfinite().all()
    for leaf, gradient in zip(leaves, torch.autograd.grad(value.sum(), leaves, materialize_grads=True), strict=True):
        assert gradient.isfinite().all()
        assert (gradient[leaf == -math.inf] == 0).all()


@at
def test_faces_of_the_simplex(t: float) -> None:
    """Two classes that both exclude are as if they were not there."""
    wide = [torch.cat([x, torch.full((2, 2), -math.inf, dtype=x.dtype)], -1) for x in (LOGITS, PRIOR)]
    for term in EXACT.values():
        torch.testing.assert_close(term(*wide, t), term(LOGITS, PRIOR, t))


@pytest.mark.parametrize("term", [Relaxed(), Gaussian()])
def test_temperatures_so_low_that_samples_round_to_one_hot(term: Term) -> None:
    logits, prior = LOGITS.float(), PRIOR.float()
    value = replace(term, exact=False)(logits.expand(1000, 2, 3), prior, 1e-3, generator=seeded())
    assert_mean(value, term(logits, prior, 1e-3))


REFUSED: list[tuple[Callable[[], object], str]] = [
    *((lambda term=term: term(LOGITS, PRIOR), "needs its temperature") for term in EXACT.values() if term.temperate),
    *((lambda term=term: term(LOGITS, PRIOR, 0.0), "temperature=0.0") for term in EXACT.values() if term.temperate),
    (lambda: DiscreteMass(exact=False)(LOGITS, PRIOR), "DiscreteMass is a function of the relaxed variable"),
    (lambda: Relaxed(exact=False)(LOGITS, PRIOR, -1.0), "temperature=-1.0 is not a positive"),
    (lambda: Relaxed(prior_temperature=0.0), "prior_temperature=0.0 is not a positive"),
    (lambda: Gaussian(scale=0.0), "scale=0.0 is not a positive"),
    (lambda: Gaussian(delta=-1.0), "delta=-1.0 is not a positive"),
    (lambda: Relaxed(prior_temperature=-1.0), "prior_temperature=-1.0 is not a positive"),
    (lambda: kl.term("madison22"), "unknown KL term 'madison22'; did you mean 'maddison22'"),
    (lambda: kl.term("categorial"), "did you mean 'categorical'"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED)
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_the_categorical_term_needs_no_temperature() -> None:
    for term in (Categorical(), Categorical(exact=False)):
        assert term(LOGITS, PRIOR, generator=seeded()).equal(term(LOGITS, PRIOR, 0.5, generator=seeded()))


def test_names() -> None:
    mixtures = {type(t) for t in TERMS.values() if t.mixture}  # of another q: test_flow_posterior.py
    assert {type(t) for t in TERMS.values()} == {type(t) for t in EXACT.values()} | mixtures
    for name in [*TERMS, *ALIASES]:
        assert kl.term(name) == TERMS[ALIASES.get(name, name)]


# what the terms bound: with the log-likelihood at hard samples, everything by enumeration


def table_likelihood(table: Tensor) -> Callable[[Tensor], Tensor]:
    """log p(x | z) of one or two variables, an entry of a table per element of the batch."""
    if table.dim() == 2:
        return lambda z: (z[..., 0, :] * table).sum(-1)
    return lambda z: (z[..., 0, :, None] * z[..., 1, None, :] * table).sum((-1, -2))


def log_table(logits: Tensor) -> Tensor:
    """The log-masses of all configurations of one or two variables."""
    log_pi = logits.log_softmax(-1)
    return log_pi[:, 0] if logits.shape[-2] == 1 else log_pi[:, 0, :, None] + log_pi[:, 1, None, :]


def log_evidence(table: Tensor, prior: Tensor) -> Tensor:
    return (table + log_table(prior)).flatten(1).logsumexp(-1)


def hard_objective(term: Term, table: Tensor, logits: Tensor, prior: Tensor, t: float) -> Tensor:
    return exact_value(table_likelihood(table), logits) - term(logits, prior, t).sum(-1)


# with two classes and one variable at relaxed samples, everything by quadrature over z = sigmoid((d + x) / t)

NOISE = torch.arange(-120, 120, 0.05, dtype=torch.float64)
WEIGHT = 0.05 * NOISE.sigmoid() * (-NOISE).sigmoid()
UNIFORM = torch.zeros(1, 2, dtype=torch.float64)


def relaxed_average(f: Callable[[Tensor], Tensor], logits: Tensor, t: float) -> Tensor:
    """E f(log z) for logits of shape (batch, 2)."""
    pair = torch.stack([NOISE, torch.zeros_like(NOISE)], -1)
    return (WEIGHT * f(((logits[..., None, :] + pair) / t).log_softmax(-1))).sum(-1)


def soft_objective(
    term: Term, f: Callable[[Tensor], Tensor], logits: Tensor, prior: Tensor, t: float
) -> tuple[Tensor, Tensor]:
    """The objective at relaxed samples, and the log-likelihood of the relaxed model."""
    evidence = relaxed_average(lambda log_z: f(log_z).exp(), prior, prior_temperature(term, t)).log()
    return relaxed_average(f, logits, t) - term(logits, prior, t), evidence


def prior_temperature(term: Term, t: float) -> float:
    return getattr(term, "prior_temperature", None) or t


def log_density(log_z: Tensor, logits: Tensor, t: float) -> Tensor:
    """In the coordinate log z_0 - log z_1, which is (d + x) / t with logistic x."""
    x = t * (log_z[..., 0] - log_z[..., 1]) - (logits[..., 0] - logits[..., 1])[..., None]
    return math.log(t) + functional.logsigmoid(x) + functional.logsigmoid(-x)


def posterior_likelihood(logits: Tensor, t: float, prior: Tensor, s: float) -> Callable[[Tensor], Tensor]:
    """A likelihood under which q is the posterior of the relaxed model, and log p(x) is zero."""
    return lambda log_z: log_density(log_z, logits, t) - log_density(log_z, prior, s)


def opposite_pixels(log_z: Tensor) -> Tensor:
    """One-hot vectors are right about one pixel only, at a cost of 50."""
    s = 50 * (log_z[..., 0].exp() - log_z[..., 1].exp())
    return functional.logsigmoid(s) + functional.logsigmoid(-s)


GUMBEL = {name: term for name, term in EXACT.items() if term.noise == "gumbel"}
CLAIMS = [(name, sample) for name, term in GUMBEL.items() for sample, claim in term.bounds.items() if claim]


@at
@pytest.mark.parametrize(("name", "sample"), CLAIMS)
def test_what_is_said_to_be_bounded_is(name: str, sample: Sample, t: float) -> None:
    term = EXACT[name]
    claim = str(term.bounds[sample])
    if sample == "hard":
        assert claim.startswith("the discrete log-likelihood")
        for latents in (1, 2):
            logits, prior = 2 * torch.randn(2, 200, latents, 3, dtype=torch.float64, generator=seeded())
            table = 3 * torch.randn(200, *(3,) * latents, dtype=torch.float64, generator=seeded(1))
            for likelihood in (
                table,
                log_table(logits) - log_table(prior),
                log_table(logits) - log_table(prior) + table / 10,
            ):
                value = hard_objective(term, likelihood, logits, prior, t)
                assert (value <= log_evidence(likelihood, prior) + 1e-9).all()
    else:
        assert claim == "the log-likelihood of the relaxed model"
        logits, prior = 2 * torch.randn(2, 200, 2, dtype=torch.float64, generator=seeded())
        a, b, c = 3 * torch.randn(3, 200, 1, dtype=torch.float64, generator=seeded(1))

        def waves(log_z: Tensor) -> Tensor:
            return a * torch.sin(3 * b * log_z[..., 0].exp() + c)

        for f in (waves, posterior_likelihood(logits, t, prior, prior_temperature(term, t))):
            value, evidence = soft_objective(term, f, logits, prior, t)
            assert (value <= evidence + 1e-8).all()


@at
def test_bounds_are_met_at_the_posterior(t: float) -> None:
    logits, prior = 2 * torch.randn(2, 100, 1, 2, dtype=torch.float64, generator=seeded())
    table = log_table(logits) - log_table(prior)
    zero = torch.zeros(100, dtype=torch.float64)
    torch.testing.assert_close(log_evidence(table, prior), zero)
    torch.testing.assert_close(hard_objective(Categorical(), table, logits, prior, t), zero)
    assert (hard_objective(Relaxed(), table, logits, prior, t) < 0).all()  # more loosely
    for term in (Relaxed(), Relaxed(prior_temperature=0.7)):
        f = posterior_likelihood(logits[:, 0], t, prior[:, 0], prior_temperature(term, t))
        value, evidence = soft_objective(term, f, logits[:, 0], prior[:, 0], t)
        torch.testing.assert_close(value, zero, atol=1e-8, rtol=0)
        torch.testing.assert_close(evidence, zero, atol=1e-8, rtol=0)


@at
@pytest.mark.parametrize("sample", ["hard", "soft"])
@gumbel_terms
def test_only_what_is_said_to_bound_nothing_exceeds_the_likelihood(term: Term, sample: Sample, t: float) -> None:
    if sample == "hard":  # q is the posterior of the discrete model
        logits, prior = torch.tensor([[[[1.0, 0.0, 0.0]]], [[[-1000.0, 0.0, 0.0]]]], dtype=torch.float64)
        table = log_table(logits) - log_table(prior)
        value, evidence = hard_objective(term, table, logits, prior, t), log_evidence(table, prior)
    else:  # of the relaxed one
        logits, prior = torch.tensor([[[0.0, 0.0]], [[-40.0, 0.0]]], dtype=torch.float64)
        f = posterior_likelihood(logits, t, prior, prior_temperature(term, t))
        value, evidence = soft_objective(term, f, logits, prior, t)
    assert evidence.item() == pytest.approx(0, abs=1e-6)
    assert (value.item() > 1) == (term.bounds[sample] is None)
    assert value.item() > 1 or value.item() < 1e-6


@gumbel_terms
@at
def test_with_relaxed_samples_no_term_bounds_the_discrete_model(term: Term, t: float) -> None:
    value, relaxed = soft_objective(term, opposite_pixels, UNIFORM, UNIFORM, t)
    assert value.item() > log_evidence(torch.full((1, 2), -50.0), UNIFORM[:, None]).item() + 1
    assert value.item() <= relaxed.item()


# variables of Gaussian noise


@pytest.mark.parametrize("scale", [0.7, 1.0, 2.0])
def test_the_gaussian_term_is_that_of_torch(scale: float) -> None:
    q, p = (Normal((x - x[..., -1:])[..., :-1], scale) for x in (LOGITS, PRIOR))
    term = Gaussian(scale=scale)
    torch.testing.assert_close(term(LOGITS, PRIOR, 0.5), kl_divergence(q, p).sum(-1))
    torch.testing.assert_close(term.expected_log_q(LOGITS, 0.5), -q.entropy().sum(-1))
    z = gaussian_sample(LOGITS, 0.5, scale, generator=seeded())
    y = 0.5 * (log_of(z) - log_of(z)[..., -1:])[..., :-1]
    torch.testing.assert_close(term.log_q(z, LOGITS, 0.5), q.log_prob(y).sum(-1))
    torch.testing.assert_close(term(LOGITS + 7.0, PRIOR, 0.5), term(LOGITS, PRIOR, 0.5))


@at
@pytest.mark.parametrize("term", [Gaussian(), Gaussian(scale=0.7, delta=2.0)])
def test_the_gaussian_term_bounds_its_relaxed_model_and_not_the_discrete_one(term: Gaussian, t: float) -> None:
    x = torch.linspace(-30, 30, 5001, dtype=torch.float64)
    log_weight = math.log(0.012 / math.sqrt(2 * math.pi)) - 0.5 * x.square()

    def values(f: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
        y = (logits[..., 0] - logits[..., 1])[..., None] + term.scale * x
        return f(torch.stack([y / t, torch.full_like(y, math.log(term.delta))], -1).log_softmax(-1))

    def average(f: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
        return (log_weight.exp() * values(f, logits)).sum(-1)

    logits, prior = 2 * torch.randn(2, 200, 2, dtype=torch.float64, generator=seeded())
    a, b, c = 3 * torch.randn(3, 200, 1, dtype=torch.float64, generator=seeded(1))

    def waves(log_z: Tensor) -> Tensor:
        return a * torch.sin(3 * b * log_z[..., 0].exp() + c)

    def posterior(log_z: Tensor) -> Tensor:
        y = t * (log_z[..., 0] - log_z[..., 1] + math.log(term.delta))
        one, two = (Normal((x[..., 0] - x[..., 1])[..., None], term.scale) for x in (logits, prior))
        return one.log_prob(y) - two.log_prob(y)

    for f, met in ((waves, False), (posterior, True)):
        value = average(f, logits) - term(logits, prior, t)
        evidence = (log_weight + values(f, prior)).logsumexp(-1)
        assert (value <= evidence + 1e-8).all()
        assert not met or torch.allclose(value, evidence, atol=1e-8)
    value = average(opposite_pixels, UNIFORM) - term(UNIFORM, UNIFORM, t)
    assert value.item() > log_evidence(torch.full((1, 2), -50.0), UNIFORM[:, None]).item() + 1
