r"""The divergence of a mixture of discrete flows, and what is sometimes put in its place.

The logits are those of the shifts of B components, of shape (\*batch, B, N, K); with :math:`z_b` the configuration of
the likeliest classes of component b,

.. math:: KL = \frac{1}{B} \sum_b \big( \log q(z_b) - \log p(z_b) \big), \qquad
    q(z) = \frac{1}{B} \sum_b 1\{z = z_b\}, \qquad q_n(z_n) = \frac{1}{B} \sum_b 1\{z_n = z_{b, n}\}

That is a sum and exact; with the log-likelihood at the same configurations it gives the ELBO of the discrete model.
Some code has :math:`\prod_n q_n(z_n)`, the product of the mixtures of each variable alone, in place of the joint q. Its
entropy is that of something else than what is drawn, and larger by up to :math:`(N - 1) \log B`: the objective is no
bound. The temperature is that of the straight-through gradient.

Reference:
    Kuśmierczyk, Klami (2020), "Reliable categorical variational inference with mixture of discrete normalizing flows".
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from softhot.distributions import MixtureOfDiscreteFlows
from softhot.functional import log_mass
from softhot.kl.term import Sample, Term

__all__ = ["Mixture", "ProductOfMixtures"]


@dataclass(frozen=True)
class _OfMixture(Term, ABC):
    """A term of logits of shape (*batch, B, N, K); abstract."""

    sample: ClassVar[Sample] = "hard"
    temperate: ClassVar[bool] = False
    mixture: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.exact:
            raise ValueError(
                f"{type(self).__name__}(exact=False) has nothing to draw: the term is a sum over all components; "
                "use exact=True."
            )

    def value(self, logits: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        # log p is linear in z
        mean = _mixture(logits, temperature).mean
        return self.expected_log_q(logits, temperature) - self.log_p(mean, prior_logits, temperature)


@dataclass(frozen=True)
class Mixture(_OfMixture):
    r"""The divergence of the joint mixture: one number for all N variables, in a last dimension of length one.

    Example:
        >>> import torch, softhot
        >>> apart = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])  # (0, 0) and (1, 1)
        >>> softhot.kl.Mixture()(apart, torch.zeros(2, 2))  # 2 log 2 of the prior, less log 2
        tensor([0.6931])
    """

    bounds: ClassVar[dict[Sample, str | None]] = {"hard": "the discrete log-likelihood", "soft": None}

    def log_q(self, z: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return _mixture(logits, temperature).log_prob(z)[..., None]

    def log_p(self, z: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        return log_mass(z, prior_logits).sum(-1, keepdim=True)

    def expected_log_q(self, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return -_mixture(logits, temperature).entropy()[..., None]


@dataclass(frozen=True)
class ProductOfMixtures(_OfMixture):
    r"""The product of the mixtures of each variable in place of the joint one: over-states the entropy.

    Example:
        >>> import torch, softhot
        >>> apart = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
        >>> softhot.kl.ProductOfMixtures()(apart, torch.zeros(2, 2))
        tensor([0., 0.])
    """

    bounds: ClassVar[dict[Sample, str | None]] = {"hard": None, "soft": None}

    def log_q(self, z: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return _mixture(_alone(logits), temperature).log_prob(z[..., None, :])

    def log_p(self, z: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        return log_mass(z, prior_logits)

    def expected_log_q(self, logits: Tensor, temperature: float | Tensor) -> Tensor:
        return -_mixture(_alone(logits), temperature).entropy()


def _alone(logits: Tensor) -> Tensor:
    """The logits of N mixtures of one variable each, of shape (*batch, N, B, 1, K)."""
    return logits.movedim(-2, -3)[..., None, :]


def _mixture(logits: Tensor, temperature: float | Tensor) -> MixtureOfDiscreteFlows:
    return MixtureOfDiscreteFlows.of_deltas(logits, temperature)
