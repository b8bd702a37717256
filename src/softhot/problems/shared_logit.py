r"""Bernoulli variables with one logit between them.

.. math:: f(b) = \sum_i (b_i - p_i)^2, \qquad b_i \sim \operatorname{Bernoulli}(\sigma(\eta)), \qquad
    p = (0.6, 0.51, 0.48)

The best is an infinite logit, as the sum of p is above 3/2. The gradient vanishes where the logit is large in either
direction: -4 is a hard start, 0 an easy one.

References:
    Liu, Regier, Tripuraneni, Jordan, McAuliffe (2019), "Rao-Blackwellized stochastic gradients for discrete
    distributions".
    Kool, van Hoof, Welling (2020), "Estimating gradients for discrete random variables by sampling without
    replacement".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.problems.problem import Problem

__all__ = ["SharedLogit"]


@dataclass(frozen=True)
class SharedLogit(Problem):
    """Squared distances of Bernoulli variables, the first class of two, that share their logit.

    Arguments:
        targets: p, one for each variable.
        initial: the logit that a descent starts from.

    Example:
        >>> toy = SharedLogit()
        >>> toy.value(toy.logits()), toy.gradient(toy.start())
        (tensor(0.7605), tensor([-0.0450]))
    """

    source: ClassVar[str] = "Liu et al. 2019; Kool et al. 2020"

    targets: tuple[float, ...] = (0.6, 0.51, 0.48)
    initial: float = 0.0

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets=() leaves no variable; use targets=(0.6, 0.51, 0.48), for example.")
        if not all(map(math.isfinite, (*self.targets, self.initial))):
            raise ValueError(
                f"targets={self.targets} and initial={self.initial} are not all finite; use targets=(0.6, 0.51, 0.48) "
                "and initial=0.0, for example."
            )

    @property
    def latents(self) -> int:
        return len(self.targets)

    @property
    def classes(self) -> int:
        return 2

    def _f(self, z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        return (z[..., 0] - z.new_tensor(self.targets)).square().sum(-1)

    def start(self, seed: int = 0) -> Float[Tensor, "1"]:
        """The one logit."""
        return torch.tensor([self.initial])

    @property
    def _shape(self) -> tuple[int, ...]:
        return (1,)

    def _logits(self, parameters: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch N K"]:
        """The logit and 0, for every variable."""
        pair = torch.stack([parameters, torch.zeros_like(parameters)], -1)
        return pair.expand(*pair.shape[:-2], self.latents, 2)

    def _value(self, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The exact expectation; every variable has its own term."""
        p = logits.new_tensor(self.targets)
        return (logits.softmax(-1) * torch.stack([(1 - p).square(), p.square()], -1)).sum((-1, -2))

    def minimum(self) -> float:
        """That of all or none, which is what one logit can tend to."""
        return min(sum((b - p) ** 2 for p in self.targets) for b in (0, 1))
