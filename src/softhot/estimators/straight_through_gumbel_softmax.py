r"""The straight-through Gumbel-softmax estimator: a hard sample, differentiated as the relaxed one of the same noise.

.. math:: \hat g = \tfrac{1}{t} J(z_t) \nabla f(z), \qquad z = \operatorname{one\,hot}(\arg\max_k z_{t, k})

Biased. One evaluation of f, which must be differentiable. The temperature of the backward pass may be decoupled from
that of the relaxed variable, which KL terms refer to.

References:
    Jang, Gu, Poole (2017), "Categorical reparameterization with Gumbel-softmax", section 2.2.
    Shah et al. (2024), "Improving discrete optimisation via decoupled straight-through Gumbel-softmax".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.estimators.estimator import Pathwise
from softhot.functional import gumbel_softmax
from softhot.functional.check import positive

__all__ = ["StraightThroughGumbelSoftmax"]


@dataclass(frozen=True)
class StraightThroughGumbelSoftmax(Pathwise):
    """A hard sample with the gradient of the relaxed sample of the same noise.

    Arguments:
        samples: the number of draws n.
        temperature: t > 0.
        backward_temperature: the temperature of the gradient, t where it is not given.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.StraightThroughGumbelSoftmax(temperature=0.5)(lambda z: z.amax((-1, -2)), logits).item()
        1.0
    """

    relaxed: ClassVar[bool] = True
    source: ClassVar[str] = "Jang et al. 2017; Shah et al. 2024"

    temperature: float | Tensor = 1.0
    backward_temperature: float | Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("temperature", self.temperature, torch.Size())
        if self.backward_temperature is not None:
            positive("backward_temperature", self.backward_temperature, torch.Size())

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        temperature = self.temperature if self.backward_temperature is None else self.backward_temperature
        return gumbel_softmax(logits, temperature, hard=True, generator=generator)
