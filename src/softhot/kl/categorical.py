r"""The divergence of the discrete model.

.. math:: KL = \sum_k \pi_k (\log\pi_k - \log\pi'_k)

In closed form it is "eq. 22" of Maddison et al., and what the code of Jang et al. computes for a uniform prior. With
the log-likelihood at a hard sample it gives the ELBO of the discrete model; with that at a relaxed sample it bounds
nothing.

References:
    Maddison, Mnih, Teh (2017), "The Concrete distribution", eq. 22.
    Jang, Gu, Poole (2017), "Categorical reparameterization with Gumbel-softmax", section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from softhot.distributions import OneHotCategorical
from softhot.functional import categorical_kl, log_mass
from softhot.kl.term import Sample, Term

__all__ = ["Categorical"]


@dataclass(frozen=True)
class Categorical(Term):
    r"""The categorical divergence, in closed form ("Maddison eq. 22") or at one hard sample.

    With ``exact=False`` it is the log-mass ratio :math:`\log\pi_d - \log\pi'_d` at a hard sample, or at a discretised
    one, :math:`d = \arg\max_k z_k`, which has the law :math:`\pi` at every temperature. The mean is the same; there is
    noise, and as a function of a hard sample it needs an estimator for its gradient.

    Example:
        >>> import torch, softhot
        >>> softhot.kl.Categorical()(torch.tensor([0.9, 0.1]).log(), torch.zeros(2))
        tensor(0.3681)
    """

    sample: ClassVar[Sample] = "hard"
    temperate: ClassVar[bool] = False
    bounds: ClassVar[dict[Sample, str | None]] = {"hard": "the discrete log-likelihood", "soft": None}

    def log_q(self, z: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return log_mass(z, logits)

    def log_p(self, z: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        return log_mass(z, prior_logits)

    def expected_log_q(self, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return -OneHotCategorical(logits=logits, validate_args=False).entropy()

    def value(self, logits: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        return categorical_kl(logits, prior_logits)
