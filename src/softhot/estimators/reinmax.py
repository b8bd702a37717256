r"""ReinMax: the straight-through estimator of second order (Heun's method).

.. math:: \hat g = 2 J\big(\tfrac{1}{2} (\pi_t + z)\big) \nabla f(z) - \tfrac{1}{2} J(\pi) \nabla f(z), \qquad
    \pi_t = \operatorname{softmax}(\ell / t), \quad J(\pi) = \operatorname{diag}(\pi) - \pi \pi^\top

with z a hard sample. Biased; at t = 1 exact in expectation for quadratic f. One evaluation of f, which
must be differentiable.

Reference:
    Liu, Dong, Liu, Yu, Gao (2023), "Bridging discrete and backpropagation: straight-through and beyond".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.estimators.estimator import Pathwise
from softhot.functional import one_hot_sample, with_gradient_of
from softhot.functional.check import positive

__all__ = ["ReinMax", "midpoint"]


@dataclass(frozen=True)
class ReinMax(Pathwise):
    """A hard sample with a gradient that is exact for quadratics at temperature 1.

    Arguments:
        samples: the number of draws n.
        temperature: t > 0, of the first term alone.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.ReinMax()(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    source: ClassVar[str] = "Liu et al. 2023"

    temperature: float | Tensor = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("temperature", self.temperature, torch.Size())

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        z = one_hot_sample(logits.detach(), generator=generator)
        middle = midpoint(logits, z, self.temperature).softmax(-1)
        return with_gradient_of(z, 2 * middle - 0.5 * logits.softmax(-1))


def midpoint(logits: Tensor, z: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Logits of the distribution half-way between softmax(l / t) and the hard sample, which move with l one for one."""
    with torch.no_grad():
        middle = ((logits / temperature).softmax(-1) + z).log() - math.log(2)
    possible = middle > -math.inf
    finite = torch.where(possible, logits, 0.0)
    return torch.where(possible, middle + (finite - finite.detach()), -math.inf)
