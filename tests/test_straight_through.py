"""The straight-through family: what theory says, by enumeration of the sample or by integration of its noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.estimators import (
    GumbelRao,
    Integrand,
    InvertibleGaussian,
    OptimalStraightThrough,
    Pathwise,
    ReinMax,
    ReinMaxCv,
    ReinMaxRao,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    Zgr,
)
from softhot.functional import relaxed_sample, with_conditional_gradient
from softhot.kernels import conditional, parallel
from softhot.kernels.conditional import mean_jacobian, mean_jacobian_reference
from softhot.testing import assert_mean, gradient_draws
from tests.integrands import cubic, seeded

INF = math.inf
LOGITS = torch.tensor([[0.3, -0.5, 0.9], [-0.2, 1.1, 0.0]], dtype=torch.float64)
DRAWS = 20_000


@pytest.mark.usefixtures("unchecked")
def test_a_sample_of_other_logits_is_refused() -> None:
    for shape in ((3,), (4, 2, 3)):
        with pytest.raises(ValueError, match=r"is no sample of logits of shape \(2, 3\)"):
            with_conditional_gradient(torch.zeros(shape), LOGITS)


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=seeded(seed)).to(dtype)


def jacobian(probs: Tensor) -> Tensor:
    return torch.diag_embed(probs) - probs[..., None] * probs[..., None, :]


# ---- the mean Jacobian given the hard sample


def conditional_call(*shape: int, dtype: torch.dtype, impossible: bool = False) -> tuple[Tensor, Tensor]:
    """A gradient, and the ratios of random logits and classes."""
    probs = (2 * normal(*shape, seed=1)).softmax(-1)
    z = one_hot(probs.argsort(-1)[..., shape[-1] // 2], shape[-1])
    if impossible:
        probs = torch.where(z.roll(1, -1) > 0, 0.0, probs)
    return normal(*shape, dtype=dtype, seed=2), probs.reciprocal().masked_fill(z > 0, 0.0).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rate", [0.1, 0.7, 1.0, 2.0, 30.0])
@pytest.mark.parametrize("shape", [(1,), (5, 1), (3, 2), (2, 3, 5), (300, 10), (4, 700)], ids=str)
@pytest.mark.parametrize("draws", [1, 3, 100])
def test_the_kernel_is_the_reference(shape: tuple[int, ...], draws: int, rate: float, dtype: torch.dtype) -> None:
    for impossible in (False, shape[-1] > 1):
        gradient, ratios = conditional_call(*shape, dtype=dtype, impossible=impossible)
        call = gradient, ratios, torch.tensor(2**62 + 5), rate, draws
        wide = gradient.double(), ratios.double(), *call[2:]
        found, expected = mean_jacobian(*call), mean_jacobian_reference(*wide)
        assert found.dtype == dtype
        # noise of 31 bits, and as many roundings as the exponent multiplies
        allowed = (2.0**-17 if dtype == torch.float32 else 2.0**-46) * rate * max(rate, 1) * gradient.abs().max()
        assert (found - expected).abs().max() <= allowed
        assert (found[ratios == INF] == 0).all()


@pytest.mark.parametrize("draws", [1, 20])
def test_pieces_change_nothing(draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    call = *conditional_call(500, 7, dtype=torch.float32), torch.tensor(3), 0.7, draws
    whole = mean_jacobian(*call)
    monkeypatch.setattr(parallel, "_GRAIN", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(mean_jacobian(*call), whole)
    monkeypatch.setattr(conditional, "_CHUNK", 300)
    torch.testing.assert_close(mean_jacobian_reference(*call), whole)


def test_the_gradient_is_linear_in_that_of_f_and_can_be_differentiated_and_mapped() -> None:
    gradient, ratios = conditional_call(6, 4, dtype=torch.float64)
    seed = torch.tensor(9)

    def given(g: Tensor, draws: int = 5) -> Tensor:
        return mean_jacobian(g, ratios, seed, 0.5, draws)

    leaf = gradient.clone().requires_grad_()
    assert torch.autograd.gradcheck(given, leaf)
    torch.testing.assert_close(given(leaf), given(gradient))
    logits, z = normal(6, 4).requires_grad_(), one_hot(torch.arange(6) % 4, 4).double()
    value = with_conditional_gradient(z, logits, generator=seeded())
    assert torch.equal(value, z)
    rows = torch.autograd.grad(value, logits, torch.stack([gradient, 2 * gradient]), is_grads_batched=True)[0]
    torch.testing.assert_close(rows[1], 2 * rows[0])


def test_no_noise_is_made_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditional, "mean_jacobian", None)
    with torch.no_grad():
        assert GumbelRao(draws=10**9)(cubic, LOGITS).isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    logits, z = normal(50, 4).to(dtype), one_hot(torch.arange(50) % 4, 4).to(dtype)

    def gradient(kind: torch.dtype) -> Tensor:
        leaf = logits.to(kind).requires_grad_()
        return torch.autograd.grad((with_conditional_gradient(z.to(kind), leaf, generator=seeded()) ** 3).sum(), leaf)[
            0
        ]

    assert torch.equal(gradient(dtype), gradient(torch.float32).to(dtype))


# ---- Gumbel-Rao

TWO = torch.tensor([0.4, -0.3], dtype=torch.float64)


def slope_given(first: bool, t: float, power: int = 1) -> float:
    """The mean of (z (1 - z) / t)^power given the largest of two, z = sigmoid((d + x) / t) with x logistic."""
    d = (TWO[0] - TWO[1]).item()

    def integrand(x: float) -> float:
        z = expit((d + x) / t)
        return float((z * expit(-(d + x) / t) / t) ** power * expit(x) * expit(-x))

    ends = (-d, 60) if first else (-60, -d)
    near = [-d + side * k * t for side in (1 if first else -1,) for k in (1, 5, 20) if abs(-d + side * k * t) < 60]
    total = quad(integrand, *ends, points=near, limit=500, epsabs=1e-13)[0]
    return float(total / expit(d if first else -d))


@pytest.mark.parametrize("t", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("first", [True, False])
def test_gumbel_rao_tends_to_the_conditional_expectation(t: float, first: bool) -> None:
    z = TWO.new_tensor([1.0, 0.0] if first else [0.0, 1.0]).expand(DRAWS, 2)
    mean = slope_given(first, t)
    rest = slope_given(first, t, 2) - mean**2
    for draws in (1, 4, 50):
        leaf = TWO.expand(DRAWS, 2).clone().requires_grad_()
        value = with_conditional_gradient(z, leaf, t, draws, generator=seeded())
        found = torch.autograd.grad(value[:, 0].sum(), leaf)[0].float()
        assert_mean(found, torch.tensor([mean, -mean], dtype=torch.float64))
        # what is left of the variance falls as one over the number of draws
        assert_mean((found[:, 0] - mean) ** 2, torch.tensor(rest / draws).double())
        with pytest.raises(AssertionError, match="standard errors"):
            assert_mean((found[:, 0] - mean) ** 2, torch.tensor(rest / draws / 1.5).double())


@pytest.mark.parametrize("t", [0.5, 1.0])
def test_gumbel_rao_given_a_class_is_the_mean_over_relaxed_samples_with_that_class(t: float) -> None:
    logits, direction = LOGITS[0], normal(3, seed=3)
    soft = relaxed_sample(logits.expand(4 * DRAWS, 3), t, generator=seeded(1))
    theirs = (jacobian(soft) @ direction) / t
    for k in range(3):
        z = one_hot(torch.tensor(k), 3).double().expand(DRAWS, 3)
        leaf = logits.expand(DRAWS, 3).clone().requires_grad_()
        value = with_conditional_gradient(z, leaf, t, 3, generator=seeded(2))
        ours = torch.autograd.grad((value @ direction).sum(), leaf)[0]
        own = theirs[soft.argmax(-1) == k][: len(ours)]
        assert_mean((ours[: len(own)] - own).float(), torch.zeros(3))
        other = theirs[soft.argmax(-1) == (k + 1) % 3][: len(ours)]
        with pytest.raises(AssertionError, match="standard errors"):
            assert_mean((ours[: len(other)] - other).float(), torch.zeros(3))


@pytest.mark.parametrize("t", [0.3, 1.0])
def test_gumbel_rao_has_the_mean_of_straight_through_gumbel_softmax_and_less_variance(t: float) -> None:
    plain = gradient_draws(StraightThroughGumbelSoftmax(temperature=t), cubic, LOGITS, DRAWS, seeded(1))
    averaged = gradient_draws(GumbelRao(temperature=t, draws=20), cubic, LOGITS, DRAWS, seeded(2))
    assert_mean((plain - averaged).float(), torch.zeros(2, 3))
    assert averaged.var(0).sum() < 0.8 * plain.var(0).sum()


def test_zgr_is_the_limit_of_gumbel_rao() -> None:
    probs = TWO.softmax(-1)
    for k in range(2):
        centred = torch.eye(2).double()[k] - probs
        limit = (jacobian(probs) + torch.outer(centred, centred)) / 2
        assert slope_given(k == 0, 1e-3) == pytest.approx(limit[0, 0].item(), abs=1e-3)


def test_zgr_is_its_formula() -> None:
    logits = torch.cat([LOGITS, torch.tensor([[-INF, 0.2, 0.4], [-INF, 3.0, -INF]])])
    leaf = logits.clone().requires_grad_()
    seen: list[Tensor] = []

    def f(z: Tensor) -> Tensor:
        seen.append(z)
        return cubic(z)

    (found,) = torch.autograd.grad(Zgr()(f, leaf, generator=seeded()), leaf)
    z = seen[0][0].detach().requires_grad_()
    (g,) = torch.autograd.grad(cubic(z), z)
    probs = logits.softmax(-1)
    centred = z.detach() - probs
    expected = ((jacobian(probs) + centred[..., None] * centred[..., None, :]) @ g[..., None]).squeeze(-1) / 2
    torch.testing.assert_close(found, expected)


# ---- ReinMax with relaxed samples


def given_each_class(estimator: Pathwise, logits: Tensor, f: Integrand) -> list[Tensor]:
    """Gradients for one variable, sorted by the class of the hard sample."""
    seen: list[Tensor] = []

    def recording(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return f(z)

    draws = gradient_draws(estimator, recording, logits, 4 * DRAWS, seeded())
    return [draws[seen[0][0, :, 0, k] == 1] for k in range(logits.shape[-1])]


@pytest.mark.parametrize("t", [0.5, 1.0])
def test_reinmax_rao_and_cv_given_the_hard_sample(t: float) -> None:
    logits = LOGITS[:1]
    probs = logits.softmax(-1)
    found = (ReinMaxRao(temperature=t, draws=4), ReinMaxCv(temperature=t, draws=4, eta=0.7), ReinMax())
    for k, (rao, cv, plain) in enumerate(zip(*(given_each_class(e, logits, cubic) for e in found), strict=True)):
        z = one_hot(torch.tensor([k]), 3).double().requires_grad_()
        (g,) = torch.autograd.grad(cubic(z), z)
        # relaxed samples around the middle, by rejection
        soft = relaxed_sample(((probs + z.detach()) / 2).log().expand(DRAWS, 1, 3), t, generator=seeded(1))
        products = (jacobian(soft[(soft.argmax(-1) == k).squeeze(-1)]) @ g[..., None]).squeeze(-1) / t
        expected = 2 * products - (jacobian(probs) @ g[..., None]).squeeze(-1) / 2
        count = min(len(rao), len(expected))
        assert_mean((rao[:count] - expected[:count]).float(), torch.zeros(1, 3))
        assert_mean(cv.float(), plain[0])
        assert plain.std(0).max() < 1e-12
        # the correction is uncorrelated with the rest, and adds its own variance
        extra = 0.7**2 * (1 + 1 / 4) * (products - products.mean(0)).square() * len(products) / (len(products) - 1)
        assert_mean(((cv - plain[0])[:count] ** 2 - extra[:count]).sum(-1).float(), torch.zeros(1))
        # with the noise that drew z instead, it would have another mean
        noise = -torch.empty(DRAWS, 1, 3, dtype=torch.float64).exponential_(generator=seeded(2)).log()
        noise = noise[((logits + noise).argmax(-1) == k).squeeze(-1)]
        same = (jacobian((((probs + z.detach()) / 2).log() + noise).div(t).softmax(-1)) @ g[..., None]).squeeze(-1) / t
        count = min(len(same), len(products))
        with pytest.raises(AssertionError, match="standard errors"):
            assert_mean((same[:count] - products[:count]).float(), torch.zeros(1, 3))


# ---- the optimal one: S(x), a matrix for each class


def matrices(estimator: Pathwise, logits: Tensor) -> Tensor:
    """S(x) of shape (K, K, K) for logits of shape (K,), impossible classes zero, from what the estimator gives."""
    classes = len(logits)
    found = logits.new_zeros(classes, classes, classes)
    rows = torch.arange(classes, dtype=torch.float64)[logits > -INF]
    for j in range(classes):
        for k in rows.long():
            # a sample of class k, whatever its probability: f is evaluated at many
            seen: list[Tensor] = []

            def f(z: Tensor, j: int = j, seen: list[Tensor] = seen) -> Tensor:
                seen.append(z.detach())
                return z[..., 0, j]

            draws = gradient_draws(estimator, f, logits[None], 3_000, seeded())
            where = (seen[0][0, :, 0, k] == 1).nonzero()[0, 0]
            found[k, j] = draws[where, 0]
    return found


def optimum(probs: Tensor, penalty: float) -> Tensor:
    """The same by the whole system of optimality conditions, in the K^2 entries and K multipliers of each column."""
    classes = len(probs)
    place = {(i, j): i * classes + j for i in range(classes) for j in range(classes)}
    size = classes**2
    target = jacobian(probs)
    quadratic, linear = torch.zeros(size, size).double(), torch.zeros(size, classes).double()
    keep, goal = torch.zeros(classes, size).double(), target
    bias, aim = [], []
    for (i, j), at in place.items():
        quadratic[at, at] += 1 / probs[i]
        keep[j, at] = 1
        if i <= j:
            row = torch.zeros(size).double()
            row[at] += 2**0.5 if i == j else 1
            row[place[j, i]] += 0 if i == j else 1
            bias.append(row)
            aim.append(2**0.5 * target[i] / 2 if i == j else 0 * target[i])
    rows, wanted = torch.stack(bias), torch.stack(aim)
    if penalty == INF:
        keep, goal = torch.cat([keep, rows]), torch.cat([goal, wanted])
    else:
        quadratic, linear = quadratic + penalty * rows.T @ rows, penalty * rows.T @ wanted
    conditions = len(keep)
    system = torch.zeros(size + conditions, size + conditions).double()
    system[:size, :size], system[:size, size:], system[size:, :size] = quadratic, keep.T, keep
    solution = torch.linalg.pinv(system) @ torch.cat([linear, goal])
    return solution[:size].reshape(classes, classes, classes) / probs[:, None, None]


def objective(found: Tensor, probs: Tensor, penalty: float) -> float:
    mass = found * probs[:, None, None]
    target, across = jacobian(probs), mass + mass.transpose(0, 1)
    between = across.square().sum(-1).triu(1).sum()
    own = (mass.diagonal(dim1=0, dim2=1).T - target / 2).square().sum()
    torch.testing.assert_close(mass.sum(0), target)
    return ((probs[:, None, None] * found**2).sum() + penalty * (2 * own + between)).item()


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("penalty", [0.0, 0.1, 3.0, 1e4, INF])
def test_the_optimum_is_that_of_the_whole_system(penalty: float, classes: int) -> None:
    logits = normal(classes, seed=1)
    torch.testing.assert_close(
        matrices(OptimalStraightThrough(penalty=penalty), logits), optimum(logits.softmax(-1), penalty)
    )


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_optimum_has_the_least_objective_and_straight_through_for_its_limit(classes: int) -> None:
    logits = normal(classes, seed=2)
    probs = logits.softmax(-1)
    others = [matrices(estimator, logits) for estimator in (StraightThrough(), ReinMax(), Zgr())]
    for penalty in (0.2, 1.0, 20.0):
        best = objective(matrices(OptimalStraightThrough(penalty=penalty), logits), probs, penalty)
        assert all(best < objective(other, probs, penalty) - 1e-4 for other in others)
    variance = [objective(each, probs, 0.0) for each in (matrices(OptimalStraightThrough(), logits), *others[1:])]
    assert variance[0] <= min(variance[1:]) + 1e-12
    assert classes == 2 or variance[0] < min(variance[1:]) - 1e-4
    torch.testing.assert_close(matrices(OptimalStraightThrough(penalty=0.0), logits), others[0])
    small, large = (matrices(OptimalStraightThrough(penalty=x), logits) for x in (1e-9, 1e9))
    torch.testing.assert_close(small, others[0])
    torch.testing.assert_close(large, matrices(OptimalStraightThrough(), logits), atol=1e-7, rtol=0)


@pytest.mark.parametrize("penalty", [0.0, 0.5, INF])
def test_impossible_classes_change_nothing_for_the_others(penalty: float) -> None:
    logits = torch.tensor([0.3, -INF, 0.9, -INF, -0.4], dtype=torch.float64)
    kept = logits > -INF
    found, expected = (matrices(OptimalStraightThrough(penalty=penalty), x) for x in (logits, logits[kept]))
    torch.testing.assert_close(found[kept][:, kept][:, :, kept], expected)
    assert (found[..., ~kept] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_optimum_is_smooth_in_rare_classes(dtype: torch.dtype) -> None:
    for penalty in (0.5, 1e12, INF):
        for rare in (-20.0, -80.0, -300.0, -INF):
            logits = torch.tensor([[0.3, rare, 0.9, rare - 10]], dtype=dtype)
            found = gradient_draws(OptimalStraightThrough(penalty=penalty), cubic, logits, 50, seeded())
            limit = gradient_draws(OptimalStraightThrough(penalty=penalty), cubic, logits.double(), 50, seeded())
            torch.testing.assert_close(found.double(), limit, atol=3e-5 if dtype == torch.float32 else 1e-12, rtol=0)
            assert found[..., 1].abs().max() < 1e-6


# ---- a relaxed alternative


def gaussian_mean(h: Callable[[float], float], scale: float) -> float:
    """The mean of h(y) for y normal around the difference of two logits."""
    d = (TWO[0] - TWO[1]).item()

    def integrand(x: float) -> float:
        return h(d + scale * x) * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    return float(quad(integrand, -12, 12, points=[-d / scale], limit=200)[0])


@pytest.mark.parametrize(("t", "scale", "delta"), [(1.0, 1.0, 1.0), (0.3, 0.5, 1.0), (2.0, 1.5, 3.0)])
def test_the_invertible_gaussian_is_exact_for_the_relaxed_model(t: float, scale: float, delta: float) -> None:
    estimator = InvertibleGaussian(temperature=t, scale=scale, delta=delta)

    def f(z: Tensor) -> Tensor:
        return torch.sin(3 * z[..., 0, 0]) + z[..., 0, 1] ** 2

    def first(y: float) -> float:
        return float(expit(y / t - math.log(delta)))

    def slope(y: float) -> float:
        z = first(y)
        return (3 * math.cos(3 * z) - 2 * (1 - z)) * z * (1 - z) / t

    value = gaussian_mean(lambda y: math.sin(3 * first(y)) + (1 - first(y)) ** 2, scale)
    up = gaussian_mean(slope, scale)
    found = estimator(f, TWO.expand(DRAWS, 1, 2), generator=seeded())
    assert_mean(found.float(), torch.tensor(value, dtype=torch.float64))
    draws = gradient_draws(estimator, f, TWO[None], DRAWS, seeded())
    assert_mean(draws.float(), torch.tensor([[up, -up]], dtype=torch.float64))


def test_the_rest_is_the_last_possible_class() -> None:
    logits = torch.tensor([[0.3, -INF, 0.9, -0.4, -INF]], dtype=torch.float64)
    seen: list[Tensor] = []

    def f(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return z[..., 0].sum(-1)

    InvertibleGaussian(temperature=0.7, delta=2.0)(f, logits.expand(DRAWS, 1, 5), generator=seeded())
    log = seen[0].log()[0, :, 0]
    assert (seen[0][..., [1, 4]] == 0).all()
    y = 0.7 * (log[:, [0, 2]] - log[:, 3:4] + math.log(2.0))  # the inverse
    assert_mean(y.float(), torch.tensor([0.7, 1.3]).double())
    assert_mean(((y - torch.tensor([0.7, 1.3])) ** 2).float(), torch.ones(2).double())
