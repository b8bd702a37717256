r"""RODEO: REINFORCE leave-one-out with discrete Stein control variates.

A Stein operator turns any function h into one of mean zero under q. Here it sums over all z' that differ from z in one
variable, at the rates of Barker, which keep q in balance:

.. math:: (A h)(z) = \sum_{z'} \frac{2}{K} \frac{q(z')}{q(z) + q(z')} \big( h(z') - h(z) \big), \qquad E_q[A h] = 0

The surrogates of draw i are made of the other draws j, from what is known of f there, its value and its slope:

.. math:: h_i(z) = \frac{1}{n - 1} \sum_{j \ne i} H \big( f(z_j), \nabla f(z_j)^\top (z - z_j) \big)

with two outputs H, one for a scalar control variate in the baseline and one for a vector in the gradient:

.. math:: \hat g = \frac{1}{n} \sum_i \Big( f(z_i) - \frac{1}{n - 1} \sum_{j \ne i} \big( f(z_j) + (A h_j)(z_j) \big)
    \Big) \nabla_\ell \log q_\ell(z_i) + \big( A \, \tilde h_i \nabla_\ell \log q_\ell \big)(z_i)

Unbiased for every H: given all draws but j, the mean of :math:`(A h_j)(z_j)` is zero. Costs n evaluations of f, which
must be differentiable, and n^2 N K of H, which is a function of two numbers. :meth:`Rodeo.learn` gives the parameters
of H the slope of the second moment of the gradient.

What differs from the paper: any K, whose rates are scaled so that two classes, or even ones, have Gibbs sampling's; a
sum over neighbours and not their mean, so that A h is minus h less its mean where h is linear and classes are two or
even; and by default H is the Taylor expansion times two weights, in place of a network.

Reference:
    Shi, Zhou, Hwang, Titsias, Mackey (2022), "Gradient estimation with discrete Stein operators".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softhot.estimators.controlled import Controlled, Parts
from softhot.estimators.gradients import detached, with_slope
from softhot.estimators.integrand import Integrand
from softhot.functional import one_hot_sample
from softhot.functional.check import counted
from softhot.kl.term import Sample

__all__ = ["Rodeo", "TaylorSurrogate"]


class TaylorSurrogate(nn.Module):
    """The Taylor expansion of f, times a weight for the baseline and one for the gradient.

    A surrogate of your own is a module that maps two tensors of one shape, the values of f and the first-order rises
    from there, to two of that shape.

    Example:
        >>> import torch, softhot
        >>> softhot.estimators.TaylorSurrogate()(torch.tensor(3.0), torch.tensor(1.0))
        (tensor(4., grad_fn=<MulBackward0>), tensor(2., grad_fn=<MulBackward0>))
    """

    def __init__(self, baseline: float = 1.0, gradient: float = 0.5) -> None:
        super().__init__()
        self.baseline = nn.Parameter(torch.tensor(float(baseline)))
        self.gradient = nn.Parameter(torch.tensor(float(gradient)))

    def forward(self, value: Tensor, rise: Tensor) -> tuple[Tensor, Tensor]:
        """The surrogate of the baseline and that of the gradient."""
        return self.baseline * (value + rise), self.gradient * (value + rise)


@dataclass(frozen=True)
class Rodeo(Controlled):
    """REINFORCE leave-one-out with discrete Stein control variates.

    Arguments:
        samples: the number of draws n, at least 2.
        surrogate: H, as :class:`TaylorSurrogate` describes.

    Raises:
        ValueError: If samples < 2; when called, if f is not differentiable in z.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(5, 3, 2, requires_grad=True)
        >>> softhot.estimators.Rodeo(samples=2)(lambda z: (z[..., 0].sum(-1) - 0.45) ** 2, logits).shape
        torch.Size([5])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Shi et al. 2022"

    samples: int = 2
    surrogate: nn.Module = field(default_factory=TaylorSurrogate)

    def __post_init__(self) -> None:
        counted("samples", self.samples, 2, "has no other draw to learn of f from", who="Rodeo")

    @property
    def control(self) -> nn.Module | None:
        return self.surrogate

    def parts(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None, learning: bool
    ) -> Parts:
        z = one_hot_sample(logits.detach().expand(self.samples, *logits.shape), generator=generator)
        value, slope = with_slope(f, z, "Rodeo")
        cost, known = value.detach(), detached(logits)
        score, rate = z - known.softmax(-1), _rates(z, known)

        # draw i in rows, draw j that it learns of f from in columns
        at = (slope * z[:, None]).sum(-1)
        here = at.sum(-1) - (slope * z).sum((-1, -2))
        there = here[..., None, None] + (slope - at[..., None])
        other = torch.ones_like(here) - torch.eye(self.samples).to(here).reshape(
            -1, self.samples, *(1,) * (here.dim() - 2)
        )
        share = other / (self.samples - 1)
        with torch.set_grad_enabled(learning):
            h_here, v_here = ((share * h).sum(1) for h in self.surrogate(cost.expand_as(here), here))
            near = self.surrogate(cost[..., None, None].expand_as(there), there)
            h_near, v_near = ((share[..., None, None] * h).sum(1) for h in near)
            calm = cost + (rate * (h_near - h_here[..., None, None])).sum((-1, -2))
            signal = cost - (share * calm).sum(1)
            # the score at a neighbour differs from that at z in one row, by the class there less the class here
            drift = (rate * (v_near - v_here[..., None, None])).sum((-1, -2))
            moved = rate * v_near
            moved = moved - z * moved.sum(-1, keepdim=True)
            gradient = ((signal + drift)[..., None, None] * score + moved).mean(0)
            loss = gradient.square().sum((-1, -2))
        return Parts(value.mean(0), gradient, loss)

    def evaluations(self, latents: int, classes: int) -> int:
        return self.samples


def _rates(z: Tensor, logits: Tensor) -> Tensor:
    """Of a change of each variable to each class; of no change, zero. q(z') / (q(z) + q(z')) is a sigmoid."""
    possible = logits > -math.inf
    own = (z * logits.masked_fill(~possible, 0.0)).sum(-1, keepdim=True)
    return (logits - own).sigmoid() * (1 - z) * 2 / possible.sum(-1, keepdim=True)
