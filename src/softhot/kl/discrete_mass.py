r"""A relaxed sample under discrete mass ("Maddison eq. 21").

.. math:: E_q \sum_k z_k (\log\pi_k - \log\pi'_k) = \sum_k E[z_k] (\log\pi_k - \log\pi'_k)

The weights are those of the relaxed variable, whose mean is nearer to uniform than :math:`\pi`. It is not a divergence:
it may be negative, and bounds nothing.

Reference:
    Maddison, Mnih, Teh (2017), "The Concrete distribution", eq. 21.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.functional import log_mass, relaxed_mean
from softhot.kl.term import Sample, Term

__all__ = ["DiscreteMass"]


@dataclass(frozen=True)
class DiscreteMass(Term):
    r"""The log-mass ratio weighted by a relaxed sample; exactly, by the exact mean of one.

    Example:
        >>> import torch, softhot
        >>> softhot.kl.DiscreteMass()(torch.tensor([0.9, 0.1]).log(), torch.zeros(2), temperature=1.0)
        tensor(0.1835)
    """

    sample: ClassVar[Sample] = "soft"
    temperate: ClassVar[bool] = True
    bounds: ClassVar[dict[Sample, str | None]] = {"hard": None, "soft": None}

    def log_q(self, z: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return log_mass(z, logits)

    def log_p(self, z: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        return log_mass(z, prior_logits)

    def expected_log_q(self, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return log_mass(relaxed_mean(logits, temperature), logits)

    def value(self, logits: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        mean = relaxed_mean(logits, temperature)
        mean, prior_logits = torch.broadcast_tensors(mean, prior_logits)
        # the mean of a possible class may round to zero: the support is that of the logits
        excluded = ((logits > -math.inf) & (prior_logits == -math.inf)).any(-1)
        return (log_mass(mean, logits) - log_mass(mean, prior_logits)).masked_fill(excluded, math.inf)
