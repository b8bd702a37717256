r"""A quadratic programme on the simplex, as the mean cost of two draws from the same distribution.

.. math:: \min_{p \in \Delta} (p - c)^\top Q (p - c) = E[f(z)], \qquad f(z) = (z_1 - c)^\top Q (z_2 - c), \quad
    z_1, z_2 \sim \operatorname{Cat}(p) \text{ independent}

with :math:`Q_{ij} = e^{-2 |i - j|}` and c uniform: positive definite, so that the best is p = c, inside the simplex,
and every draw is a wrong one. The descent starts near a corner.

The programme is that of the Gumbel-Rao paper, which writes it with one draw and a matrix that depends on p, and is
infinite where :math:`p_i + p_j = c_i` for two classes. With two draws nothing depends on p but the draws.

Reference:
    Paulus, Maddison, Krause (2021), "Rao-Blackwellizing the straight-through Gumbel-softmax gradient estimator",
    section 5.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import counted
from softhot.problems.problem import Problem

__all__ = ["QuadraticProgramme"]


@dataclass(frozen=True)
class QuadraticProgramme(Problem):
    """A positive definite quadratic of the probabilities of one variable, which is drawn twice.

    Arguments:
        classes: K.
        initial: the logit of the first class that a descent starts from; the others are zero.

    Example:
        >>> toy = QuadraticProgramme()
        >>> toy.value(toy.logits()), toy.value(torch.zeros(2, 3))
        (tensor(0.4693), tensor(0.))
    """

    source: ClassVar[str] = "Paulus et al. 2021"

    classes: int = 3
    initial: float = 3.0

    def __post_init__(self) -> None:
        counted("classes", self.classes, 2, "leaves nothing to choose")
        if not math.isfinite(self.initial):
            raise ValueError(f"initial={self.initial} is no logit to start from; use initial=3.0, for example.")

    @property
    def latents(self) -> int:
        return 2

    def _f(self, z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        place = torch.arange(self.classes, dtype=z.dtype, device=z.device)
        form = (-2 * (place - place[:, None]).abs()).exp()
        first, second = (z - 1 / self.classes).unbind(-2)
        return ((first @ form) * second).sum(-1)

    def start(self, seed: int = 0) -> Float[Tensor, "K"]:
        """The logits that the two draws share."""
        return torch.cat([torch.tensor([self.initial]), torch.zeros(self.classes - 1)])

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.classes,)

    def _logits(self, parameters: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch N K"]:
        """The same logits, twice."""
        return torch.stack([parameters, parameters], -2)

    def _value(self, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The exact expectation: f of the probabilities, as the draws are independent."""
        return self._f(logits.softmax(-1))

    def minimum(self) -> float:
        """Zero, at equal probabilities."""
        return 0.0
