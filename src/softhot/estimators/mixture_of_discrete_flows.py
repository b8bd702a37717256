r"""A mixture of discrete flows: B configurations that are functions of the logits, and no noise.

.. math:: q(z) = \frac{1}{B} \sum_b 1\{z = z_b\}, \qquad z_b = \operatorname{one\,hot}(\arg\max l_b), \qquad
    E_q[f(z)] = \frac{1}{B} \sum_b f(z_b)

Here the logits are not those of N independent variables: they are those of the shifts of B components, of shape
(\*batch, B, N, K), and q is their joint mixture, whose entropy is at most :math:`\log B`. The expectation is exact, at
B evaluations of f, and so is its gradient to the parameters of f. To the logits the true gradient is zero almost
everywhere; what is given is that of :math:`\operatorname{softmax}(l_b / t)` (straight through). f must be
differentiable.

Reference:
    Kuśmierczyk, Klami (2020), "Reliable categorical variational inference with mixture of discrete normalizing flows".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.distributions import MixtureOfDiscreteFlows as Mixture
from softhot.estimators.estimator import Estimator
from softhot.estimators.integrand import Integrand
from softhot.functional.check import counted, positive
from softhot.kl.term import Sample

__all__ = ["MixtureOfDiscreteFlows"]


@dataclass(frozen=True)
class MixtureOfDiscreteFlows(Estimator):
    r"""The mean over B configurations, each with the straight-through gradient to its own logits.

    Arguments:
        components: the number B.
        temperature: t > 0, of the gradient; the value has none.

    Raises:
        ValueError: When called with logits of another number of components.

    Example:
        >>> import torch, softhot
        >>> logits = torch.tensor([[[0.0, 1.0]], [[2.0, 0.0]]], requires_grad=True)  # B = 2, N = 1, K = 2
        >>> estimator = softhot.estimators.MixtureOfDiscreteFlows(components=2)
        >>> value = estimator(lambda z: z[..., 0].sum(-1), logits)
        >>> value.backward()
        >>> value.item(), logits.grad[0]
        (0.5, tensor([[ 0.0983, -0.0983]]))
    """

    unbiased: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    sample: ClassVar[Sample] = "hard"
    relaxed: ClassVar[bool] = True
    mixture: ClassVar[bool] = True
    random: ClassVar[bool] = False
    source: ClassVar[str] = "Kuśmierczyk & Klami 2020"

    components: int = 8
    temperature: float | Tensor = 1.0

    def __post_init__(self) -> None:
        counted("components", self.components, 1, "leaves nothing to draw from", who="MixtureOfDiscreteFlows")
        positive("temperature", self.temperature, torch.Size())

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch B N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        found = logits.shape[-3] if logits.dim() > 2 else 1
        if logits.dim() < 3 or found != self.components:
            raise ValueError(
                f"logits of shape {tuple(logits.shape)} are not those of {self.components} components; "
                f"use logits of shape (*batch, {self.components}, N, K), or components={found}."
            )
        return Mixture.of_deltas(logits, self.temperature).expectation(f)

    def evaluations(self, latents: int, classes: int) -> int:
        return self.components
