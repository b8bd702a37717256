r"""A relaxed posterior with a categorical prior.

.. math:: E_q\Big[\log q_{l, t}(z) - \sum_k z_k \log\pi'_k\Big]

A density minus a log-mass: it changes with the units of z, is not a divergence, and bounds nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from softhot.functional import log_mass, log_of, relaxed_entropy, relaxed_log_prob, relaxed_mean
from softhot.kl.term import Sample, Term

__all__ = ["RelaxedPosterior"]


@dataclass(frozen=True)
class RelaxedPosterior(Term):
    """Log-density of the relaxed posterior minus log-mass of the categorical prior.

    Example:
        >>> import torch, softhot
        >>> softhot.kl.RelaxedPosterior()(torch.tensor([0.9, 0.1]).log(), torch.zeros(2), temperature=1.0)
        tensor(1.4397)
    """

    sample: ClassVar[Sample] = "soft"
    temperate: ClassVar[bool] = True
    bounds: ClassVar[dict[Sample, str | None]] = {"hard": None, "soft": None}

    def log_q(self, z: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return relaxed_log_prob(log_of(z), logits, temperature)

    def log_p(self, z: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        return log_mass(z, prior_logits)

    def expected_log_q(self, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return -relaxed_entropy(logits, temperature)

    def value(self, logits: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        # the mean of a possible class may round to zero: the support is that of the logits
        excluded = ((logits > -math.inf) & (prior_logits == -math.inf)).any(-1)
        value = self.expected_log_q(logits, temperature) - log_mass(relaxed_mean(logits, temperature), prior_logits)
        return value.masked_fill(excluded, math.inf)
