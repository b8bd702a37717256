r"""VIMCO: the gradient of the bound of n draws, with a baseline for each from the others.

Here f is a log weight, such as :math:`\log p(x, z) - \log q(z)`, and the value is not that of E f but the n-sample
(importance-weighted) bound

.. math:: L = \log \frac{1}{n} \sum_i e^{f(z_i)}, \qquad \hat g = \sum_i (L - L_{-i}) \nabla_\ell \log q_\ell(z_i)
    + \nabla L

where :math:`L_{-i}` is L with :math:`f(z_i)` replaced by the mean of the others, and :math:`\nabla L` is the gradient
through f itself: to its parameters, and to the logits where f depends on them beside z. Unbiased for E L. Costs n
evaluations of f, which need not be differentiable.

Where all other weights are zero there is no baseline; zero takes its place.

Reference:
    Mnih, Rezende (2016), "Variational inference for Monte Carlo objectives".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.estimator import Estimator
from softhot.estimators.gradients import carry, detached, scored
from softhot.estimators.integrand import Integrand
from softhot.functional import one_hot_sample
from softhot.functional.check import counted
from softhot.kl.term import Sample

__all__ = ["Vimco"]


@dataclass(frozen=True)
class Vimco(Estimator):
    """The n-sample bound of log weights f, with its gradient.

    Arguments:
        samples: the number of draws n, at least 2.

    Example:
        >>> import torch, softhot
        >>> from softhot.functional import log_mass
        >>> prior, logits = torch.zeros(3, 4), torch.zeros(5, 3, 4, requires_grad=True)
        >>> def log_weight(z):
        ...     return z[..., 0].sum(-1) + (log_mass(z, prior) - log_mass(z, logits)).sum(-1)
        >>> softhot.estimators.Vimco(samples=8)(log_weight, logits).shape
        torch.Size([5])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Mnih & Rezende 2016"
    multi_sample: ClassVar[bool] = True

    samples: int = 4

    def __post_init__(self) -> None:
        counted("samples", self.samples, 2, "has no other draw for a baseline", who="Vimco")

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        z = one_hot_sample(logits.detach().expand(self.samples, *logits.shape), generator=generator)
        log_weight = f(z)  # with gradient: f may have parameters of its own
        bound = log_weight.logsumexp(0) - math.log(self.samples)
        with torch.no_grad():
            own = torch.eye(self.samples, dtype=torch.bool, device=z.device)
            own = own.reshape(*own.shape, *(1,) * (log_weight.dim() - 1))
            middle = log_weight.masked_fill(own, 0.0).sum(1, keepdim=True) / (self.samples - 1)
            without = torch.where(own, middle, log_weight).logsumexp(1) - math.log(self.samples)
            signal = bound - without.masked_fill(without == -math.inf, 0.0)
            gradient = scored(signal, z, detached(logits)).sum(0)
        return carry(bound, logits, gradient)

    def evaluations(self, latents: int, classes: int) -> int:
        return self.samples
