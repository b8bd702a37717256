r"""ZGR: the limit of the Gumbel-Rao estimator at temperature zero.

.. math:: \hat g = \tfrac{1}{2} \big( J(\pi) + (z - \pi) (z - \pi)^\top \big) \nabla f(z), \qquad
    J(\pi) = \operatorname{diag}(\pi) - \pi \pi^\top

with z a hard sample: the mean of the straight-through estimator and of the score times a linear approximation of
:math:`f(z) - f(\pi)`. Biased, but exact in expectation for quadratic f. One evaluation of f, which must be
differentiable. As :math:`\operatorname{diag}(z) = z z^\top` for a one-hot z, it is ReinMax at temperature 1.

Reference:
    Shekhovtsov (2023), "Cold analysis of Rao-Blackwellized straight-through Gumbel-softmax gradient estimator".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.estimators.estimator import Pathwise
from softhot.functional import log_mass, one_hot_sample, with_gradient_of

__all__ = ["Zgr"]


@dataclass(frozen=True)
class Zgr(Pathwise):
    """A hard sample with a gradient that is exact for quadratics, and has no temperature.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.Zgr()(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    source: ClassVar[str] = "Shekhovtsov 2023"

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        z = one_hot_sample(logits.detach(), generator=generator)
        pi = logits.softmax(-1)
        return with_gradient_of(z, 0.5 * (pi + (z - pi.detach()) * log_mass(z, logits)[..., None]))
