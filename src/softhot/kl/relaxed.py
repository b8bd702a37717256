r"""The divergence of two relaxed variables ("Concrete", Maddison eq. 20).

.. math:: E_q[\log q_{l, t}(z) - \log p_{l', s}(z)]

with the densities on the simplex. With the log-likelihood at a relaxed sample it bounds that of the *relaxed* model,
which is another model than the discrete one. With the log-likelihood at a hard sample it bounds the discrete one, more
loosely than the categorical divergence: the class of the largest entry is a function of z, so the relaxed divergence
is never smaller.

Reference:
    Maddison, Mnih, Teh (2017), "The Concrete distribution", eq. 20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.functional import log_of, relaxed_entropy, relaxed_kl, relaxed_log_prob
from softhot.functional.check import positive
from softhot.kl.term import Sample, Term, apart

__all__ = ["Relaxed"]


@dataclass(frozen=True)
class Relaxed(Term):
    """The relaxed divergence, exactly or at one relaxed sample.

    Arguments:
        exact: the exact value, or one Monte Carlo draw.
        prior_temperature: s; the temperature of q where it is not given.

    Example:
        >>> import torch, softhot
        >>> softhot.kl.Relaxed()(torch.tensor([0.9, 0.1]).log(), torch.zeros(2), temperature=1.0)
        tensor(0.7465)
    """

    sample: ClassVar[Sample] = "soft"
    temperate: ClassVar[bool] = True
    bounds: ClassVar[dict[Sample, str | None]] = {
        "hard": "the discrete log-likelihood, more loosely than the categorical term",
        "soft": "the log-likelihood of the relaxed model",
    }

    prior_temperature: float | None = None

    def __post_init__(self) -> None:
        if self.prior_temperature is not None:
            positive("prior_temperature", self.prior_temperature, torch.Size())

    def integrand(self, z: Tensor, logits: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        difference = super().integrand(z, logits, prior_logits, temperature)
        return difference.masked_fill(apart(logits, prior_logits), math.inf)

    def log_q(self, z: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return relaxed_log_prob(log_of(z), logits, temperature)

    def log_p(self, z: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        return relaxed_log_prob(log_of(z), prior_logits, self.prior_temperature or temperature)

    def expected_log_q(self, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return -relaxed_entropy(logits, temperature)

    def value(self, logits: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        return relaxed_kl(logits, temperature, prior_logits, self.prior_temperature or temperature)
