r"""What every estimator with a learned control is.

A baseline, a temperature or a surrogate changes the variance of a gradient and not its mean. Its parameters are learned
by a loss of their own: most often the second moment of the gradient, :math:`E \|\hat g\|^2`, whose slope in the control
parameters is that of the variance. That slope must not reach the parameters of f or of the encoder, and the slope of
what is optimised must not reach the control. They are therefore separate: calling an estimator leaves these
parameters as they are, and :meth:`Controlled.learn` gives the same estimate and leaves the slope of the loss in their
``.grad``, for an optimiser of theirs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softhot.estimators.estimator import Estimator
from softhot.estimators.gradients import carry
from softhot.estimators.integrand import Integrand

__all__ = ["Controlled", "Parts"]


class Parts(NamedTuple):
    """A value with the graph of f, the gradient to the logits, and the loss of the control, all per batch element."""

    value: Tensor
    gradient: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Controlled(Estimator, ABC):
    """An unbiased estimator with control parameters that may be learned; abstract."""

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        parts = self.parts(f, logits, generator, learning=False)
        return carry(parts.value, logits, parts.gradient)

    def learn(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch"]:
        """The estimate, as from a call; adds the slope of the control's loss, a mean over the batch, to its ``.grad``.

        The same evaluations of f as a call makes.

        Example:
            >>> import torch, softhot
            >>> baseline = torch.nn.Sequential(torch.nn.Flatten(-2), torch.nn.Linear(6, 1), torch.nn.Flatten(-2))
            >>> estimator = softhot.estimators.ScoreFunction(baseline=baseline)
            >>> optimiser = torch.optim.Adam(baseline.parameters())
            >>> logits = torch.zeros(5, 2, 3, requires_grad=True)
            >>> estimate = estimator.learn(lambda z: z[..., 0].sum(-1), logits)
            >>> optimiser.step()  # the control's own
            >>> estimate.sum().backward()  # to the logits and the parameters of f, as ever
        """
        estimate, loss = self.with_loss(f, logits, generator=generator)
        module = self.control
        learned = [] if module is None else [p for p in module.parameters() if p.requires_grad]
        if learned:
            slopes = torch.autograd.grad(loss, learned, allow_unused=True)
            for parameter, slope in zip(learned, slopes, strict=True):
                if slope is not None:
                    parameter.grad = slope if parameter.grad is None else parameter.grad + slope
        return estimate

    def with_loss(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], *, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, ""]]:
        """The estimate, and the loss of the control, a mean over the batch, or zero of none, with a graph to it.

        Example:
            >>> import torch, softhot
            >>> estimate, loss = softhot.estimators.Rebar().with_loss(lambda z: z[..., 0].sum(-1), torch.zeros(5, 2, 3))
            >>> estimate.shape, loss.requires_grad
            (torch.Size([5]), True)
        """
        with torch.enable_grad():
            parts = self.parts(self.checked(f, logits, generator), logits, generator, learning=True)
        loss = parts.loss.mean() if parts.loss.numel() else parts.loss.sum()
        return carry(parts.value, logits, parts.gradient), loss

    @property
    @abstractmethod
    def control(self) -> nn.Module | None:
        """What is learned."""

    @abstractmethod
    def parts(self, f: Integrand, logits: Tensor, generator: torch.Generator | None, learning: bool) -> Parts:
        """Value, gradient and loss; with ``learning`` the loss has a graph to the control's parameters."""
