r"""MuProp: the score function with the first-order Taylor expansion about the mean as a control variate.

.. math:: \hat g = \big( f(z) - f(\pi) - f'(\pi)^\top (z - \pi) \big) \nabla_\ell \log q_\ell(z) + J(\pi) f'(\pi),
    \qquad J(\pi) = \operatorname{diag}(\pi) - \pi \pi^\top

Unbiased; of variance zero for linear f. Costs two evaluations of f, at z and at the mean :math:`\pi`; f must be
differentiable and defined inside the simplex. The parameters of f get their gradient at z alone.

Reference:
    Gu, Levine, Sutskever, Mnih (2016), "MuProp: unbiased backpropagation for stochastic neural networks".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.estimator import Estimator
from softhot.estimators.gradients import carry, detached, with_slope
from softhot.estimators.integrand import Integrand
from softhot.functional import one_hot_sample
from softhot.kl.term import Sample

__all__ = ["MuProp"]


@dataclass(frozen=True)
class MuProp(Estimator):
    """The score function of what a Taylor expansion about the mean leaves.

    Raises:
        ValueError: When called, if f is not differentiable in z.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.MuProp()(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Gu et al. 2016"

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        z = one_hot_sample(logits.detach(), generator=generator)
        value = f(z)  # with gradient: f may have parameters of its own
        probs = detached(logits).softmax(-1)
        middle, slope = with_slope(f, probs.to(logits.dtype), "MuProp")
        with torch.no_grad():
            score = z - probs
            rest = value - middle - (slope * score).sum((-1, -2))
            straight = probs * (slope - (probs * slope).sum(-1, keepdim=True))
            gradient = rest[..., None, None] * score + straight
        return carry(value, logits, gradient)

    def evaluations(self, latents: int, classes: int) -> int:
        return 2
