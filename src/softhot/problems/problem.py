r"""What a problem with known truth is.

.. math:: \min_\theta E_{q_\theta}[f(z)], \qquad
    q_\theta(z) = \prod_{n=1}^N \operatorname{Cat}(z_n; \operatorname{softmax}(\ell_n(\theta)))

with an objective whose value, and so its gradient, is known exactly: it separates, is a quadratic, or is enumerated.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators import Exact, configurations

__all__ = ["Problem"]

_LIMIT = 2**16


@dataclass(frozen=True)
class Problem(ABC):
    """A problem with known truth; abstract.

    Attributes:
        source: where it comes from.
        latents: N.
        classes: K.
    """

    source: ClassVar[str]

    @property
    @abstractmethod
    def latents(self) -> int:
        """The number of variables N."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """The number of classes K."""

    @abstractmethod
    def f(self, z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The cost of hard or relaxed z."""

    def start(self, seed: int = 0) -> Float[Tensor, "..."]:
        """The parameters that a descent starts from; by default the logits themselves, all zero."""
        return torch.zeros(self.latents, self.classes)

    def logits(self, parameters: Float[Tensor, "..."] | None = None) -> Float[Tensor, "*batch N K"]:
        """The logits of parameters, which may have dimensions of a batch in front; by default, those of the start."""
        return self.start() if parameters is None else parameters

    def value(self, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The exact expectation of f, differentiable; by enumeration, unless a problem knows better.

        Raises:
            ValueError: If there are too many configurations.
        """
        return Exact(limit=_LIMIT)(self.f, logits)

    def gradient(self, parameters: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The exact gradient to the parameters."""
        leaf = parameters.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.value(self.logits(leaf)).sum(), leaf)
        return gradient

    def minimum(self) -> float | None:
        """What the expectation tends to at best: the least cost of any configuration; None if there are too many."""
        if self.classes**self.latents > _LIMIT:
            return None
        like = torch.zeros((), dtype=torch.float64)
        parts = configurations(self.latents, self.classes, limit=_LIMIT, chunk=2**12, like=like)
        return min((self.f(z).min().item() for z in parts), default=math.inf)
