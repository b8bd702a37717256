r"""The unordered-set estimator: draws without replacement, whatever their order.

A set S of n joint configurations is drawn without replacement from the product of the N variables. With p(S) its
probability in any order, and :math:`p^{D \setminus E}` that of draws from what is not in E,

.. math:: \hat g = \sum_{s \in S} p(s) R(S, s)
    \Big( f(s) - \sum_{s' \in S} p(s') R^{D \setminus \{s\}}(S, s') f(s') \Big) \nabla_\ell \log q_\ell(s),
    \qquad R(S, s) = \frac{p^{D \setminus \{s\}}(S \setminus \{s\})}{p(S)},

:math:`R^{D \setminus \{s\}}(S, s') = p^{D \setminus \{s, s'\}}(S \setminus \{s, s'\}) /
p^{D \setminus \{s\}}(S \setminus \{s\})`, and 1 for :math:`s' = s`. The baseline holds f(s) itself, yet its mean given
that s was drawn first is E f whatever s is, so that the gradient is unbiased. The value is
:math:`\sum_s p(s) R(S, s) f(s)`. Both are exact once S is everything.

All of these probabilities are one function of the subsets B of S. With c the probability outside S,

.. math:: h(B) = \sum_{s \in B} \frac{p(s)}{c + p(B)} \, h(B \setminus \{s\}), \qquad h(\emptyset) = 1, \qquad
    p^{D \setminus E}(S \setminus E) = h(S \setminus E)

a sum of positive terms in log space: no inclusion and exclusion, nothing cancels. It has 2^n terms, hence n <= 12.

Costs n evaluations of f, or K^N if that is less, which need not be differentiable. Where impossible classes leave fewer
than n configurations, one is evaluated again in place of those missing, and not counted in.

Reference:
    Kool, van Hoof, Welling (2020), "Estimating gradients for discrete random variables by sampling without
    replacement".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.distinct import distinct_draws
from softhot.estimators.estimator import Estimator
from softhot.estimators.gradients import carry, detached, scored
from softhot.estimators.integrand import Integrand
from softhot.functional import log_mass
from softhot.functional.check import counted
from softhot.kl.term import Sample

__all__ = ["UnorderedSet"]

_MOST = 12
_CERTAIN = 1e4  # log-probability that any other is nothing beside: what is missing comes first, and changes nothing


@dataclass(frozen=True)
class UnorderedSet(Estimator):
    """Joint configurations without replacement, weighted by leave-one-out ratios.

    Arguments:
        samples: the number of draws n, from 2 to 12.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.UnorderedSet(samples=2)(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Kool et al. 2020"

    samples: int = 4

    def __post_init__(self) -> None:
        counted("samples", self.samples, 2, "has no other draw for a baseline", who="UnorderedSet")
        if self.samples > _MOST:
            raise ValueError(
                f"UnorderedSet(samples={self.samples}) has 2^{self.samples} subsets; use samples <= {_MOST}, or "
                "LeaveOneOut(samples=n) for many draws."
            )

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        known = detached(logits)
        z, there, log_rest = distinct_draws(self.evaluations(*logits.shape[-2:]), known, generator)
        weight, others = _weights(log_mass(z, known).sum(-1), log_rest, there)
        value = f(z.to(logits.dtype))  # with gradient: f may have parameters of its own
        weight, others = weight.to(value.dtype), others.to(value.dtype)
        with torch.no_grad():
            baseline = (others * value).sum(1)
            advantage = weight * (value - baseline)
            gradient = scored(advantage, z, known).sum(0)
        return carry((weight * value).sum(0), logits, gradient)

    def evaluations(self, latents: int, classes: int) -> int:
        return min(self.samples, int(classes**latents))


def _weights(log_p: Tensor, log_rest: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """p(s) R(S, s) of shape (n, *batch), and p(s') R^{D - s}(S, s') of shape (n, n, *batch); zero if missing."""
    log_h = _log_orders(torch.where(there, log_p.double(), _CERTAIN), log_rest.double())
    bit = 1 << torch.arange(len(log_p), device=log_p.device)
    everything = len(log_h) - 1
    one = log_h[everything ^ bit]
    two = log_h[everything ^ (bit[:, None] | bit)]  # on the diagonal of one alone
    log_p = log_p.double().masked_fill(~there, -math.inf)
    return (log_p + one - log_h[-1]).exp(), (log_p + two - one[:, None]).exp()


def _log_orders(log_p: Tensor, log_rest: Tensor) -> Tensor:
    """log h of every subset, of shape (2^n, *batch); the binary digits of its index tell the members.

    One step for each of the n sizes, as h of a subset is made of those of the next smaller ones. The sum in closed form
    has terms of both signs, and loses its digits.
    """
    count = len(log_p)
    index = torch.arange(2**count, device=log_p.device)
    bit = 1 << torch.arange(count, device=log_p.device)
    inside = (index[:, None] & bit) > 0
    shape = (*inside.shape, *(1,) * (log_p.dim() - 1))
    total = log_p.masked_fill(~inside.reshape(shape), -math.inf).logsumexp(1).logaddexp(log_rest)
    log_h = torch.zeros_like(total)
    for size in range(1, count + 1):
        these = (inside.sum(1) == size).nonzero()[:, 0]
        member = inside[these].nonzero()[:, 1].reshape(-1, size)
        fewer = these[:, None] ^ bit[member]
        log_h[these] = (log_p[member] + log_h[fewer]).logsumexp(1) - total[these]
    return log_h
