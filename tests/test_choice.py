"""Expected maxima and choice probabilities against quadrature by definition, closed forms, and each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from numpy.typing import NDArray
from scipy import integrate, special, stats
from torch import Tensor
from torch.autograd import forward_ad

from softhot.functional import choice_probabilities, choice_slopes, expected_logsumexp, expected_max
from softhot.functional.choice import EULER
from softhot.kernels.noise import NOISES, Noise

Array = NDArray[np.float64]

VALUES = {f.__name__: f for f in (expected_max, choice_probabilities, choice_slopes, expected_logsumexp)}
MEAN: dict[Noise, float] = {"gumbel": EULER, "-gumbel": -EULER, "normal": 0.0}
# where the noise Z is not negligible, its density, and that of the difference of two
LAW: dict[Noise, tuple[float, float, Callable[[Array], Array], Callable[[float], float]]] = {
    "gumbel": (-3.6, 30.0, stats.gumbel_r.pdf, lambda x: special.expit(x) * special.expit(-x)),
    "-gumbel": (-30.0, 3.6, stats.gumbel_l.pdf, lambda x: special.expit(x) * special.expit(-x)),
    "normal": (-8.0, 8.0, stats.norm.pdf, lambda x: math.exp(-x * x / 4) / math.sqrt(4 * math.pi)),
}

every_noise = pytest.mark.parametrize("noise", NOISES)
every_value = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())


def random(*shape: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(value: Tensor, expected: Any, tolerance: float = 1e-12) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64).broadcast_to(value.shape)
    torch.testing.assert_close(value.to(torch.float64), expected, rtol=tolerance, atol=tolerance)


def by_definition(m: Tensor, scale: float, noise: Noise) -> tuple[float, Array, Array]:
    """E[logsumexp(y)], E[z] and E[z (1 - z)] of z = softmax(y), y = m + s Z, by the trapezoid rule in K dimensions."""
    low, high, density, _ = LAW[noise]
    each = np.arange(low, high, 0.32)
    z = np.stack(np.meshgrid(*[each] * len(m), indexing="ij")).reshape(len(m), -1)
    weight = density(z).prod(0) * 0.32 ** len(m)
    y = m.numpy()[:, None] + scale * z
    largest = special.logsumexp(y, axis=0)
    soft = np.exp(y - largest)
    return float(largest @ weight), soft @ weight, (soft * (1 - soft)) @ weight


def by_quadrature(m: Array, scale: float, noise: Noise) -> tuple[float, Array]:
    """The expected maximum and the choice probabilities from F(x) = E[exp(-exp(-(x - s Z)))], on fine grids."""
    low, high, density, _ = LAW[noise]
    low, high = low - 8 - math.log(len(m)), high + 8 + math.log(len(m))
    step = 0.2
    z = np.arange(low, high, step / max(1.0, scale))
    weight = density(z) / density(z).sum()
    x = m.max() + np.arange(scale * low - 8, scale * high + 46, step)
    classes, which, count = np.unique(m, return_inverse=True, return_counts=True)
    log_cdf, hazard = np.empty((2, len(classes), len(x)))
    for k, location in enumerate(classes):
        u = np.exp(-(x[:, None] - location - scale * z))
        cdf, survival = np.exp(-u) @ weight, -np.expm1(-u) @ weight
        with np.errstate(divide="ignore", invalid="ignore"):
            log_cdf[k] = np.where(survival < 0.5, np.log1p(-survival), np.log(cdf))
            hazard[k] = np.nan_to_num((u * np.exp(-u)) @ weight / cdf)
    product = np.exp(count @ np.maximum(log_cdf, -1e3))
    mean = m.max() + EULER + step * (np.exp(-np.exp(m.max() - x)) - product).sum()
    return float(mean), (step * hazard @ product)[which]


@every_noise
def test_three_classes_by_definition(noise: Noise) -> None:
    scale = 1.3
    m = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    largest, mean, spread = by_definition(m, scale, noise)
    close(expected_logsumexp(m, scale, noise), largest, 1e-10)
    close(expected_max(m, scale, noise), largest + EULER, 1e-10)
    close(choice_probabilities(m, scale, noise), mean, 1e-10)
    close(choice_slopes(m, scale, noise), spread, 1e-10)


@every_noise
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 10.0, 1e3])
def test_two_classes_by_definition(noise: Noise, scale: float) -> None:
    """In two classes all depends on the difference of the noises: logistic, or normal of variance two."""
    *_, density = LAW[noise]
    m = torch.tensor([1.5, 0.7], dtype=torch.float64)

    def mean(f: Callable[[float], float]) -> float:
        edge = min(max(-0.8 / scale, -30.0), 30.0)
        ends = sorted({-60.0, -10.0, edge - 20 / scale, edge, edge + 20 / scale, 10.0, 60.0})
        pieces = [(a, b) for a, b in itertools.pairwise(ends) if -60 <= a < b <= 60]
        return sum(integrate.quad(lambda x: f(0.8 + scale * x) * density(x), *ab, epsabs=1e-14)[0] for ab in pieces)

    first = mean(special.expit)
    close(choice_probabilities(m, scale, noise), [first, 1 - first], 1e-11)
    close(choice_slopes(m, scale, noise), mean(lambda d: special.expit(d) * special.expit(-d)), 1e-11)
    softplus = mean(lambda d: np.logaddexp(0, d))
    close(expected_logsumexp(m, scale, noise), 0.7 + scale * MEAN[noise] + softplus, 1e-11)


@every_noise
@pytest.mark.parametrize("classes", [3, 2000])
@pytest.mark.parametrize("scale", [0.05, 0.7, 1.0, 1.7, 4.0])
def test_many_classes_by_quadrature(noise: Noise, scale: float, classes: int) -> None:
    """The maximum of many light-tailed variables is sharper than one of them: the nodes must be closer."""
    m = random(4, seed=classes)[torch.arange(classes) % 4]
    mean, probabilities = by_quadrature(m.numpy(), scale, noise)
    close(expected_max(m, scale, noise), mean)
    close(choice_probabilities(m, scale, noise), probabilities)


@pytest.mark.parametrize("classes", [1, 2, 10, 2000])
def test_logistic_noise_in_closed_form(classes: int) -> None:
    """G - G' is logistic: K of them have the expected maximum psi(K) + g."""
    close(expected_max(torch.zeros(classes, dtype=torch.float64), 1.0, "-gumbel"), special.digamma(classes) + EULER)


@pytest.mark.parametrize("classes", [1, 2, 10, 2000])
def test_the_sum_of_two_gumbels_by_bessel_functions(classes: int) -> None:
    """P(G + G' <= x) = 2 sqrt(c) K1(2 sqrt(c)) with c = exp(-x)."""

    def cdf(x: float) -> float:
        root = 2 * math.exp(-x / 2)
        return (root * special.k1(root)) ** classes

    tail = 40 + math.log(classes)
    pieces = [(0, 5), (5, 15), (15, tail)]
    right = sum(integrate.quad(lambda x: 1 - cdf(x), *ab, epsabs=1e-13)[0] for ab in pieces)
    left = integrate.quad(cdf, -12, 0, epsabs=1e-13)[0]
    close(expected_max(torch.zeros(classes, dtype=torch.float64)), right - left, 1e-11)


@every_noise
def test_a_small_scale_is_a_softmax(noise: Noise) -> None:
    m = random(20, 5)
    for scale in (1e-6, 1e-5):
        close(expected_max(m, scale, noise), m.logsumexp(-1) + EULER + scale * MEAN[noise], 4 * scale**2 + 1e-13)
        close(choice_probabilities(m, scale, noise), m.softmax(-1), 4 * scale**2 + 1e-13)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.5, 1.0, 3.0, 1e3, 1e6])
def test_two_gumbels_change_places(scale: float) -> None:
    """m + G + s G' = s (m / s + G' + G / s)."""
    m = scale * random(20, 5)
    close(expected_max(m, scale), scale * expected_max(m / scale, 1 / scale))
    close(choice_probabilities(m, scale), choice_probabilities(m / scale, 1 / scale))
    close(scale * choice_slopes(m, scale), choice_slopes(m / scale, 1 / scale))


def test_a_large_scale_is_a_probit() -> None:
    """Two normal variables: Clark (1961), "The greatest of a finite set of random variables"."""
    scale = 1e6
    m = scale * random(20, 2)
    d = (m[:, 0] - m[:, 1]) / (scale * math.sqrt(2))
    density = torch.exp(-d.square() / 2) / math.sqrt(2 * math.pi)
    p = torch.special.ndtr(d)
    largest = m[:, 0] * p + m[:, 1] * (1 - p) + scale * math.sqrt(2) * density
    close(expected_max(m, scale, "normal"), largest + EULER, 1e-11)
    close(choice_probabilities(m, scale, "normal")[:, 0], p, 1e-11)
    close(scale * choice_slopes(m, scale, "normal")[:, 0], density / math.sqrt(2), 1e-11)


def test_a_large_scale_of_negative_gumbels() -> None:
    """The maximum by inclusion and exclusion of minima, each of which is Gumbel."""
    scale = 1e6
    m = random(20, 4)
    mean, first = torch.zeros(20, dtype=torch.float64), torch.zeros(20, dtype=torch.float64)
    for size in range(1, 5):
        for subset in itertools.combinations(range(4), size):
            part = m[:, subset]
            mean -= (-1) ** size * -((-part).logsumexp(-1) + EULER)
            if 0 in subset:
                first -= (-1) ** size * (-part).softmax(-1)[:, subset.index(0)]
    close(expected_max(scale * m, scale, "-gumbel") / scale, mean + EULER / scale, 1e-11)
    close(choice_probabilities(scale * m, scale, "-gumbel")[:, 0], first, 1e-11)


@every_noise
@pytest.mark.parametrize("classes", [1, 2, 7, 2000])
@pytest.mark.parametrize("scale", [1e-6, 0.1, 1.0, 30.0, 1e6])
def test_laws_of_choice(noise: Noise, scale: float, classes: int) -> None:
    m = random(8, classes).requires_grad_()
    largest = expected_max(m, scale, noise)
    p = choice_probabilities(m, scale, noise)
    (gradient,) = torch.autograd.grad(largest.sum(), m)
    # derivatives are those of the interpolation, an order of accuracy below the values
    close(gradient, p, 1e-11)
    close(p.sum(-1), 1.0, 1e-12)
    assert (p >= -1e-15).all()
    assert (choice_slopes(m, scale, noise) >= -1e-13).all()
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(0))
    close(choice_probabilities(m[:, order], scale, noise), p[:, order])
    for shift in (-7.123, 1e4):
        rounding = 1e-12 if abs(shift) < 10 else 1e-11
        close(expected_max(m + shift, scale, noise), largest + shift, rounding * max(1.0, scale))
        close(choice_probabilities(m + shift, scale, noise), p, rounding)
    if classes == 1:
        close(largest, m[:, 0] + EULER + scale * MEAN[noise], 1e-12 * max(1.0, scale))
        close(choice_slopes(m, scale, noise), 0.0)


@every_noise
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_slopes_are_the_diagonal_of_the_jacobian(noise: Noise, scale: float) -> None:
    m = random(6)
    jacobian = torch.autograd.functional.jacobian(lambda x: choice_probabilities(x, scale, noise), m)
    close(choice_slopes(m, scale, noise), jacobian.diagonal(), 1e-10)
    close(jacobian, jacobian.mT, 1e-10)
    close(jacobian.sum(-1), 0.0, 1e-10)


@every_noise
@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_derivatives(noise: Noise, scale: float) -> None:
    weights = random(2, 3)

    def both(m: Tensor, s: Tensor) -> Tensor:
        p, slopes = choice_probabilities(m, s, noise), choice_slopes(m, s, noise)
        return (weights[0] * p + weights[1] * slopes).sum()

    m = random(3, seed=1).requires_grad_()
    s = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(both, (m, s), fast_mode=True)
    assert torch.autograd.gradcheck(expected_max, (m, s, noise), fast_mode=True)
    assert torch.autograd.gradgradcheck(expected_max, (m, s, noise), fast_mode=True, check_undefined_grad=False)


@every_noise
@every_value
def test_scales_of_every_shape_agree_with_a_loop(value: Callable[..., Tensor], noise: Noise) -> None:
    m = random(2, 2, 5)
    six = torch.tensor(0.6, dtype=torch.float64)
    rows, columns = six * torch.tensor([[0.02], [30.0]]), six * torch.tensor([0.5, 3.0])
    for scale in (0.6, six, six.reshape(1, 1), six.clone().requires_grad_(), rows, columns, rows * columns):
        full = torch.as_tensor(scale, dtype=torch.float64).broadcast_to(2, 2)
        looped = [value(m[i, j], full[i, j].item(), noise) for i in range(2) for j in range(2)]
        close(value(m, scale, noise).flatten(0, 1), torch.stack(looped))


@every_noise
@every_value
def test_impossible_classes_are_left_out(value: Callable[..., Tensor], noise: Noise) -> None:
    m = torch.tensor([[0.5, -math.inf, 1.0, -math.inf], [-math.inf, -math.inf, 3.0, -math.inf]], dtype=torch.float64)
    m.requires_grad_()
    s = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    result = value(m, s, noise)
    both, one = value(m[0, ::2], 1.3, noise), value(m[1, 2:3], 1.3, noise)
    if result.dim() == 2:
        close(result[0, 1::2], 0.0)
        close(result[1, [0, 1, 3]], 0.0)
        result = torch.stack([result[0, ::2], result[1, [2, 2]]])
    close(result, torch.stack([both, one.expand(both.shape)]))
    gradients = torch.autograd.grad(result.square().sum(), (m, s))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0][m == -math.inf] == 0).all()


@every_noise
def test_hopeless_classes(noise: Noise) -> None:
    """Locations so low that they cannot win are as good as -inf, without overflow, and so is a spread of 1e30."""
    m = torch.tensor([[0.0, -1e4], [0.0, -1e30], [1e30, 0.0]], dtype=torch.float64, requires_grad=True)
    largest = expected_max(m, 0.7, noise)
    close(largest, torch.tensor([0.0, 0.0, 1e30], dtype=torch.float64) + EULER + 0.7 * MEAN[noise])
    close(choice_probabilities(m, 0.7, noise), [1.0, 0.0])
    close(torch.autograd.grad(largest.sum(), m)[0], [1.0, 0.0])


@every_noise
@every_value
def test_empty(value: Callable[..., Tensor], noise: Noise) -> None:
    vector = value in (choice_probabilities, choice_slopes)
    for batch, scale in (((0,), 1.0), ((0,), torch.ones(0)), ((4, 0), torch.ones(4, 1)), ((0, 2), torch.ones(2))):
        m = torch.zeros(*batch, 3, requires_grad=True)
        result = value(m, scale, noise)
        assert result.shape == (m.shape if vector else batch)
        result.sum().backward()
        assert m.grad is not None
    without_classes = value(torch.zeros(2, 0), 1.0, noise)
    assert without_classes.shape == ((2, 0) if vector else (2,))
    assert (without_classes == -math.inf).all()


@every_value
def test_what_is_not_a_number_is_seen(value: Callable[..., Tensor]) -> None:
    """As in logsumexp and softmax; other rows are not touched."""
    inf, nan = math.inf, math.nan
    m = torch.tensor([[0.0, 1.0], [nan, 1.0], [0.0, nan], [-inf, -inf], [inf, 0.0]])
    result = value(m)
    usual = m.softmax(-1) if result.dim() > 1 else m.logsumexp(-1)
    torch.testing.assert_close(result.nan_to_num(7.0)[1:], usual.nan_to_num(7.0)[1:])
    torch.testing.assert_close(result[0], value(m[0]))


@every_noise
@every_value
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_lower_precisions(value: Callable[..., Tensor], noise: Noise, dtype: torch.dtype, scale: float) -> None:
    m = random(64, 20).to(dtype)
    result = value(m, scale, noise)
    assert result.dtype == dtype
    torch.testing.assert_close(
        result.double(), value(m.double(), scale, noise), rtol=2 * torch.finfo(dtype).eps, atol=2e-7
    )


@every_value
def test_tables_that_are_kept_belong_to_no_mode(value: Callable[..., Tensor]) -> None:
    """A first call in inference mode, or inside a transform, leaves nothing behind that breaks the next."""
    m, scale = random(3), iter(0.512345 + 0.01 * np.arange(3))
    with torch.inference_mode():
        value(m, s := next(scale))
    torch.autograd.grad(value(m.requires_grad_(), s).sum(), m)
    torch.func.hessian(lambda x: value(x, s := next(scale)).sum())(m.detach())  # noqa: F841
    torch.func.grad(lambda x: value(x, 0.522345).sum())(m.detach())
    torch.func.jvp(lambda x: value(x, 0.522345), (m.detach(),), (m.detach(),))


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
@every_value
def test_forward_derivatives_in_the_scale(value: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    m, scale = random(2, 4, seed=5), torch.full(shape, 0.7, dtype=torch.float64)
    found = torch.func.jvp(lambda s: value(m, s), (scale,), (torch.ones_like(scale),))[1]
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(value(m, forward_ad.make_dual(scale, torch.ones_like(scale)))).tangent
    expected = torch.autograd.functional.jvp(lambda s: value(m, s), scale, torch.ones_like(scale))[1]
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(dual, expected)


@pytest.mark.usefixtures("unchecked")
@every_value
def test_errors(value: Callable[..., Tensor]) -> None:
    m: Any = torch.zeros(2, 3)
    for scale, message in (
        (0.0, r"scale=0.0 is not a positive finite number"),
        (-1, r"scale=-1 is not"),
        (math.nan, r"scale=nan is not"),
        (math.inf, r"scale=inf is not"),
        (torch.tensor(0.0), r"scale holds values from 0 to 0"),
        (torch.tensor([1.0, -2.0]), r"scale holds values from -2 to 1"),
        (torch.tensor([1.0, math.nan]), r"scale holds values from nan"),
        (torch.ones(3), r"scale of shape \(3,\) does not broadcast to the batch shape \(2,\)"),
        (torch.ones(2, 1), r"scale of shape \(2, 1\) does not"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            value(m, scale)
        assert "\n" not in str(error.value)
    for name, nearest in (("gumble", "gumbel"), ("norm", "normal"), ("Gumbel", "gumbel")):
        with pytest.raises(ValueError, match=f"unknown noise '{name}'; did you mean '{nearest}'"):
            value(m, 1.0, name)
    with pytest.raises(ValueError, match="unknown noise 'cauchy'; known: gumbel, -gumbel, normal"):
        value(m, 1.0, "cauchy")


@every_value
def test_types_are_checked_while_tests_run(value: Callable[..., Any]) -> None:
    for wrong in (torch.zeros(2, 3, dtype=torch.int64), torch.tensor(0.0), [0.0, 1.0]):
        with pytest.raises(TypeCheckError):
            value(wrong)
