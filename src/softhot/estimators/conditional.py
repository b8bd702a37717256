"""What every estimator is that averages relaxed samples given the hard one."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass

import torch
from torch import Tensor

from softhot.estimators.estimator import Pathwise
from softhot.functional import with_conditional_gradient
from softhot.functional.check import counted, positive

__all__ = ["Conditional"]


@dataclass(frozen=True)
class Conditional(Pathwise, ABC):
    """A hard sample with the mean gradient of relaxed samples of which it is the largest entry; abstract.

    Arguments:
        samples: the number of draws n of the hard sample.
        temperature: t > 0, of the relaxed samples.
        draws: the number m of relaxed samples for each hard one.
    """

    temperature: float | Tensor = 1.0
    draws: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("temperature", self.temperature, torch.Size())
        counted("draws", self.draws, 1, "leaves nothing to average", who=type(self).__name__)

    def relaxed_given(self, z: Tensor, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """z, with that gradient."""
        return with_conditional_gradient(z, logits, self.temperature, self.draws, generator=generator)
