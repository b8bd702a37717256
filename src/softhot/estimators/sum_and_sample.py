r"""Sum and sample: the likeliest configurations summed, the rest sampled once.

With C the k likeliest joint configurations of the N variables and r one draw of q given that it is not in C,

.. math:: \hat g = \sum_{z \in C} q(z) \, (f(z) - b) \nabla_\ell \log q_\ell(z)
    + (1 - q(C)) \, (f(r) - b) \nabla_\ell \log q_\ell(r), \qquad b = \frac{1}{q(C)} \sum_{z \in C} q(z) f(z)

Unbiased: the sum is no estimate, and b is no random number. Exact once C is everything. The paper applies the idea to
any gradient of one draw; here it is REINFORCE, and the baseline, which costs nothing, is an addition. Costs k + 1
evaluations of f, or K^N if that is not more, which need not be differentiable; where configurations are impossible,
the likeliest is evaluated again in their place and not counted in.

Reference:
    Liu, Regier, Tripuraneni, Jordan, McAuliffe (2019), "Rao-Blackwellized stochastic gradients for discrete
    distributions".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.distinct import likeliest, outside
from softhot.estimators.estimator import Estimator
from softhot.estimators.gradients import carry, detached, scored
from softhot.estimators.integrand import Integrand
from softhot.functional.check import counted
from softhot.kl.term import Sample

__all__ = ["SumAndSample"]


@dataclass(frozen=True)
class SumAndSample(Estimator):
    """The k likeliest configurations summed, and one draw from the rest.

    Arguments:
        likeliest: their number k, at least 1.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.SumAndSample(likeliest=2)(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Liu et al. 2019"

    likeliest: int = 3

    def __post_init__(self) -> None:
        counted("likeliest", self.likeliest, 1, "sums nothing", who="SumAndSample")

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        known = detached(logits)
        latents, classes = logits.shape[-2:]
        summed = min(self.likeliest, int(classes**latents))
        z, log_p = likeliest(summed, known)
        z = torch.where((log_p == -math.inf)[..., None, None], z[0], z)
        if summed < classes**latents:
            rest, log_rest = outside(z, known, generator)
            z, log_p = torch.cat((z, rest[None])), torch.cat((log_p, log_rest[None]))
        value = f(z.to(logits.dtype))  # with gradient: f may have parameters of its own
        weight = log_p.exp().to(value.dtype)
        with torch.no_grad():
            share = log_p[:summed].softmax(0).to(value.dtype)
            advantage = weight * (value - (share * value[:summed]).sum(0))
            gradient = scored(advantage, z, known).sum(0)
        return carry((weight * value).sum(0), logits, gradient)

    def evaluations(self, latents: int, classes: int) -> int:
        return min(self.likeliest + 1, int(classes**latents))
