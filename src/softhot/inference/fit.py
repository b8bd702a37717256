r"""What inference is given and what it gives.

The target is a function that maps one-hot z of shape (\*sample, N, K) to :math:`\log p(x, z)`, of shape (\*sample),
for an observed x; -inf where z is impossible. With the evidence :math:`\log p(x)` known, the divergence to the
posterior is

.. math:: KL(q(z) \,\|\, p(z \mid x)) = \log p(x) - \mathrm{ELBO}, \qquad
    \mathrm{ELBO} = E_q[\log p(x, z) - \log q(z)]

Variables may have different numbers of classes, their cardinalities: K is the largest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from softhot.distributions import MixtureOfDiscreteFlows

__all__ = ["Fit", "LogJoint"]

LogJoint = Callable[[Tensor], Tensor]
r"""The function z -> log p(x, z) of one-hot z, from shape (\*sample, N, K) to (\*sample)."""


@dataclass(frozen=True)
class Fit:
    """An approximate posterior.

    Attributes:
        q: the approximation.
        elbo: its ELBO, in nats.
        error: the standard error of that; zero where it is a sum.
        history: the ELBO as it went: after each component, or after each step.
        evaluations: of the target while it was fitted, at one configuration each.
        proven: whether no mixture of this kind has a larger ELBO.
    """

    q: MixtureOfDiscreteFlows
    elbo: float
    error: float
    history: tuple[float, ...]
    evaluations: int
    proven: bool
