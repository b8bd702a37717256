r"""The certificate of a gradient estimator: what it is, measured, and whether that is what its class says.

Bias and variance of the gradient :math:`\hat g` to the logits are relative to the truth :math:`g^*`,

.. math:: \frac{\| E \hat g - g^* \|}{\| g^* \|}, \qquad \frac{\operatorname{tr} \operatorname{Cov} \hat g}{\| g^* \|^2}

and exact where the draws of the estimator can be enumerated, or integrated (:func:`softhot.testing.exact_moments`).
Otherwise they are those of many draws, each with its standard error: of the bias, what noise alone would give. What is
drawn is held against the truth at a false-alarm rate of 1e-6, and what is exact up to rounding, or the error of the
integral.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from softhot.estimators import Estimator
from softhot.testing.measurement import Measurement, Method, integrand, measure, numbers, theta
from softhot.testing.outcomes import NotEnumerable, exact_moments
from softhot.testing.statistics import FEWEST

__all__ = ["Certificate", "Check", "Figures", "certify"]

_LATENTS, _CLASSES = 2, 3
_STEP = 1e-4  # of a finite difference
_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Check(NamedTuple):
    """What was looked at, and what is wrong with it; None if nothing is."""

    name: str
    fault: str | None


@dataclass(frozen=True)
class Figures:
    """The gradient to the logits of some variables, beside the true one.

    Attributes:
        latents, classes: N and K.
        unbiased: whether its mean is the true gradient.
        bias, variance: relative to the latter.
        bias_error, variance_error: their standard errors; zero where they are exact.
        method, count: whether all outcomes were enumerated, noise was integrated, or it was drawn; and how many.
    """

    latents: int
    classes: int
    unbiased: bool
    bias: float
    bias_error: float
    variance: float
    variance_error: float
    method: Method
    count: int


@dataclass(frozen=True)
class Certificate:
    """What an estimator is, measured.

    Attributes:
        name: of the estimator.
        evaluations: of f, for two variables of three classes (or of as many as it is for).
        figures: for these; where they are of draws, for two variables of two classes as well if that can be exact.
        checks: all that was looked at.
    """

    name: str
    evaluations: int
    figures: tuple[Figures, ...]
    checks: tuple[Check, ...]

    @property
    def unbiased(self) -> bool:
        """Whether the mean gradient is the true one, in all figures."""
        return bool(self.figures) and all(one.unbiased for one in self.figures)

    @property
    def faults(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.fault is not None)

    @property
    def passed(self) -> bool:
        """Whether it is what its class says."""
        return not self.faults


def certify(estimator: Estimator, name: str = "", *, draws: int = 20_000, seed: int = 0) -> Certificate:
    """Measure an estimator, and hold it to what its class says.

    Arguments:
        estimator: of this library, or your own.
        name: what to call it; as its class if not given.
        draws: how many, at least 100, where its moments cannot be exact.
        seed: of those.

    Raises:
        ValueError: If there are too few draws for a mean, or the estimator is of a mixture of flows.

    Example:
        >>> import softhot
        >>> found = certify(softhot.estimators.LeaveOneOut(samples=2))
        >>> found.passed, found.unbiased, found.figures[0].method
        (True, True, 'enumerated')
    """
    if draws < FEWEST:
        raise ValueError(f"draws={draws} are too few for a mean; use {FEWEST} or more, better thousands.")
    name, classes = name or type(estimator).__name__, estimator.classes or _CLASSES
    if estimator.mixture:
        raise ValueError(
            f"{name} is of a mixture of flows, and a certificate of independent variables; for a mixture there is "
            "softhot.distributions.MixtureOfDiscreteFlows.expectation, which is exact."
        )
    try:
        evaluations = estimator.evaluations(_LATENTS, classes)
        found = [measure(estimator, numbers(_LATENTS, classes), draws, seed)]
        if found[0].method == "drawn" and classes > 2:
            fewer = measure(estimator, numbers(_LATENTS, 2), draws, seed)
            found += [fewer] if fewer.method != "drawn" else []
    except Exception as error:  # of whatever kind: it is another's code
        return Certificate(name, 0, (), (Check("call", _raised(error)),))
    figures = [
        Figures(
            *one.shape, one.gradient.fault("") is None, *one.gradient.bias, *one.gradient.spread, one.method, one.count
        )
        for one in found
    ]
    checks: dict[str, Callable[[], str | None]] = {
        "value": lambda: _first(_value(estimator, one) for one in found),
        "gradient": lambda: _first(_gradient(estimator, one) for one in found),
        "parameters of f": lambda: _first(_parameters(estimator, one, seed) for one in found),
        "impossible classes": lambda: _impossible(estimator, classes, draws, seed),
        "shapes and types": lambda: _shapes(estimator),
        "cost": lambda: _cost(estimator),
        "batch": lambda: _batch(estimator),
        "randomness": lambda: _randomness(estimator, classes),
    }
    faults = tuple(Check(what, _attempted(check)) for what, check in checks.items())
    return Certificate(name, evaluations, tuple(figures), faults)


def _first(faults: Iterable[str | None]) -> str | None:
    return next((fault for fault in faults if fault is not None), None)


def _attempted(check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except Exception as error:  # of whatever kind: it is another's code
        return _raised(error)


def _raised(error: Exception) -> str:
    return f"it raises {type(error).__name__}: {' '.join(str(error).split())}"


def _value(estimator: Estimator, found: Measurement) -> str | None:
    return found.value.fault("its mean") if estimator.sample == "hard" else None


def _gradient(estimator: Estimator, found: Measurement) -> str | None:
    side = found.gradient
    if estimator.unbiased:
        return side.fault("the mean gradient", "the scale is wrong, or a baseline contains its own cost")
    cosine = cosine_similarity(side.mean.flatten(), side.truth.flatten(), 0).item()
    if not cosine > 0:
        return f"the mean gradient points away from the true one: the cosine is {cosine:.2g}"
    return None


def _parameters(estimator: Estimator, found: Measurement, seed: int) -> str | None:
    if estimator.sample == "hard":
        return found.parameters.fault("their mean gradient")
    # of another expectation than the discrete one, but still the derivative of the value with the noise held fixed
    own, logits = theta(*found.shape).requires_grad_(), numbers(*found.shape)

    def value(parameters: Tensor) -> Tensor:
        return estimator(integrand(estimator, parameters), logits, generator=torch.Generator().manual_seed(seed))

    (slope,) = torch.autograd.grad(value(own), own, allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        rise = (value(own + _STEP * slope) - value(own - _STEP * slope)) / (2 * _STEP)
    if torch.isclose(rise, slope.square().sum(), rtol=1e-4) and rise != 0:
        return None
    return (
        f"their gradient is not the derivative of the value: {slope.square().sum():.4g}, where it rises by {rise:.4g}"
    )


def _impossible(estimator: Estimator, classes: int, draws: int, seed: int) -> str | None:
    logits = numbers(_LATENTS, classes)
    logits[0, -1] = -math.inf
    _, value, slope = _called(estimator, logits.expand(200, *logits.shape))
    if not (value.isfinite().all() and slope.isfinite().all()):
        return "with logits of -inf the value or the gradient is not finite"
    if (slope[..., 0, -1] != 0).any():
        return "there is a gradient to logits of -inf"
    if estimator.unbiased:
        return measure(estimator, logits, draws, seed).gradient.fault("with logits of -inf, the mean gradient")
    return None


def _shapes(estimator: Estimator) -> str | None:
    for batch, (latents, classes), dtype in itertools.product(((), (5,), (2, 3)), _sizes(estimator), _TYPES):
        logits = numbers(latents, classes).to(dtype).expand(*batch, latents, classes)
        seen, value, slope = _called(estimator, logits)
        where = f"with logits of {dtype} and shape {tuple(logits.shape)}"
        if (value.shape, value.dtype) != (batch, dtype):
            return f"{where} the value is of {value.dtype} and shape {tuple(value.shape)}"
        if not (value.isfinite().all() and slope.isfinite().all()):
            return f"{where} the value or the gradient is not finite"
        hard = [torch.equal(z, (z == z.amax(-1, keepdim=True)).to(dtype)) for z in seen]
        if hard[0] != (estimator.sample == "hard"):
            return f"sample={estimator.sample!r}, but f is {'' if hard[0] else 'not '}evaluated at one-hot vectors"
        if not estimator.differentiable and not all(hard):
            return "differentiable=False, but f is evaluated inside the simplex too"
    return None


def _cost(estimator: Estimator) -> str | None:
    for latents, classes in _sizes(estimator):
        seen, _, _ = _called(estimator, numbers(latents, classes))
        made, stated = sum(z.numel() for z in seen) / (latents * classes), estimator.evaluations(latents, classes)
        if made != stated:
            return f"{stated} evaluations of f are stated for N={latents} and K={classes}, and {made:g} are made"
    return None


def _batch(estimator: Estimator) -> str | None:
    shape = 1, estimator.classes or 2
    f = integrand(estimator, theta(*shape))
    try:
        beside, alone = (
            exact_moments(estimator, f, numbers(*shape), side_by_side=many).gradient for many in (True, False)
        )
    except NotEnumerable:
        return None
    if torch.allclose(beside.mean, alone.mean):
        return None
    return (
        f"the mean gradient is {beside.mean.tolist()} in a batch and {alone.mean.tolist()} alone; do not mix elements "
        "of the batch, such as in a baseline that all of them share"
    )


def _sizes(estimator: Estimator) -> list[tuple[int, int]]:
    return list(itertools.product((1, 2, 3), (estimator.classes,) if estimator.classes else (2, 3, 4, 5)))


def _called(estimator: Estimator, logits: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Where f is evaluated before the backward pass, the value and the gradient."""
    leaf = logits.clone().requires_grad_()
    f, seen = integrand(estimator, theta(*logits.shape[-2:])), []

    def recording(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return f(z)

    value = estimator(recording, leaf, generator=torch.Generator().manual_seed(0))
    points = list(seen)
    (slope,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True, materialize_grads=True)
    return points, value, slope


def _randomness(estimator: Estimator, classes: int) -> str | None:
    state = torch.get_rng_state()
    many = numbers(_LATENTS, classes).expand(50, _LATENTS, classes)
    f = integrand(estimator, theta(_LATENTS, classes))
    first, again = (estimator(f, many, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    if not torch.equal(torch.get_rng_state(), state):
        return "it draws from torch's default generator, though it is given one; pass generator= on"
    if not torch.equal(first, again):
        return "with the same generator it gives another value; draw from generator= alone"
    return None
