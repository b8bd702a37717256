r"""RELAX: the score function with a learned function of the relaxed sample as a control variate.

The gradient of :mod:`softhot.estimators.relaxed_control` with c a surrogate, any differentiable module of relaxed z,
and :math:`\eta = 1`. Unbiased whatever the surrogate is; :meth:`Relax.learn` gives its parameters the slope of the
second moment of the gradient. Costs one evaluation of f, which need not be differentiable, and one of the surrogate,
whose relaxed sample stands for the conditional one as well; learning adds a second backward pass through the surrogate.
The paper's own choice, f at the relaxed sample plus a network, is a surrogate as well, for a differentiable f.

Reference:
    Grathwohl, Choi, Wu, Roeder, Duvenaud (2018), "Backpropagation through the void: optimizing control variates for
    black-box gradient estimation".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softhot.estimators.controlled import Controlled, Parts
from softhot.estimators.integrand import Integrand, numbers
from softhot.estimators.relaxed_control import relaxed_control
from softhot.functional.check import positive
from softhot.kl.term import Sample

__all__ = ["QuadraticSurrogate", "Relax"]


class QuadraticSurrogate(nn.Module):
    r"""A surrogate :math:`c(z) = b^\top z + z^\top A z` of all N variables, zero before it is learned.

    The second moment of the gradient is a convex function of its parameters.

    Arguments:
        latents, classes: N and K; the matrix A has (N K)^2 entries.

    Example:
        >>> import torch, softhot
        >>> softhot.estimators.QuadraticSurrogate(2, 3)(torch.zeros(5, 2, 3)).shape
        torch.Size([5])
    """

    def __init__(self, latents: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.zeros(latents * classes))
        self.matrix = nn.Parameter(torch.zeros(latents * classes, latents * classes))

    def forward(self, z: Tensor) -> Tensor:
        """The value at relaxed z of shape (..., N, K)."""
        z = z.flatten(-2)
        return ((z @ self.matrix.to(z.dtype) + self.linear.to(z.dtype)) * z).sum(-1)


class _Nothing(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.new_zeros(z.shape[:-2])


@dataclass(frozen=True)
class Relax(Controlled):
    r"""The score function of what a surrogate leaves, and the pathwise gradient of the latter.

    Arguments:
        surrogate: a module that maps relaxed z of shape (\*batch, N, K) to (\*batch), such as
            :class:`QuadraticSurrogate`; zero if not given, which leaves the score function.
        temperature: t > 0, of the relaxed sample that the surrogate is given.

    Example:
        >>> import torch, softhot
        >>> surrogate = softhot.estimators.QuadraticSurrogate(latents=1, classes=2)
        >>> logits = torch.zeros(5, 1, 2, requires_grad=True)
        >>> estimate = softhot.estimators.Relax(surrogate).learn(lambda z: z[..., 0].sum(-1), logits)
        >>> surrogate.linear.grad.shape
        torch.Size([2])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Grathwohl et al. 2018"

    surrogate: nn.Module = field(default_factory=_Nothing)
    temperature: float | Tensor = 0.5

    def __post_init__(self) -> None:
        positive("temperature", self.temperature, torch.Size())

    @classmethod
    def of_size(cls, latents: int, classes: int, **settings: Any) -> Self:
        """With a quadratic surrogate, unless another is given."""
        return cls(**{"surrogate": QuadraticSurrogate(latents, classes), **settings})

    @property
    def control(self) -> nn.Module | None:
        return self.surrogate

    def parts(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None, learning: bool
    ) -> Parts:
        return relaxed_control(
            f, numbers(self.surrogate, "surrogate"), logits, self.temperature, 1.0, generator, learning
        )

    def evaluations(self, latents: int, classes: int) -> int:
        return 1
