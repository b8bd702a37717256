r"""Quadratics of one-hot variables, with interactions between them.

.. math:: f(z) = (z - c)^\top Q \, (z - c)

for z as a vector of N K entries, with c uniform, every entry 1 / K. The expectation is f of the mean :math:`\pi` plus
:math:`\sum_n \operatorname{tr} Q_n J(\pi_n)`, with :math:`Q_n` the block of variable n and
:math:`J(\pi) = \operatorname{diag}(\pi) - \pi \pi^\top`.

:math:`Q = (A + A^\top) / \sqrt{2 N K}` with A of normal numbers from a seed of torch is not definite. Estimators that
are exact up to second order have no bias here, and differ in variance alone.

Reference:
    Hooper, Shekhovtsov (2026), "Generalized and optimal straight-through estimators".
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

__all__ = ["Quadratic"]


@dataclass(frozen=True)
class Quadratic(Problem):
    """A random quadratic.

    Arguments:
        latents: N.
        classes: K.
        seed: of Q.

    Example:
        >>> toy = Quadratic(latents=2, classes=3)
        >>> toy.value(toy.logits()).item() >= toy.minimum()
        True
    """

    source: ClassVar[str] = "Hooper & Shekhovtsov 2026"

    latents: int = 6
    classes: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        counted("latents", self.latents, 1, "leaves nothing to choose")
        counted("classes", self.classes, 2, "leaves nothing to choose")

    def form(self, like: Tensor) -> Float[Tensor, "NK NK"]:
        """Q, in the dtype and device of a tensor."""
        size = self.latents * self.classes
        a = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(self.seed))
        return (a + a.T).div(math.sqrt(2 * size)).to(like)

    def _f(self, z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        centred = z.flatten(-2) - 1 / self.classes
        return ((centred @ self.form(z)) * centred).sum(-1)

    def _value(self, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The exact expectation, from the mean and the covariance."""
        pi = logits.softmax(-1)
        blocks = self.form(pi).reshape(self.latents, self.classes, self.latents, self.classes)
        own = blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # N K K
        spread = pi * own.diagonal(dim1=1, dim2=2) - pi * (own @ pi[..., None]).squeeze(-1)
        return self._f(pi) + spread.sum((-1, -2))
