r"""The exact expectation, by enumeration of all configurations.

.. math:: E_q[f(z)] = \sum_z \Big( \prod_n \pi_{n, z_n} \Big) f(z)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from softhot.estimators.enumeration import configurations
from softhot.estimators.estimator import Estimator
from softhot.estimators.integrand import Integrand
from softhot.functional import log_mass
from softhot.functional.check import counted
from softhot.kl.term import Sample

__all__ = ["Exact"]


@dataclass(frozen=True)
class Exact(Estimator):
    """The exact value and gradient of E_q[f(z)]; no randomness.

    Arguments:
        limit: the largest number of configurations, K^N, that it will enumerate.
        chunk: how many evaluations of f are held at once; the rest is recomputed in the backward pass.

    Raises:
        ValueError: If chunk < 1; when called, with more configurations than the limit.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(2, 3, requires_grad=True)
        >>> softhot.estimators.Exact()(lambda z: z[..., 0].sum(-1), logits)  # 2 / 3
        tensor(0.6667, grad_fn=<SumBackward1>)
    """

    unbiased: ClassVar[bool] = True
    random: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "enumeration"

    limit: int = 2**16
    chunk: int = 2**18

    def __post_init__(self) -> None:
        counted("chunk", self.chunk, 1, "evaluates nothing at once", who="Exact")

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        batch, (latents, classes) = logits.shape[:-2], logits.shape[-2:]

        def part(z: Tensor, logits: Tensor) -> Tensor:
            z = z.reshape(-1, *(1,) * len(batch), latents, classes).expand(-1, *batch, latents, classes)
            log_q = log_mass(z, logits).sum(-1)
            impossible = log_q == -math.inf
            return (log_q.exp() * f(z).masked_fill(impossible, 0.0)).sum(0)

        size = max(1, self.chunk // max(batch.numel(), 1))
        pieces = list(configurations(latents, classes, limit=self.limit, chunk=size, like=logits))
        if len(pieces) == 1:
            return part(pieces[0], logits)
        return torch.stack([checkpoint(part, z, logits, use_reentrant=False) for z in pieces]).sum(0)

    def refusal(self, latents: int, classes: int) -> str | None:
        if classes**latents > self.limit:
            return f"enumeration of {classes}^{latents} configurations is beyond the limit of {self.limit:,}"
        return super().refusal(latents, classes)

    def evaluations(self, latents: int, classes: int) -> int:
        return int(classes**latents)
