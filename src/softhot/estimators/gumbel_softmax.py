r"""The Gumbel-softmax (Concrete) estimator: the relaxed sample in place of the hard one.

.. math:: \hat g = \tfrac{1}{t} J(z_t) \nabla f(z_t), \qquad z_t = \operatorname{softmax}((\ell + G) / t)

The exact pathwise gradient of the relaxed expectation :math:`E[f(z_t)]`, and so biased for the discrete one, in value
too. One evaluation of f, which must be differentiable and defined inside the simplex.

References:
    Jang, Gu, Poole (2017), "Categorical reparameterization with Gumbel-softmax".
    Maddison, Mnih, Teh (2017), "The Concrete distribution".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.estimators.estimator import Pathwise
from softhot.functional import relaxed_sample
from softhot.functional.check import positive
from softhot.kl.term import Sample

__all__ = ["GumbelSoftmax"]


@dataclass(frozen=True)
class GumbelSoftmax(Pathwise):
    """A relaxed sample with its own gradient.

    Arguments:
        samples: the number of draws n.
        temperature: t > 0.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(5, 1, 2, requires_grad=True)
        >>> softhot.estimators.GumbelSoftmax(temperature=0.5)(lambda z: z.sum((-1, -2)), logits).shape
        torch.Size([5])
    """

    sample: ClassVar[Sample] = "soft"
    relaxed: ClassVar[bool] = True
    source: ClassVar[str] = "Jang et al. 2017; Maddison et al. 2017"

    temperature: float | Tensor = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("temperature", self.temperature, torch.Size())

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        return relaxed_sample(logits, self.temperature, generator=generator)
