"""Every distribution obeys the laws of torch.distributions, and its exact values are those of its draws."""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributions as td
from test_choice import close
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

import softhot.distributions as sd
from softhot.distributions import kl_divergence
from softhot.functional import log_of, log_rest_of, relaxed_kl, straight_through
from softhot.testing import assert_mean
from tests.integrands import seeded

INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Case:
    ours: Any
    theirs: Any
    event: int = 1  # dimensions of an event
    relaxed: bool = True
    space: str = "simplex"

    def make(self, logits: Tensor, temperature: float | Tensor = 0.7, of: str = "ours", **options: Any) -> Any:
        make = getattr(self, of)
        if of == "theirs":
            temperature = torch.as_tensor(temperature, dtype=logits.dtype)
        return make(temperature, logits=logits, **options) if self.relaxed else make(logits=logits, **options)

    def of_probs(self, logits: Tensor, temperature: float | Tensor = 0.7) -> Any:
        """The same one of ours, from probabilities by a softmax."""
        return self.ours(*([temperature] if self.relaxed else []), probs=logits.softmax(-1))


CASES = {
    "one-hot": Case(sd.OneHotCategorical, td.OneHotCategorical, relaxed=False),
    "straight-through": Case(sd.OneHotCategoricalStraightThrough, td.OneHotCategoricalStraightThrough, relaxed=False),
    "relaxed": Case(sd.RelaxedOneHotCategorical, td.RelaxedOneHotCategorical),
    "log of relaxed": Case(sd.ExpRelaxedOneHotCategorical, ExpRelaxedCategorical, space="log"),
    "relaxed Bernoulli": Case(sd.RelaxedBernoulli, td.RelaxedBernoulli, event=0),
}
VECTORS = ["one-hot", "straight-through", "relaxed", "log of relaxed"]
RELAXED = ["relaxed", "log of relaxed", "relaxed Bernoulli"]
TEMPERATURES = [1e-3, 0.1, 1.0, 10.0, 1e3]


def cases(*names: str) -> Any:
    names = names or tuple(CASES)
    return pytest.mark.parametrize("case", [CASES[name] for name in names], ids=names)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


LOGITS = random(3, 4)


# ---- shapes and copies


@cases()
def test_shapes(case: Case) -> None:
    q, theirs = case.make(LOGITS), case.make(LOGITS, of="theirs")
    for name in ("batch_shape", "event_shape", "has_rsample", "has_enumerate_support"):
        assert getattr(q, name) == getattr(theirs, name), name
    assert q.support.event_dim == theirs.support.event_dim
    for shape in ((), (2,), (5, 2), (0,)):
        draws = q.sample(shape)
        assert draws.shape == (*shape, 3, 4)
        assert not draws.requires_grad
        assert q.log_prob(draws).shape == draws.shape[: draws.dim() - case.event]
        assert q.sample(torch.Size(shape)).shape == draws.shape
    assert q.logits.shape == q.probs.shape == q.param_shape == (3, 4)
    assert q.entropy().shape == q.batch_shape
    torch.testing.assert_close(q.probs, theirs.probs)
    torch.testing.assert_close(q.logits, theirs.logits)
    given = type(q)(*([0.7] if case.relaxed else []), probs=q.probs)
    torch.testing.assert_close(given.logits, q.logits)
    for each in (q, given):
        assert repr(each).startswith(type(q).__name__ + "(")
    row = q.log_prob(q.sample()[0])  # one value for all of the batch
    assert row.shape == q.batch_shape


@cases()
def test_empty_batches(case: Case) -> None:
    q = case.make(torch.zeros(0, 4), torch.ones(0, *[4][case.event :]))
    assert q.sample((2,)).shape == (2, 0, 4)
    assert q.entropy().shape == q.batch_shape
    assert q.mean.shape == (0, 4)
    assert q.log_prob(q.sample()).shape == q.batch_shape


@cases()
def test_expand(case: Case) -> None:
    q = case.make(LOGITS)
    batch = (5, *q.batch_shape)
    wide = q.expand(batch)
    assert type(wide) is type(q)
    assert wide.batch_shape == torch.Size(batch)
    assert wide.event_shape == q.event_shape
    assert wide.sample((2,)).shape == (2, 5, 3, 4)
    value = q.sample()
    torch.testing.assert_close(wide.log_prob(value), q.log_prob(value).expand(batch))
    torch.testing.assert_close(wide.entropy(), q.entropy().expand(batch))
    for validate in (True, False):
        assert case.make(LOGITS, validate_args=validate).expand(batch)._validate_args is validate
    independent = td.Independent(q, 1)
    torch.testing.assert_close(independent.log_prob(value), q.log_prob(value).sum(-1))
    torch.testing.assert_close(independent.entropy(), q.entropy().sum(-1))


@cases(*RELAXED)
def test_temperatures(case: Case) -> None:
    """A number, a tensor with or without a dimension, one for each row, and one for each element of the batch."""
    logits = random(2, 3, 4)
    shapes = [(), (1,), (3,), (2, 1), (2, 3)] if case.event else [(), (1,), (4,), (2, 1, 1)]
    value = case.make(logits).sample().clone()  # without what the sample remembers, as its rows are without it
    for shape in shapes:
        t = torch.linspace(0.4, 1.5, math.prod(shape)).reshape(shape)
        q, full = case.make(logits, t), t.expand(case.make(logits).batch_shape)
        assert q.sample((5,)).shape == (5, 2, 3, 4)
        for i in range(2):
            one = case.make(logits[i], full[i])
            torch.testing.assert_close(q.log_prob(value)[i], one.log_prob(value[i]))
            torch.testing.assert_close(q.entropy()[i], one.entropy())
            torch.testing.assert_close(q.mean[i], one.mean)
        assert q.expand((7, *q.batch_shape)).sample().shape == (7, 2, 3, 4)
    number, tensor = case.make(logits, 0.4), case.make(logits, torch.tensor(0.4))
    assert number.temperature == tensor.temperature
    torch.testing.assert_close(number.log_prob(value), tensor.log_prob(value))


@cases()
def test_copies(case: Case) -> None:
    q = case.make(LOGITS, torch.tensor(0.7))
    value = q.sample()
    q.entropy()

    def saved(q: Any) -> Any:
        file = io.BytesIO()
        torch.save(q, file)
        file.seek(0)
        return torch.load(file, weights_only=False)

    for copied in (copy.copy(q), copy.deepcopy(q), pickle.loads(pickle.dumps(q)), saved(q)):
        assert type(copied) is type(q)
        assert (copied.batch_shape, copied.event_shape) == (q.batch_shape, q.event_shape)
        assert torch.equal(copied.log_prob(value), q.log_prob(value))
        assert torch.equal(copied.sample(generator=seeded()), q.sample(generator=seeded()))


# ---- samples


@cases()
def test_generators(case: Case) -> None:
    q = case.make(LOGITS)
    before = torch.get_rng_state()
    first, again, other = (q.sample((20,), generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.equal(q.sample((20,)), first)
    if q.has_rsample:
        assert torch.equal(q.rsample((20,), generator=seeded(1)), first)


@cases(*RELAXED)
def test_reparameterised_samples(case: Case) -> None:
    """Differentiable in logits, probabilities and temperature, as the same noise of other parameters would say."""
    logits = random(2, 3, dtype=torch.float64).requires_grad_()
    temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def draw(logits: Tensor, temperature: Tensor) -> Tensor:
        draws: Tensor = case.make(logits, temperature).rsample((2,), generator=seeded())
        return draws

    def log_density_of_draw(logits: Tensor, temperature: Tensor) -> Tensor:
        q = case.make(logits, temperature)
        log_prob: Tensor = q.log_prob(q.rsample((2,), generator=seeded()))
        return log_prob

    assert torch.autograd.gradcheck(draw, (logits, temperature))
    assert torch.autograd.gradcheck(log_density_of_draw, (logits, temperature))
    probs = case.make(logits).probs.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(case.ours(0.7, probs=probs).rsample().square().sum(), probs)
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("given", ["logits", "probs"])
def test_straight_through_samples_are_one_hot_with_torchs_gradient(given: str) -> None:
    leaf = torch.tensor([[0.5, 0.0, 2.0], [1.0, 1.0, 3.0]], requires_grad=True)
    weight = torch.tensor([1.0, -2.0, 0.5])
    q, theirs = (kind.OneHotCategoricalStraightThrough(**{given: leaf}) for kind in (sd, td))
    z = q.rsample((50,), generator=seeded())
    assert torch.equal(z, z.round())
    assert torch.equal(z, sd.OneHotCategorical(**{given: leaf}).sample((50,), generator=seeded()))
    found, expected = (torch.autograd.grad((each @ weight).sum(), leaf)[0] for each in (z, theirs.rsample((50,))))
    torch.testing.assert_close(found, expected)
    assert found.any()


@cases(*VECTORS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_own_samples_are_in_the_support(case: Case, dtype: torch.dtype) -> None:
    """However many classes there are, whatever their sum rounds to; so are probabilities from a softmax."""
    for classes in (2, 50_000):
        logits = (3 * random(4, classes)).to(dtype)
        for t in TEMPERATURES if case.relaxed else [1.0]:
            q = case.make(logits, t, validate_args=True)
            draws = q.sample(generator=seeded())
            assert draws.dtype == dtype
            assert q.support.check(draws).all()
            assert not q.log_prob(draws).isnan().any()
        probs = logits.softmax(-1)
        case.ours(*([1.0] if case.relaxed else []), probs=probs, validate_args=True)


@cases(*RELAXED)
@pytest.mark.parametrize("t", TEMPERATURES)
def test_densities_of_samples_are_finite(case: Case, t: float) -> None:
    """In float32, under the distribution that a sample is from and under any other, though entries underflow."""
    logits, others = 3 * random(2, 50, 10)
    logits[:, 0], others[:, 0] = 60.0, -60.0
    q = case.make(logits.requires_grad_(), temperature := torch.tensor(t, requires_grad=True))
    z = q.rsample((20,), generator=seeded())
    log_prob = q.log_prob(z)
    assert log_prob.isfinite().all()
    assert all(
        g.isfinite().all() for g in torch.autograd.grad(log_prob.sum(), (logits, temperature), retain_graph=True)
    )
    for s in (1e-3, 1.0, 1e3):
        assert case.make(others, s).log_prob(z).isfinite().all()


def test_samples_in_inference_mode() -> None:
    for case in CASES.values():
        q = case.make(LOGITS)
        with torch.inference_mode():
            assert q.log_prob(q.sample()).isfinite().all()


# ---- exact values


@cases()
def test_log_prob_is_that_of_torch(case: Case) -> None:
    for classes, t in itertools.product((2, 5, 50), (0.3, 1.0, 5.0)):
        logits = random(3, classes, dtype=torch.float64)
        q, theirs = case.make(logits, t), case.make(logits, t, of="theirs")
        value = case.make(0.3 * logits, 1.0).sample((10,), generator=seeded()).clone()
        close(q.log_prob(value), theirs.log_prob(value), 1e-9)
        if not case.relaxed:
            for name in ("mean", "variance", "mode", "stddev"):
                close(getattr(q, name), getattr(theirs, name))
            close(q.entropy(), theirs.entropy())
            assert torch.equal(q.enumerate_support(), theirs.enumerate_support())
            assert torch.equal(q.enumerate_support(expand=False), theirs.enumerate_support(expand=False))


@cases()
@pytest.mark.parametrize("t", [0.2, 1.0, 3.0])
def test_moments_are_those_of_the_draws(case: Case, t: float) -> None:
    q = case.make(LOGITS, t)
    draws = q.sample((20_000,), generator=seeded())
    minus_log_prob = -q.log_prob(draws)
    assert_mean(draws, q.mean)
    assert_mean(minus_log_prob, q.entropy())
    if case.space != "log":
        assert_mean((draws - q.mean).square(), q.variance)
        close(q.stddev, q.variance.sqrt())
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(draws, case.make(LOGITS + torch.tensor([0.3, 0.0, 0.0, 0.0]), t).mean)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(minus_log_prob, q.entropy() + 10 * minus_log_prob.std(0) / math.sqrt(20_000))


@cases()
def test_the_largest_class_is_that_of_the_probabilities(case: Case) -> None:
    for t in (0.2, 3.0) if case.relaxed else (1.0,):
        q = case.make(LOGITS, t)
        draws = q.sample((20_000,), generator=seeded())
        largest = (draws > 0.5) if case.event == 0 else draws == draws.amax(-1, keepdim=True)
        assert_mean(largest.float(), q.probs)


def test_log_relaxed_entropy_is_without_logits() -> None:
    q = sd.ExpRelaxedOneHotCategorical(torch.tensor([0.5, 2.0]).double(), logits=5 * random(2, 7, dtype=torch.float64))
    g, psi = 0.5772156649015329, torch.digamma(torch.tensor(7.0).double())
    close(q.entropy(), 7 * (g + psi) - math.lgamma(7) - 6 * q.temperature.log())
    relaxed = sd.RelaxedOneHotCategorical(q.temperature, logits=q.logits)
    close(relaxed.entropy(), q.entropy() + q.mean.sum(-1), 1e-11)


def test_modes() -> None:
    q = sd.OneHotCategorical(logits=torch.tensor([[0.0, 2.0, 1.0], [5.0, -INF, 1.0]]))
    assert q.mode.tolist() == [[0, 1, 0], [1, 0, 0]]
    log = sd.ExpRelaxedOneHotCategorical(0.5, logits=LOGITS.double())
    # a stationary point of the density in its free coordinates, and above its neighbours
    nearby = (log.mode + 0.1 * random(100, 3, 4, dtype=torch.float64)).log_softmax(-1)
    assert (log.log_prob(nearby) < log.log_prob(log.mode)).all()
    for without in (CASES["relaxed"], CASES["relaxed Bernoulli"]):
        with pytest.raises(NotImplementedError, match="no mode in closed form"):
            _ = without.make(LOGITS).mode


def test_relaxed_bernoulli_is_a_relaxed_one_hot_variable_of_two_classes() -> None:
    log_odds, prior = random(2, 20, dtype=torch.float64)
    for t in TEMPERATURES:
        q, p = sd.RelaxedBernoulli(t, logits=log_odds), sd.RelaxedBernoulli(0.5, logits=prior)
        pair, prior_pair = q.two_classes(), p.two_classes()
        close(q.mean, pair.mean[:, 0])
        close(q.variance, pair.variance[:, 1])
        close(q.entropy(), pair.entropy())
        close(q.probs, pair.probs[:, 0])
        close(kl_divergence(q, p), kl_divergence(pair, prior_pair))
        z = torch.linspace(0.01, 0.99, 20, dtype=torch.float64)
        close(q.log_prob(z), pair.log_prob(torch.stack([z, 1 - z], -1)))
        close(sd.RelaxedBernoulli(t, probs=q.probs).entropy(), q.entropy(), 1e-10)
    certain = sd.RelaxedBernoulli(0.5, probs=torch.tensor([0.0, 1.0]))
    assert certain.sample().tolist() == certain.mean.tolist() == [0, 1]
    assert sd.RelaxedBernoulli(0.5, probs=0.3).sample((2,)).shape == (2,)


# ---- divergences


def pairs(case: Case) -> list[tuple[str, str]]:
    return [("ours", "ours"), ("ours", "theirs"), ("theirs", "ours")]


@cases()
def test_kl_of_every_registered_pair(case: Case) -> None:
    logits, prior = random(2, 3, 4, dtype=torch.float64)
    for q_of, p_of in pairs(case):
        q, p = case.make(logits, 0.7, q_of), case.make(prior, 0.5, p_of)
        if not case.relaxed:
            expected = td.kl_divergence(td.OneHotCategorical(logits=logits), td.OneHotCategorical(logits=prior))
        elif case.event:
            expected = relaxed_kl(logits, 0.7, prior, 0.5)
        else:
            zero = torch.zeros_like(logits)
            expected = relaxed_kl(torch.stack([logits, zero], -1), 0.7, torch.stack([prior, zero], -1), 0.5)
        close(td.kl_divergence(q, p), expected)
        close(td.kl_divergence(td.Independent(q, 1), td.Independent(p, 1)), expected.sum(-1))
        close(td.kl_divergence(q, q if p_of == q_of else case.make(logits, 0.7, p_of)), 0.0)
    with pytest.raises(NotImplementedError):
        td.kl_divergence(case.make(logits), td.Normal(0.0, 1.0))
    # torch's own pairs stay as they are
    if not case.relaxed:
        impossible = torch.tensor([0.0, -INF])
        td.kl_divergence(td.OneHotCategorical(logits=impossible), td.OneHotCategorical(logits=torch.zeros(2)))


@cases()
def test_kl_is_that_of_the_draws(case: Case) -> None:
    q, p = case.make(LOGITS, 0.7), case.make(random(3, 4, seed=1), 0.5)
    draws = q.sample((20_000,), generator=seeded())
    ratio = q.log_prob(draws) - p.log_prob(draws)
    assert_mean(ratio, kl_divergence(q, p))
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(ratio, kl_divergence(q, p) + 10 * ratio.std(0) / math.sqrt(20_000))


@cases(*VECTORS)
def test_kl_with_impossible_classes(case: Case) -> None:
    q_logits = torch.tensor([[0.5, -INF, 1.0], [0.5, 0.0, 1.0]], requires_grad=True)
    p_logits = torch.tensor([[0.0, -INF, 0.3], [0.0, -INF, 0.3]], requires_grad=True)
    underflown = kl_divergence(*(case.of_probs(x) for x in (q_logits, p_logits)))
    torch.testing.assert_close(underflown, kl_divergence(case.make(q_logits), case.make(p_logits)))
    for gradient in torch.autograd.grad(underflown[0], (q_logits, p_logits)):
        assert gradient.isfinite().all()
    for q_of, p_of in pairs(case):
        p = case.make(p_logits, of=p_of, validate_args=False)
        kl = td.kl_divergence(case.make(q_logits, of=q_of, validate_args=False), p)
        few = td.kl_divergence(case.make(q_logits[0, ::2]), case.make(p_logits[0, ::2]))
        torch.testing.assert_close(kl[0], few)
        assert kl[1] == INF
        for gradient in torch.autograd.grad(kl[0], (q_logits, p_logits)) if q_of == p_of else ():
            assert gradient.isfinite().all()
            assert gradient[0, 1] == 0
            assert gradient[0, 0] != 0
    # a class that only the prior allows costs the one-hot variable nothing, and the relaxed one everything
    one_way = kl_divergence(case.make(p_logits), case.make(torch.zeros(3)))
    assert (one_way == INF).all() if case.relaxed else one_way.isfinite().all()


# ---- impossible classes


@cases(*VECTORS)
@pytest.mark.parametrize("given", ["logits", "probs"])
def test_impossible_classes(case: Case, given: str) -> None:
    logits = torch.tensor([0.5, -INF, 1.0, -INF], requires_grad=True)
    temperature = torch.tensor(1.7, requires_grad=True)
    make = case.make if given == "logits" else case.of_probs
    q, few = make(logits, temperature), case.make(logits[::2], temperature)
    draws = q.sample((100,), generator=seeded())
    excluded = -INF if case.space == "log" else 0.0
    assert (draws[:, 1::2] == excluded).all()
    log_prob = q.log_prob(draws)
    torch.testing.assert_close(log_prob, few.log_prob(draws[:, ::2]))
    torch.testing.assert_close(q.entropy(), few.entropy())
    torch.testing.assert_close(q.mean[::2], few.mean)
    total = log_prob.sum() + q.entropy() + q.mean[::2].square().sum()
    if case.space != "log":
        torch.testing.assert_close(q.variance[::2], few.variance)
        total = total + q.variance.square().sum()
    if case.relaxed:
        total = total + q.rsample((5,))[:, ::2].square().sum()
    for leaf, gradient in zip(
        (logits, temperature), torch.autograd.grad(total, (logits, temperature), allow_unused=True), strict=True
    ):
        if gradient is not None:
            assert gradient.isfinite().all()
            assert not leaf.dim() or (gradient[1::2] == 0).all()


def test_one_hot_vectors_of_impossible_classes() -> None:
    q = sd.OneHotCategorical(logits=torch.tensor([0.0, -INF, 0.0], requires_grad=True))
    log_prob = q.log_prob(torch.eye(3))
    close(log_prob, [-math.log(2), -INF, -math.log(2)], 1e-6)
    close(q.entropy(), math.log(2), 1e-6)
    certain = sd.OneHotCategorical(probs=torch.tensor([1.0, 0.0]))
    assert certain.entropy() == 0
    assert certain.log_prob(torch.eye(2)).tolist() == [0, -INF]
    assert certain.sample((50,)).sum(0).tolist() == [50, 0]


@cases(*VECTORS)
@pytest.mark.parametrize("gap", [-70.0, -95.0, -200.0], ids=["normal", "subnormal", "zero"])
def test_probabilities_of_a_softmax_that_underflows_have_finite_gradients(case: Case, gap: float) -> None:
    """The slope of log p, which is 1 / p, is then infinite, or overflows; the value is that of torch's log."""
    logits = torch.tensor([0.0, 1.0, gap], requires_grad=True)
    q = case.of_probs(logits)
    assert torch.equal(q.logits, q.probs.log())

    def total(logits: Tensor) -> Tensor:
        q = case.of_probs(logits)
        moments: Tensor = q.entropy() + q.mean[:2].square().sum()
        return moments + q.rsample(generator=seeded())[:2].square().sum() if case.relaxed else moments

    (gradient,) = torch.autograd.grad(total(logits), logits)
    assert gradient.isfinite().all()
    torch.testing.assert_close(torch.func.grad(total)(logits.detach()), gradient)
    if gap == -200:  # a slope of 1 / p^2 overflows sooner than one of 1 / p
        assert torch.autograd.functional.hessian(total, logits.detach()).isfinite().all()
    value = torch.eye(3) if not case.relaxed else torch.tensor([0.5, 0.3, 0.2])
    (gradient,) = torch.autograd.grad(q.log_prob(value.log() if case.space == "log" else value).sum(), logits)
    assert gradient.isfinite().all()
    assert gradient[2] != 0 or gap < -70


def test_odds_of_a_sigmoid_that_saturates_have_finite_gradients() -> None:
    x = torch.tensor([40.0, -40.0, -95.0, 200.0, -200.0], requires_grad=True)
    q = sd.RelaxedBernoulli(0.5, probs=x.sigmoid())
    assert torch.equal(q.logits, q.probs.log() - (-q.probs).log1p())
    for value in (q.entropy(), q.mean, q.variance, q.rsample(), q.log_prob(torch.tensor(0.3)), kl_divergence(q, q)):
        (gradient,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
        assert gradient.isfinite().all()
    assert torch.autograd.grad(q.logits.masked_fill(q.logits.isinf(), 0.0).sum(), x)[0].tolist() == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("given", ["logits", "probs"])
def test_kl_of_binary_variables_that_are_certain(given: str) -> None:
    """Of one class only there is one variable; one class that only one of them has makes the divergence infinite."""
    ends = torch.tensor([INF, -INF, 0.0])
    for q_of, p_of in pairs(CASES["relaxed Bernoulli"]):
        q, p = (
            (sd if of == "ours" else td).RelaxedBernoulli(torch.tensor(t), **{given: x})
            for of, t, x in (
                (q_of, 0.7, ends[:, None] if given == "logits" else ends[:, None].sigmoid()),
                (p_of, 0.5, ends if given == "logits" else ends.sigmoid()),
            )
        )
        if given == "probs" and "theirs" in (q_of, p_of):
            continue  # torch moves probabilities away from 0 and 1
        kl = td.kl_divergence(q, p)
        even = kl_divergence(sd.RelaxedBernoulli(0.7, 0.5), sd.RelaxedBernoulli(0.5, 0.5)).item()
        torch.testing.assert_close(kl, torch.tensor([[0.0, INF, INF], [INF, 0.0, INF], [INF, INF, even]]))


@cases(*VECTORS)
def test_probabilities_of_any_normalisation(case: Case) -> None:
    """Those that PyTorch's own tests of relaxed variables begin with: 0.1, 0.2 and 0.3."""
    given = torch.tensor([[0.1, 0.2, 0.3], [5.0, 3.0, 0.0]], requires_grad=True)
    temperature = [torch.tensor(0.7)] if case.relaxed else []
    q, theirs = (kind(*temperature, probs=given, validate_args=True) for kind in (case.ours, case.theirs))
    assert torch.equal(q.probs, theirs.probs)
    assert torch.equal(q.expand((4, 2)).probs[3], q.probs)
    ((ours,), (expected,)) = (torch.autograd.grad(each.probs[:, 0].sum(), given) for each in (q, theirs))
    torch.testing.assert_close(ours, expected)
    value = q.sample()
    torch.testing.assert_close(q.log_prob(value), case.ours(*temperature, probs=q.probs.detach()).log_prob(value))


# ---- arguments

BAD = {
    "probs of a sum of zero": ({"probs": torch.tensor([[0.5, 0.5], [0.0, 0.0]])}, "probs has a row that sums to 0,"),
    "probs of an infinite sum": ({"probs": torch.tensor([1.0, INF])}, "probs has a row that sums to inf,"),
    "negative probs": ({"probs": torch.tensor([1.5, -0.5])}, "probs has .* smallest entry -0.5"),
    "probs with NaN": ({"probs": torch.tensor([NAN, 0.5])}, "probs has NaN"),
    "logits with NaN": ({"logits": torch.tensor([NAN, 0.0])}, "logits has NaN"),
    "logits with +inf": ({"logits": torch.tensor([INF, 0.0])}, r"logits has \+inf"),
    "no possible class": ({"logits": torch.tensor([[0.0, 0.0], [-INF, -INF]])}, "logits has a row of -inf only"),
    "both": ({"probs": torch.ones(1), "logits": torch.zeros(1)}, "either probs or logits, not both"),
    "neither": ({}, "either probs or logits, not neither"),
    "integers": ({"logits": torch.tensor([0, 0])}, "floating-point tensor .*, not torch.int64"),
    "no dimension": ({"logits": torch.tensor(0.0)}, r"of shape \(\*batch, K\), not torch.float32 of shape \(\)"),
    "a list": ({"logits": [0.0, 0.0]}, "not list"),
}
ALWAYS = ("both", "neither", "integers", "no dimension", "a list")


@pytest.mark.usefixtures("unchecked")
@cases(*VECTORS)
@pytest.mark.parametrize("name", BAD)
def test_bad_parameters(case: Case, name: str) -> None:
    parameters, message = BAD[name]
    temperature = [0.5] if case.relaxed else []
    with pytest.raises(ValueError, match=message) as error:
        case.ours(*temperature, **parameters, validate_args=True)
    assert "\n" not in str(error.value)
    if name not in ALWAYS:
        case.ours(*temperature, **parameters, validate_args=False)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"probs": torch.tensor([0.5, 1.5])}, r"probs holds values from 0.5 to 1.5, outside \[0, 1\]"),
        ({"probs": torch.tensor(NAN)}, "probs has NaN"),
        ({"logits": torch.tensor(NAN)}, "logits has NaN"),
        ({"logits": torch.tensor(1)}, "logits is a tensor of torch.int64"),
        ({"logits": torch.zeros(1), "probs": torch.zeros(1)}, "either probs or logits, not both"),
        ({}, "either probs or logits, not neither"),
    ],
)
def test_bad_parameters_of_relaxed_bernoulli(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        sd.RelaxedBernoulli(0.5, **parameters)
    assert "\n" not in str(error.value)


@cases(*RELAXED)
@pytest.mark.parametrize("validate_args", [True, False, None])
def test_bad_temperatures(case: Case, validate_args: bool | None) -> None:
    for temperature, message in (
        (0.0, "temperature=0.0 is not a positive finite number"),
        (-1, "temperature=-1 is not"),
        (NAN, "temperature=nan is not"),
        (INF, "temperature=inf is not"),
        (torch.tensor(0.0), "temperature holds values from 0 to 0"),
        (torch.tensor([1.0, NAN, 1.0]), "temperature holds values from nan"),
        (torch.tensor([1.0, INF, 1.0]), "temperature holds values from 1 to inf"),
        (torch.ones(2), r"temperature of shape \(2,\) does not broadcast to the batch shape \(3,"),
        (torch.ones(2, 3, 4), r"temperature of shape \(2, 3, 4\) does not"),
    ):
        if isinstance(temperature, Tensor) and temperature.shape == (3,) and not case.event:
            temperature = temperature[:, None]
        with pytest.raises(ValueError, match=message) as error:
            case.make(LOGITS, temperature, validate_args=validate_args)
        assert "\n" not in str(error.value)


@cases()
def test_values_outside_the_support(case: Case) -> None:
    bad = torch.full((3, 4), 1.5)
    with pytest.raises(ValueError, match="support"):
        case.make(LOGITS, validate_args=True).log_prob(bad)
    case.make(LOGITS, validate_args=False).log_prob(bad)


@cases()
def test_validation_is_that_of_torch(case: Case) -> None:
    """Its default, at the time of use, and an argument that overrides it; neither is changed for others."""
    default = Distribution._validate_args
    bad = torch.full((3, 4), NAN)
    try:
        for wanted in (True, False):
            Distribution.set_default_validate_args(wanted)
            q = case.make(LOGITS)
            for other in (True, False):
                case.make(LOGITS, validate_args=other)
            assert Distribution._validate_args is wanted
            assert q._validate_args is wanted
            if wanted:
                with pytest.raises(ValueError, match="NaN"):
                    case.make(bad)
            else:
                case.make(bad)
            with pytest.raises(ValueError, match="NaN"):
                case.make(bad, validate_args=True)
            case.make(bad, validate_args=False)
            Distribution.set_default_validate_args(not wanted)
            assert q._validate_args is not wanted
    finally:
        Distribution.set_default_validate_args(default)
    assert "_validate_args" not in type(q).__dict__


# ---- in the place of torch's


def discrete(d: ModuleType) -> Any:
    q, p = d.OneHotCategorical(logits=LOGITS), d.OneHotCategorical(probs=torch.full((3, 4), 0.25))
    z = q.sample((5,))
    return z.shape, q.log_prob(q.mode), q.entropy(), td.kl_divergence(q, p), q.mean, q.variance, q.support.event_dim


def relaxed(d: ModuleType) -> Any:
    q = d.RelaxedOneHotCategorical(temperature=torch.tensor(0.5), logits=LOGITS)
    z = q.rsample(torch.Size([5]))
    value = torch.tensor([0.1, 0.2, 0.3, 0.4])
    return z.shape, q.log_prob(value), q.temperature, q.logits, q.probs, q.event_shape, q.expand([2, 3]).batch_shape


def independent(d: ModuleType) -> Any:
    logits = LOGITS.clone().requires_grad_()
    q = td.Independent(d.RelaxedOneHotCategorical(torch.tensor(0.5), logits=logits.expand(2, 3, 4)), 1)
    value = torch.full((2, 3, 4), 0.25)
    return q.log_prob(value), torch.autograd.grad(q.log_prob(value).sum(), logits)[0], q.rsample().shape


def binary(d: ModuleType) -> Any:
    q = d.RelaxedBernoulli(torch.tensor([2.2]), probs=torch.tensor([0.1, 0.2, 0.3, 0.99]))
    value = torch.tensor([0.3, 0.6, 0.01, 0.9])
    return q.sample().shape, q.log_prob(value), q.probs, q.logits, q.batch_shape, q.expand((3, 4)).sample((2,)).shape


@pytest.mark.parametrize("program", [discrete, relaxed, independent, binary])
def test_programs_of_torch_run_unchanged(program: Callable[[ModuleType], Any]) -> None:
    for ours, theirs in zip(program(sd), program(td), strict=True):
        if isinstance(theirs, Tensor):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        else:
            assert ours == theirs


@pytest.mark.parametrize("name", ["RelaxedOneHotCategorical", "RelaxedBernoulli"])
def test_the_density_of_an_own_sample_has_torchs_gradient_in_the_sample(name):
    logits = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    ours, theirs = (getattr(module, name)(torch.tensor(0.7).double(), logits=logits) for module in (sd, td))
    for z in (ours.rsample().requires_grad_(), type(ours)(0.7, logits=logits.clone().requires_grad_()).rsample()):
        copy = z.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(ours.log_prob(z).sum(), z)
        (expected,) = torch.autograd.grad(theirs.log_prob(copy).sum(), copy)
        torch.testing.assert_close(gradient, expected)


def test_the_logarithms_of_a_binary_sample_are_kept_to_both_ends():
    z = sd.RelaxedBernoulli(0.01, logits=torch.tensor([60.0, -60.0, 0.0])).rsample()
    assert z.tolist()[0] == 1
    for log, rest in ((log_of(z), log_rest_of(z)), (log_rest_of(z), log_of(z))):
        assert log.shape == z.shape
        assert log.isfinite().all()
        torch.testing.assert_close(torch.logaddexp(log, rest), torch.zeros(3), rtol=0, atol=1e-6)


def test_the_probability_of_an_impossible_class_has_no_slope_in_a_sample_without_it():
    logits = torch.tensor([0.5, -torch.inf, 0.0], requires_grad=True)
    z = straight_through(logits, generator=torch.Generator().manual_seed(0))
    value = sd.OneHotCategorical(logits=logits).log_prob(z)
    assert torch.autograd.grad(value, logits)[0].isfinite().all()
