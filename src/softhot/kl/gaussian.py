r"""The divergence of two relaxed variables of Gaussian noise (the invertible Gaussian relaxation).

.. math:: E_q[\log q(z) - \log p(z)] = \sum_{k < K} \frac{(\mu_k - \mu'_k)^2}{2 \sigma^2}, \qquad
    \mu_k = \ell_k - \ell_K, \quad \mu'_k = \ell'_k - \ell'_K

with the notation of :mod:`softhot.functional.gaussian`, and the same :math:`\sigma`, :math:`\delta` and temperature for
both: the map from the Gaussian variable y to z is then the same, and the divergence is that of the Gaussians, whatever
:math:`\delta` and the temperature are. Densities here are those of y. With the log-likelihood at a relaxed sample it
bounds that of the relaxed model, whose prior is such a variable too.

Reference:
    Potapczynski, Loaiza-Ganem, Cunningham (2020), "Invertible Gaussian reparameterization: revisiting the
    Gumbel-softmax".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.functional import gaussian_means, gaussian_sample, log_of
from softhot.functional.check import per_row, positive
from softhot.kernels.noise import Noise
from softhot.kernels.temper import column
from softhot.kl.term import Sample, Term, apart

__all__ = ["Gaussian"]


@dataclass(frozen=True)
class Gaussian(Term):
    r"""The divergence of the estimator ``InvertibleGaussian``'s variable, exactly or at one sample.

    Arguments:
        exact: the exact value, or one Monte Carlo draw.
        scale: :math:`\sigma`, as the estimator's.
        delta: :math:`\delta`, as the estimator's.

    Example:
        >>> import torch, softhot
        >>> softhot.kl.Gaussian()(torch.tensor([1.0, 2.0, 0.0]), torch.zeros(3), temperature=0.5)
        tensor(2.5000)
    """

    sample: ClassVar[Sample] = "soft"
    temperate: ClassVar[bool] = True
    noise: ClassVar[Noise] = "normal"
    bounds: ClassVar[dict[Sample, str | None]] = {"hard": None, "soft": "the log-likelihood of the relaxed model"}

    scale: float = 1.0
    delta: float = 1.0

    def __post_init__(self) -> None:
        positive("scale", self.scale, torch.Size())
        positive("delta", self.delta, torch.Size())

    @property
    def settings(self) -> dict[str, float]:
        return {"scale": self.scale, "delta": self.delta}

    def draw(self, logits: Tensor, temperature: float | Tensor, generator: torch.Generator | None) -> Tensor:
        return gaussian_sample(logits, temperature, self.scale, self.delta, generator=generator)

    def integrand(self, z: Tensor, logits: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        singular = apart(logits, prior_logits)
        prior_logits = torch.where(singular[..., None], logits, prior_logits)  # the face that z is on
        return super().integrand(z, logits, prior_logits, temperature).masked_fill(singular, math.inf)

    def log_q(self, z: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
        means, rest = gaussian_means(logits)
        free = (means > -math.inf) & ~rest
        log_z = torch.where(free | rest, log_of(z), 0.0)
        last = log_z.masked_fill(~rest, 0.0).sum(-1, keepdim=True)
        heat = per_row("temperature", temperature, log_z)
        y = column(heat) * (log_z - last + math.log(self.delta))
        squares = torch.where(free, y - torch.where(free, means, 0.0), 0.0).square().sum(-1)
        density = -squares / (2 * self.scale**2) - self._units * free.sum(-1)
        return density.to(logits.dtype)

    def log_p(self, z: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        return self.log_q(z, prior_logits, temperature)

    def expected_log_q(self, logits: Tensor, temperature: float | Tensor) -> Tensor:
        free = (logits > -math.inf).sum(-1) - 1
        return (-(self._units + 0.5) * free).to(logits.dtype)

    def value(self, logits: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        logits, prior_logits = torch.broadcast_tensors(logits, prior_logits)
        per_row("temperature", temperature, logits)
        ours, theirs = (gaussian_means(x)[0] for x in (logits, prior_logits))
        both = (ours > -math.inf) & (theirs > -math.inf)
        squares = (torch.where(both, ours, 0.0) - torch.where(both, theirs, 0.0)).square().sum(-1)
        divergence = squares / (2 * self.scale**2)
        return divergence.masked_fill(apart(logits, prior_logits), math.inf).to(logits.dtype)

    @property
    def _units(self) -> float:
        return 0.5 * math.log(2 * math.pi) + math.log(self.scale)
