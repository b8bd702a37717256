r"""The straight-through estimator of least variance under a penalty on its bias.

Any estimator of the family is :math:`\hat g = S(x)^\top \nabla f(z)` with x the class of the hard sample z and S(x) a
matrix of K x K. For quadratic f it is exact in expectation if, with :math:`M_{ij} = \pi_i S(i)^\top e_j` and
:math:`J = \operatorname{diag}(\pi) - \pi \pi^\top`,

.. math:: \sum_i M_{ij} = J e_j, \qquad M_{ii} = \tfrac{1}{2} J e_i, \qquad M_{ij} + M_{ji} = 0 \quad (i \ne j),

the first alone if f is linear. Keeping the first, minimise the variance over directions of the gradient plus T times
the mean squared bias over random quadratics,

.. math:: \sum_{ij} \tfrac{1}{\pi_i} |M_{ij}|^2
    + T \Big( 2 \sum_i |M_{ii} - \tfrac{1}{2} J e_i|^2 + \sum_{i < j} |M_{ij} + M_{ji}|^2 \Big).

T = 0 gives the straight-through estimator; with T infinite none that is exact for quadratics, as ReinMax and ZGR are,
has less variance. One evaluation of f, which must be differentiable, and one linear system of K x K per variable.

Solution. Let :math:`\lambda_j` be the multipliers of the first condition, :math:`t = T / (1 + T)`, :math:`s = 1 - t`
and :math:`b_{ij} = 1 / (s + t (\pi_i + \pi_j))`; infinite T is then nothing special. The pair of stationary equations
for :math:`M_{ij}` and :math:`M_{ji}` gives

.. math:: M_{ij} = \pi_i b_{ij} \big( (s + t \pi_j) \lambda_j - t \pi_j \lambda_i \big)
    + [i = j] \frac{t \pi_i}{s + 2 t \pi_i} J e_i,

and the condition becomes :math:`H \lambda = \operatorname{diag}(r) J` with

.. math:: r_j = \frac{s + t \pi_j}{s + 2 t \pi_j}, \qquad \beta_j = \sum_i \pi_i b_{ij}, \qquad
    H_{ij} = [i = j] (s + t \pi_j) \beta_j - t \pi_i \pi_j b_{ij}.

H is symmetric, so only one right side is needed, :math:`H y = v`:

.. math:: \hat g = J \Big( r \odot y + \frac{t g_x}{s + 2 t \pi_x} e_x \Big), \qquad
    v_j = (s + t \pi_j) b_{xj} g_j - [j = x] \, t \sum_k \pi_k b_{xk} g_k.

As :math:`H 1 = s \beta`, H is singular at s = 0. The sum of the equations gives the constant part of y without a
division by s: :math:`y = y' + \sum_j b_{xj} g_j / \sum_j \beta_j` with :math:`\sum_j \beta_j y'_j = 0` and, at every T,

.. math:: \Big( H - \frac{s \beta \beta^\top}{\sum_j \beta_j} \Big) y'
    = v - s \beta \, \frac{\sum_j b_{xj} g_j}{\sum_j \beta_j}.

Reference:
    Hooper, Shekhovtsov (2026), "Generalized and optimal straight-through estimators".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from softhot.estimators.estimator import Pathwise
from softhot.functional import one_hot_sample, with_gradient_of

__all__ = ["OptimalStraightThrough"]


@dataclass(frozen=True)
class OptimalStraightThrough(Pathwise):
    """A hard sample with the gradient of least variance for a penalty on bias.

    Arguments:
        samples: the number of draws n.
        penalty: T, from 0 to infinity.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.OptimalStraightThrough()(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    source: ClassVar[str] = "Hooper & Shekhovtsov 2026"

    penalty: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.penalty >= 0:
            raise ValueError(f"penalty={self.penalty} is negative; use penalty=1.0, for example, or math.inf.")

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        z = one_hot_sample(logits.detach(), generator=generator)
        pi: Tensor = _Directed.apply(logits.softmax(-1), z, self.penalty)  # type: ignore[no-untyped-call]
        return with_gradient_of(z, pi)


class _Directed(torch.autograd.Function):
    """The probabilities, with a gradient that is turned to the direction of the module's docstring."""

    generate_vmap_rule = True

    @staticmethod
    def forward(probs: Tensor, z: Tensor, penalty: float) -> Tensor:
        return probs.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        probs, z, ctx.penalty = inputs
        ctx.save_for_backward(probs.detach(), z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        probs, z = ctx.saved_tensors
        return _direction(gradient, z, probs, ctx.penalty), None, None


def _direction(gradient: Tensor, z: Tensor, probs: Tensor, penalty: float) -> Tensor:
    """What J is multiplied with; the equations are divided by s + t pi, and impossible classes have no part."""
    wide = torch.promote_types(probs.dtype, torch.float32)
    g, z, probs = gradient.to(wide), z.to(wide), probs.to(wide)
    s, t = 1 / (1 + penalty), 1.0 if penalty == math.inf else penalty / (1 + penalty)
    possible = probs >= torch.finfo(wide).tiny  # others have a reciprocal of infinity
    rate = t * torch.where(possible, probs, 1.0)
    base = s + rate
    pull = g.masked_fill(~possible, 0.0) / ((z * base).sum(-1, keepdim=True) + rate)
    weights = (base[..., None] + rate[..., None, :]).reciprocal_().mul_(probs[..., None, :])
    beta = weights.sum(-1)
    inside = beta * possible
    constant = s * beta / (base * inside.sum(-1, keepdim=True))
    # of y', with the condition on it added to every equation
    matrix = weights.mul_(-(rate / base)[..., None]) + (1 - constant)[..., None] * inside[..., None, :]
    matrix.diagonal(dim1=-2, dim2=-1).add_(beta)
    whole = pull.sum(-1, keepdim=True)
    right = pull - z * (t * (pull * probs).sum(-1, keepdim=True) / base) - constant * whole
    y = torch.linalg.solve_ex(matrix, right[..., None])[0].squeeze(-1) + whole / inside.sum(-1, keepdim=True)
    direction: Tensor = (base * y + t * z * g) / (base + rate)
    return direction.to(gradient.dtype)
