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
from softhot.functional.check import floating

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

    def f(self, z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The cost of hard or relaxed z.

        Raises:
            ValueError: If z is not of shape (*batch, N, K).
        """
        return self._f(_fitting("z", z, self.latents, self.classes))

    @abstractmethod
    def _f(self, z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The cost, of z that fits."""

    def start(self, seed: int = 0) -> Float[Tensor, "..."]:
        """The parameters that a descent starts from; by default the logits themselves, all zero."""
        return torch.zeros(self.latents, self.classes)

    def logits(self, parameters: Float[Tensor, "..."] | None = None) -> Float[Tensor, "*batch N K"]:
        """The logits of parameters, which may have dimensions of a batch in front; by default, those of the start.

        Raises:
            ValueError: If the parameters are not of the shape of the start, with or without a batch.
        """
        return self._logits(self.start() if parameters is None else _fitting("parameters", parameters, *self._shape))

    @property
    def _shape(self) -> tuple[int, ...]:
        """That of the start."""
        return self.latents, self.classes

    def _logits(self, parameters: Float[Tensor, "..."]) -> Float[Tensor, "*batch N K"]:
        """The logits, of parameters that fit."""
        return parameters

    def value(self, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The exact expectation of f, differentiable; by enumeration, unless a problem knows better.

        Raises:
            ValueError: If the logits are not of shape (*batch, N, K), or there are too many configurations.
        """
        return self._value(_fitting("logits", logits, self.latents, self.classes))

    def _value(self, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
        """The expectation, of logits that fit."""
        return Exact(limit=_LIMIT)(self._f, logits)

    def gradient(self, parameters: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The exact gradient to the parameters.

        Raises:
            ValueError: As for their logits, and the value of these.
        """
        floating("parameters", parameters)
        leaf = parameters.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.value(self.logits(leaf)).sum(), leaf)
        return gradient

    def minimum(self) -> float | None:
        """What the expectation tends to at best: the least cost of any configuration; None if there are too many."""
        if self.classes**self.latents > _LIMIT:
            return None
        like = torch.zeros((), dtype=torch.float64)
        parts = configurations(self.latents, self.classes, limit=_LIMIT, chunk=2**12, like=like)
        return min((self._f(z).min().item() for z in parts), default=math.inf)


def _fitting(name: str, value: Tensor, *shape: int) -> Tensor:
    floating(name, value)
    if value.shape[-len(shape) :] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} of shape {tuple(value.shape)} do not fit this problem; use shape (*batch, {wanted}).")
    return value
