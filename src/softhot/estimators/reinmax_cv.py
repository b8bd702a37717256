r"""ReinMax-CV: ReinMax plus a relaxed control variate.

.. math:: \hat g = \hat g_{\text{ReinMax}}
    + \eta \Big( \frac{1}{m} \sum_{j=1}^m J(z_j) - J(z_0) \Big) \tfrac{1}{t} \nabla f(z), \qquad
    z_j \sim \operatorname{softmax}((c + G) / t) \text{ given } z, \quad c = \log\tfrac{1}{2} (\pi + z)

with z a hard sample. The bias is that of ReinMax, and so exact in expectation for quadratic f. One evaluation of f,
which must be differentiable.

What it cannot do is reduce the variance. Given z, ReinMax has no randomness left, and the correction has mean zero, so
the two are uncorrelated whatever f is:

.. math:: \operatorname{Var} \hat g = \operatorname{Var} \hat g_{\text{ReinMax}}
    + \eta^2 \Big( 1 + \frac{1}{m} \Big) E \operatorname{Var}\big[ \tfrac{1}{t} J(z_0) \nabla f(z) \mid z \big]

A correction made of the noise that drew z, whose law given z is not that of the noise of c given z, has another mean:
what it takes from the variance it adds to the bias.

Reference:
    Wang, Bui (2026), "Beyond ReinMax: low-variance gradient estimators for discrete latent variables".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.estimators.conditional import Conditional
from softhot.estimators.reinmax import midpoint
from softhot.functional import one_hot_sample, with_conditional_gradient, with_gradient_of

__all__ = ["ReinMaxCv"]


@dataclass(frozen=True)
class ReinMaxCv(Conditional):
    """ReinMax, and a relaxed correction that has mean zero.

    Arguments:
        samples: the number of draws n of the hard sample.
        temperature: t > 0, of the relaxed samples.
        draws: the number m of relaxed samples whose mean gradient is taken.
        eta: the weight of the correction; 0 is ReinMax.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.ReinMaxCv(draws=10)(lambda z: z.amax((-1, -2)), logits).item()
        1.0
    """

    source: ClassVar[str] = "Wang & Bui 2026"

    eta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.eta):
            raise ValueError(f"eta={self.eta} is not a finite number; use eta=0.5, for example.")

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        z = one_hot_sample(logits.detach(), generator=generator)
        middle = midpoint(logits, z)
        many = self.relaxed_given(z, middle, generator)
        one = with_conditional_gradient(z, middle, self.temperature, draws=1, generator=generator)
        return with_gradient_of(z, 2 * middle.softmax(-1) - 0.5 * logits.softmax(-1) + self.eta * (many - one))
