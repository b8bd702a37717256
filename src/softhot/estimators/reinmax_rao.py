r"""ReinMax-Rao: ReinMax with its first term replaced by the Gumbel-Rao one.

.. math:: \hat g = \frac{2}{m} \sum_{j=1}^m \tfrac{1}{t} J(z_j) \nabla f(z) - \tfrac{1}{2} J(\pi) \nabla f(z), \qquad
    z_j \sim \operatorname{softmax}((c + G) / t) \text{ given } z, \quad c = \log\tfrac{1}{2} (\pi + z)

with z a hard sample. Biased, for linear f too. One evaluation of f, which must be differentiable.

Reference:
    Wang, Bui (2026), "Beyond ReinMax: low-variance gradient estimators for discrete latent variables".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.estimators.conditional import Conditional
from softhot.estimators.reinmax import midpoint
from softhot.functional import one_hot_sample, with_gradient_of

__all__ = ["ReinMaxRao"]


@dataclass(frozen=True)
class ReinMaxRao(Conditional):
    """ReinMax with relaxed samples around the middle.

    Arguments:
        samples: the number of draws n of the hard sample.
        temperature: t > 0, of the relaxed samples.
        draws: the number m of relaxed samples for each hard one.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.ReinMaxRao(draws=10)(lambda z: z.amax((-1, -2)), logits).item()
        1.0
    """

    source: ClassVar[str] = "Wang & Bui 2026"

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        z = one_hot_sample(logits.detach(), generator=generator)
        middle = midpoint(logits, z)
        first = self.relaxed_given(z, middle, generator)
        return with_gradient_of(z, 2 * first - 0.5 * logits.softmax(-1))
