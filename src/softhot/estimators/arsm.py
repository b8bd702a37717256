r"""ARSM: augment, REINFORCE, swap, merge.

With :math:`\varpi_n \sim \operatorname{Dirichlet}(1, \dots, 1)` of K entries,
:math:`z_n = \arg\max_k (\ell_{nk} - \log \varpi_{nk})` is a draw of q, and so is :math:`z^{(m j)}`, in which entries m
and j of every :math:`\varpi_n` have changed places. The gradient is

.. math:: \hat g_{nk} = \sum_j \Big( f(z^{(k j)}) - \frac{1}{K} \sum_m f(z^{(m j)}) \Big)
    \Big( \frac{1}{K} - \varpi_{nj} \Big)

Unbiased. The swap is one for all N variables, so that there are at most K (K - 1) / 2 + 1 different configurations,
whatever N is. That bound is the cost: all are evaluated, though many of them are equal where probabilities are far
apart, as which ones differs from one element of the batch to the next. f need not be differentiable; the value, and the
gradient to the parameters of f, is that of the draw before any swap.

Reference:
    Yin, Yue, Zhou (2019), "ARSM: augment-REINFORCE-swap-merge estimator for gradient backpropagation through
    categorical variables".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.estimators.estimator import Estimator
from softhot.estimators.gradients import carry, detached, exponential
from softhot.estimators.integrand import Integrand
from softhot.kl.term import Sample

__all__ = ["Arsm"]


@dataclass(frozen=True)
class Arsm(Estimator):
    """The draws that pairs of classes swapped give, merged.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 3, requires_grad=True)
        >>> softhot.estimators.Arsm()(lambda z: z.sum((-1, -2)), logits).item()
        1.0
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Yin et al. 2019"

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        classes = logits.shape[-1]
        known = detached(logits)
        times = exponential(known.shape, known, generator)
        share = times / times.sum(-1, keepdim=True)
        first, second = torch.triu_indices(classes, classes, 1, device=logits.device)
        pair = torch.arange(len(first), device=logits.device)
        places = torch.arange(classes, device=logits.device).repeat(len(first), 1)
        places[pair, first], places[pair, second] = second, first  # of every swap, where each entry comes from

        value = f(_winners(known, share).to(logits.dtype))  # with gradient: f may have parameters of its own
        with torch.no_grad():
            swapped = share[..., places].movedim(-2, 0)
            rise = f(_winners(known, swapped).to(logits.dtype)) - value
            table = rise.new_zeros(classes, classes, *value.shape)  # f(z with m and j swapped) - f(z)
            table[first, second] = table[second, first] = rise
            advantage = table - table.mean(0)
            gradient = torch.einsum("kj...,...nj->...nk", advantage, (1 / classes - share).to(rise.dtype))
        return carry(value, logits, gradient)

    def evaluations(self, latents: int, classes: int) -> int:
        return classes * (classes - 1) // 2 + 1


def _winners(logits: Tensor, share: Tensor) -> Tensor:
    score = (logits - share.log()).masked_fill(logits == -math.inf, -math.inf)
    return one_hot(score.argmax(-1), logits.shape[-1])
