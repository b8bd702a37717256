r"""What an estimator gives on average beside the truth, and how far the two are apart.

The integrand is one in which variables interact, smooth and no polynomial. With :math:`a = \sum z \theta` and
:math:`b = \sum z w`, for parameters :math:`\theta` and constants w of the shape of z, it is

.. math:: f(z) = a b + \log(1 + e^{a + 2 b})

An estimator that says that f need not be differentiable is given one that is not: the same function of a copy of z.
The truth is found by enumeration. What an estimator gives is enumerated too where that is possible, and drawn
otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from softhot.estimators import Estimator, Integrand
from softhot.testing.enumeration import exact_value, target
from softhot.testing.outcomes import NotEnumerable, exact_moments
from softhot.testing.statistics import assert_mean

__all__ = ["Beside", "Measurement", "Method", "integrand", "measure", "numbers", "theta"]

Method = Literal["enumerated", "integrated", "drawn"]
_EXACT: dict[Method, float] = {"enumerated": 1e-10, "integrated": 1e-6}  # relative to the root mean square


@dataclass(frozen=True)
class Beside:
    """Something that an estimator gives, beside the truth; there are draws if mean and variance are of them."""

    truth: Tensor
    mean: Tensor
    variance: Tensor
    method: Method
    draws: Tensor | None = None

    @property
    def bias(self) -> tuple[float, float]:
        """The distance of the mean from the truth, relative to the latter, and what noise alone would give."""
        noise = 0.0 if self.draws is None else self.variance.sum().item() / len(self.draws)
        size = self.truth.norm().item()
        return (self.mean - self.truth).norm().item() / size, math.sqrt(noise) / size

    @property
    def spread(self) -> tuple[float, float]:
        """The trace of the covariance, relative to the squared truth, and its standard error."""
        size = self.truth.square().sum().item()
        error = 0.0
        if self.draws is not None:
            squares = (self.draws - self.mean).flatten(1).square().sum(1)
            error = squares.std().item() / math.sqrt(len(squares))
        return self.variance.sum().item() / size, error / size

    def fault(self, what: str, shrunk: str = "the scale is wrong") -> str | None:
        """How the mean differs from the truth; None if it does not, beyond rounding or noise.

        Arguments:
            what: the mean of what.
            shrunk: what is the likely reason where it is a part of the truth.
        """
        if not self.mean.isfinite().all():
            return f"{what} is not finite"
        if self.draws is not None:
            try:
                assert_mean(self.draws.float(), self.truth)
            except AssertionError as error:
                return f"{what} {self._relation(shrunk)}: {error}"
            return None
        allowed = _EXACT[self.method] * (self.truth.square() + self.variance).sum().sqrt()
        if (self.mean - self.truth).abs().max() <= allowed:
            return None
        return f"{what} {self._relation(shrunk)}"

    def _relation(self, shrunk: str) -> str:
        bias, noise = self.bias
        times = ((self.mean * self.truth).sum() / self.truth.square().sum()).item()
        rest = (self.mean - times * self.truth).norm().item() / self.truth.norm().item()
        if rest > max(1e-6, 3 * noise):
            return f"is {100 * bias:.2g} % off the truth"
        why = ""
        if abs(times + 1) < 0.01:
            why = ": the sign is wrong"
        elif abs(times) < 0.01:
            why = ": there is none"
        elif 0 < times < 1:
            why = f": {shrunk}"
        return f"is {times:.3g} times the truth{why}"


@dataclass(frozen=True)
class Measurement:
    """The value, the gradient to the logits and that to the parameters of f; of how many outcomes or draws."""

    value: Beside
    gradient: Beside
    parameters: Beside
    method: Method
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        """N and K."""
        latents, classes = self.gradient.truth.shape
        return latents, classes


def numbers(latents: int, classes: int) -> Tensor:
    """Logits that are the same everywhere."""
    return torch.sin(2.0 * torch.arange(1, latents * classes + 1, dtype=torch.float64)).reshape(latents, classes)


def theta(latents: int, classes: int) -> Tensor:
    """The parameters of f."""
    return 1.5 * torch.cos(torch.arange(latents * classes, dtype=torch.float64)).reshape(latents, classes)


def integrand(estimator: Estimator, parameters: Tensor) -> Integrand:
    """f of the module's docstring, with parameters of shape (*batch, N, K)."""

    def f(z: Tensor) -> Tensor:
        if not estimator.differentiable:
            z = z.detach()
        weight = torch.sin(3.0 + torch.arange(z.shape[-2:].numel(), device=z.device)).reshape(z.shape[-2:]).to(z.dtype)
        a, b = (z * parameters.to(z.dtype)).sum((-1, -2)), (z * weight).sum((-1, -2))
        return a * b + softplus(a + 2 * b)

    return f


def measure(estimator: Estimator, logits: Tensor, draws: int, seed: int) -> Measurement:
    """What one call gives with logits of shape (N, K): exactly if its draws can be enumerated, otherwise drawn."""
    parameters = theta(*logits.shape)
    truths = _truths(estimator, logits, parameters)
    try:
        found = exact_moments(estimator, lambda z, p: integrand(estimator, p)(z), logits, [parameters])
    except NotEnumerable:
        many = _drawn(estimator, logits, parameters, draws, seed)
        value, gradient, own = (Beside(t, d.mean(0), d.var(0), "drawn", d) for t, d in zip(truths, many, strict=True))
        return Measurement(value, gradient, own, "drawn", draws)
    method: Method = "integrated" if found.integrated else "enumerated"
    moments = (found.value, found.gradient, *found.parameters)
    value, gradient, own = (Beside(t, *m, method) for t, m in zip(truths, moments, strict=True))
    return Measurement(value, gradient, own, method, found.outcomes)


def _drawn(estimator: Estimator, logits: Tensor, parameters: Tensor, draws: int, seed: int) -> list[Tensor]:
    leaf, own = (each.expand(draws, *each.shape).clone().requires_grad_() for each in (logits, parameters))
    value = estimator(integrand(estimator, own), leaf, generator=torch.Generator().manual_seed(seed))
    slopes = torch.autograd.grad(value.sum(), (leaf, own), allow_unused=True, materialize_grads=True)
    return [value.detach(), *slopes]


def _truths(estimator: Estimator, logits: Tensor, parameters: Tensor) -> list[Tensor]:
    leaf, own = logits.clone().requires_grad_(), parameters.clone().requires_grad_()
    value = exact_value(*target(estimator, integrand(estimator, own), leaf))
    return [value.detach(), *torch.autograd.grad(value, (leaf, own))]
