r"""The straight-through estimator: a hard sample, differentiated as if it were softmax(l).

.. math:: \hat g = J(\pi) \nabla f(z), \qquad J(\pi) = \operatorname{diag}(\pi) - \pi \pi^\top

Biased, but for linear f. One evaluation of f, which must be differentiable.

Reference:
    Bengio, Léonard, Courville (2013), "Estimating or propagating gradients through stochastic neurons".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.estimators.estimator import Pathwise
from softhot.functional import straight_through

__all__ = ["StraightThrough"]


@dataclass(frozen=True)
class StraightThrough(Pathwise):
    """A hard sample with the gradient of softmax(l).

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.StraightThrough()(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    source: ClassVar[str] = "Bengio et al. 2013"

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        return straight_through(logits, generator=generator)
