r"""Local expectation gradients: each variable summed out, given the others.

.. math:: \hat g_{nk} = \pi_{nk} \Big( f(z_{-n}, k) - \sum_j \pi_{nj} f(z_{-n}, j) \Big)

where :math:`f(z_{-n}, k)` is f at the sample z with its variable n set to class k. Unbiased; exact for one variable.
Costs N (K - 1) + 1 evaluations of f, which need not be differentiable: one at z, which gives the value and the gradient
to the parameters of f, and one without a graph for every change of one variable. Impossible classes are not tried: f is
evaluated at z in their place.

Reference:
    Titsias, Lázaro-Gredilla (2015), "Local expectation gradients for black box variational inference".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.estimator import Estimator
from softhot.estimators.gradients import carry, detached
from softhot.estimators.integrand import Integrand
from softhot.functional import one_hot_sample
from softhot.kl.term import Sample

__all__ = ["LocalExpectation"]


@dataclass(frozen=True)
class LocalExpectation(Estimator):
    """Each variable summed out, given a sample of the others.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.LocalExpectation()(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Titsias & Lázaro-Gredilla 2015"

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        z = one_hot_sample(logits.detach(), generator=generator)
        value = f(z)  # with gradient: f may have parameters of its own
        with torch.no_grad():
            other, changed = _changes(z, logits)
            difference = (f(changed) - value).movedim((0, 1), (-2, -1))
            # f(z with variable n at class k) - f(z)
            rise = difference.new_zeros(z.shape).scatter(-1, other, difference)
            probs = detached(logits).softmax(-1)
            gradient = probs * (rise - (probs * rise).sum(-1, keepdim=True))
        return carry(value, logits, gradient)

    def evaluations(self, latents: int, classes: int) -> int:
        return latents * (classes - 1) + 1


def _changes(z: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The K - 1 other classes of each variable, (*batch, N, K - 1), and z so changed, (N, K - 1, *batch, N, K)."""
    latents, classes = z.shape[-2:]
    other = (z.argmax(-1, keepdim=True) + torch.arange(1, classes, device=z.device)) % classes
    rows = torch.nn.functional.one_hot(other, classes).to(z.dtype)
    possible = logits.gather(-1, other) > -math.inf
    rows = torch.where(possible[..., None], rows, z[..., None, :]).movedim(-2, 0)
    here = torch.eye(latents, dtype=torch.bool, device=z.device)
    return other, torch.where(here.reshape(latents, 1, *(1,) * (z.dim() - 2), latents, 1), rows, z)
