r"""Polynomial programming: every variable is to come close to a target that none of its classes hits.

.. math:: f(z) = \frac{1}{N} \sum_n |v^\top z_n - c|^p

With v = (1, 0), c = 0.45 and N = 128 it is that of ReinMax, at p = 1.5, 2 and 3; the second class costs least, and the
first little more. With N = 1 and p = 2 it is the toy of REBAR, at c = 0.45 or, in RELAX, 0.499. A version
with four classes has for v the four normal numbers of torch's seed 0, moved and scaled to the range from 0 to 1.

References:
    Liu, Dong, Liu, Yu, Gao (2023), "Bridging discrete and backpropagation: straight-through and beyond", section 5.
    Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein (2017), "REBAR", section 5.1.
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

__all__ = ["Polynomial", "normal_values"]


@dataclass(frozen=True)
class Polynomial(Problem):
    """The mean over variables of the distance to a target, to some power.

    Arguments:
        latents: N.
        values: v, one for each class.
        target: c.
        power: p, at least 1.

    Example:
        >>> import torch
        >>> Polynomial(latents=1).value(torch.zeros(1, 2))  # 0.5 * 0.55^2 + 0.5 * 0.45^2
        tensor(0.2525)
    """

    source: ClassVar[str] = "Liu et al. 2023; Tucker et al. 2017"

    latents: int = 128
    values: tuple[float, ...] = (1.0, 0.0)
    target: float = 0.45
    power: float = 2.0

    def __post_init__(self) -> None:
        counted("latents", self.latents, 1, "leaves nothing to choose")
        if len(self.values) < 2 or not all(map(math.isfinite, (*self.values, self.target))):
            raise ValueError(
                f"values={self.values} with target={self.target} leave nothing to choose; use two values or "
                "more, and no NaN or infinities."
            )
        if not 1 <= self.power < math.inf:
            raise ValueError(f"power={self.power} has no gradient at the target; use power=2.0, for example.")

    @property
    def classes(self) -> int:
        return len(self.values)

    def _f(self, z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        return (z @ z.new_tensor(self.values) - self.target).abs().pow(self.power).mean(-1)

    def start(self, seed: int = 0) -> Float[Tensor, "N K"]:
        """Logits between -0.01 and 0.01, as in the code of ReinMax."""
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(self.latents, self.classes, generator=generator) * 0.02 - 0.01

    def _value(self, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The exact expectation; every variable has its own term."""
        costs = (logits.new_tensor(self.values) - self.target).abs().pow(self.power)
        return (logits.softmax(-1) @ costs).mean(-1)

    def minimum(self) -> float:
        return min(math.pow(abs(value - self.target), self.power) for value in self.values)


def normal_values(classes: int = 4, seed: int = 0) -> tuple[float, ...]:
    """Normal numbers of a seed of torch, moved and scaled to the range from 0 to 1.

    Raises:
        ValueError: If they are fewer than two.

    Example:
        >>> [round(value, 4) for value in normal_values()]
        [1.0, 0.5068, 0.0, 0.7385]
    """
    counted("classes", classes, 2, "spans no range")
    values = torch.randn(classes, generator=torch.Generator().manual_seed(seed)).double()
    return tuple(((values - values.min()) / (values.max() - values.min())).tolist())
