r"""REINFORCE with a leave-one-out baseline.

.. math:: \hat g = \frac{1}{n} \sum_i \Big( f(z_i) - \frac{1}{n - 1} \sum_{j \neq i} f(z_j) \Big)
    \nabla_\ell \log q_\ell(z_i)

Unbiased: the baseline of :math:`z_i` does not see :math:`z_i`. Costs n evaluations of f, which need not be
differentiable.

References:
    Kool, van Hoof, Welling (2019), "Buy 4 REINFORCE samples, get a baseline for free!"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.estimator import Estimator
from softhot.estimators.integrand import Integrand
from softhot.functional import log_mass, one_hot_sample
from softhot.functional.check import counted
from softhot.kl.term import Sample

__all__ = ["LeaveOneOut"]


@dataclass(frozen=True)
class LeaveOneOut(Estimator):
    """REINFORCE with a leave-one-out baseline.

    Arguments:
        samples: the number of draws n, at least 2.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 3, requires_grad=True)
        >>> softhot.estimators.LeaveOneOut(samples=4)(lambda z: z.sum((-1, -2)), logits).item()
        1.0
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Kool et al. 2019"

    samples: int = 4

    def __post_init__(self) -> None:
        counted("samples", self.samples, 2, "has no other draw to use as a baseline", who="LeaveOneOut")

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        z = one_hot_sample(logits.expand(self.samples, *logits.shape), generator=generator)
        value = f(z)  # with gradient: f may have parameters of its own
        log_q = log_mass(z, logits).sum(-1)
        # f_i - mean of the others == (f_i - mean of all) * n / (n - 1)
        advantage = (value - value.mean(0)).detach() * self.samples / (self.samples - 1)
        return (value + advantage * (log_q - log_q.detach())).mean(0)

    def evaluations(self, latents: int, classes: int) -> int:
        return self.samples
