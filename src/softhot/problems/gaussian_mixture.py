r"""A Gaussian mixture with discrete assignments, and its closed-form variational solution.

Every row of data is drawn from one of K Gaussians, which is its assignment :math:`z_n`; the means are not known:

.. math:: z_n \sim \operatorname{Cat}(1/K), \qquad \mu_k \sim N(0, \tau^2 I), \qquad
    x_n \mid z_n = k \sim N(\mu_k, \sigma^2 I)

With :math:`q(z) \, q(\mu)` as the posterior each factor has its best in closed form, given the other: with
:math:`r_{nk} = q(z_n = k)`,

.. math:: q(\mu_k) = N(m_k, v_k I), \qquad v_k^{-1} = \tau^{-2} + \sigma^{-2} \sum_n r_{nk}, \qquad
    m_k = v_k \sigma^{-2} \sum_n r_{nk} x_n

.. math:: r_{nk} \propto e^{s_{nk}}, \qquad s_{nk} = E_{q(\mu)}[\log p(x_n, z_n = k \mid \mu)]

and the ELBO is :math:`\sum_n (E_q[s_{n z_n}] + H(q(z_n))) - \sum_k KL(q(\mu_k) \| p(\mu_k))`: what an estimator climbs
in logits of q(z) can be held against it.

Reference:
    Bishop (2006), "Pattern recognition and machine learning", section 10.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.distributions import OneHotCategorical
from softhot.functional.check import counted, floating, positive, tensor

__all__ = ["GaussianMixture"]

TOLERANCE = 1e-12  # of the rise of a step, relative


@dataclass(frozen=True)
class GaussianMixture:
    r"""Rows of data, each with an assignment to one of K Gaussians.

    Arguments:
        data: x, of shape (N, D).
        classes: K.
        noise: :math:`\sigma`.
        spread: :math:`\tau`, of the means.

    Raises:
        ValueError: If the data is not finite or has no row, there are fewer than two classes, a scale is not
            positive, or logits are not those of every row and class.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[-2.0], [-1.9], [2.0]])
        >>> mixture = GaussianMixture(rows, classes=2, noise=0.5)
        >>> mixture.solve(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])).softmax(-1).round(decimals=3)
        tensor([[1., 0.],
                [1., 0.],
                [0., 1.]])
    """

    data: Float[Tensor, "N D"]
    classes: int
    noise: float = 1.0
    spread: float = 3.0

    def __post_init__(self) -> None:
        tensor("data", self.data)
        if self.data.dim() != 2:
            raise ValueError(f"data of shape {tuple(self.data.shape)} are no rows; use a tensor of shape (N, D).")
        if not len(self.data) or not self.data.isfinite().all():
            raise ValueError(
                f"data of shape {tuple(self.data.shape)} has no row, NaN or infinities; use rows that "
                "torch.isfinite says are numbers."
            )
        counted("classes", self.classes, 2, "leaves nothing to choose")
        for name in ("noise", "spread"):
            positive(name, getattr(self, name), torch.Size())

    def means(self, r: Float[Tensor, "N K"]) -> tuple[Float[Tensor, "K D"], Float[Tensor, " K"]]:
        """The best q(mu) given the probabilities of the assignments: the means and variances."""
        variance = 1 / (self.spread**-2 + r.sum(0) / self.noise**2)
        return variance[:, None] * (r.T @ self.data.to(r.dtype)) / self.noise**2, variance

    def scores(self, mean: Float[Tensor, "K D"], variance: Float[Tensor, " K"]) -> Float[Tensor, "N K"]:
        """The mean of log p(x, z = k | mu) under q(mu), for each row and class; an estimator is given z . s."""
        x, size = self.data.to(mean.dtype), self.data.shape[-1]
        distance = (x[:, None] - mean).square().sum(-1) + size * variance
        constant = math.log(self.classes) + size * (0.5 * math.log(2 * math.pi) + math.log(self.noise))
        return -0.5 * distance / self.noise**2 - constant

    def elbo(self, logits: Float[Tensor, "N K"]) -> Float[Tensor, ""]:
        """The exact ELBO of logits of the assignments, with the best q(mu) for them; differentiable."""
        r = self._assigned(logits)
        mean, variance = self.means(r)
        ratio = variance / self.spread**2
        size = self.data.shape[-1]
        divergence = 0.5 * (size * (ratio - 1 - ratio.log()) + mean.square().sum(-1) / self.spread**2)
        value = (r * self.scores(mean, variance)).sum(-1) + OneHotCategorical(logits=logits).entropy()
        return value.sum() - divergence.sum()

    @torch.no_grad()
    def solve(self, logits: Float[Tensor, "N K"], steps: int = 1000) -> Float[Tensor, "N K"]:
        """The closed-form solution: each factor in turn, from logits of the assignments, until the ELBO stands still.

        Another start may come to another solution; take the best of several.

        Arguments:
            logits: to start from; not all classes alike, as the symmetry would stay.
            steps: the most of them.
        """
        before = -math.inf
        for _ in range(steps):
            logits = self.scores(*self.means(self._assigned(logits)))
            now = self.elbo(logits).item()
            if now - before <= TOLERANCE * abs(now):
                break
            before = now
        return logits

    def _assigned(self, logits: Tensor) -> Tensor:
        """The probabilities of the assignments; others than of every row and class would often broadcast."""
        floating("logits", logits)
        rows = len(self.data)
        if logits.shape != (rows, self.classes):
            raise ValueError(
                f"logits of shape {tuple(logits.shape)} do not assign {rows} rows to {self.classes} classes; use "
                f"logits of shape ({rows}, {self.classes})."
            )
        return logits.softmax(-1)
