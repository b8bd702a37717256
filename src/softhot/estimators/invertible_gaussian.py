r"""The invertible Gaussian relaxation: a softmax of Gaussian variables, with one class as the rest.

.. math:: z = \operatorname{softmax}\Big( \frac{y_1}{t}, \dots, \frac{y_{K-1}}{t}, \log\delta \Big), \qquad
    y_k = \mu_k + \sigma \varepsilon_k, \quad \mu_k = \ell_k - \ell_K, \quad \varepsilon_k \sim N(0, 1)

The map from y to z is invertible, so the divergence of two such variables of the same t and :math:`\delta` is that of
the Gaussians, in closed form. The gradient is the exact pathwise gradient of the relaxed expectation, and so biased for
the discrete one, in value too. One evaluation of f, which must be differentiable and defined inside the simplex.

The parameters of the paper are K - 1 means and K - 1 scales, more than logits give. Here the logits give the means, as
differences to the rest, so that a constant added to all logits changes nothing; the scale is a setting. The rest is the
last possible class. The class of the largest entry has a probit law, not that of softmax(l), at every temperature: of
three or more equal logits the rest, which has no noise, is the largest less often than another.

Reference:
    Potapczynski, Loaiza-Ganem, Cunningham (2020), "Invertible Gaussian reparameterization: revisiting the
    Gumbel-softmax".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.estimator import Pathwise
from softhot.functional.check import positive
from softhot.functional.sampling import wide
from softhot.kl.term import Sample

__all__ = ["InvertibleGaussian"]


@dataclass(frozen=True)
class InvertibleGaussian(Pathwise):
    r"""A relaxed sample of Gaussian noise, with its own gradient.

    Arguments:
        samples: the number of draws n.
        temperature: t > 0.
        scale: the standard deviation :math:`\sigma` of the noise.
        delta: :math:`\delta` > 0, the weight of the rest.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(5, 1, 3, requires_grad=True)
        >>> softhot.estimators.InvertibleGaussian(temperature=0.5)(lambda z: z.sum((-1, -2)), logits).shape
        torch.Size([5])
    """

    sample: ClassVar[Sample] = "soft"
    source: ClassVar[str] = "Potapczynski et al. 2020"

    temperature: float = 1.0
    scale: float = 1.0
    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "scale", "delta"):
            positive(name, getattr(self, name), torch.Size())

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        mean, rest = _means(wide(logits))
        noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
        scores = (mean + self.scale * noise) / self.temperature
        return scores.masked_fill(rest, math.log(self.delta)).softmax(-1).to(logits.dtype)

    def divergence(
        self,
        logits: Float[Tensor, "*#batch K"],
        prior_logits: Float[Tensor, "*#batch K"],
        prior_scale: float | None = None,
    ) -> Float[Tensor, "*batch"]:
        r"""The divergence of the variable from that of other logits, and of another scale if one is given, in nats.

        .. math:: KL = \sum_{k < K} \frac{(\mu_k - \mu'_k)^2 + \sigma^2}{2 \sigma'^2} - \frac{1}{2}
            - \log\frac{\sigma}{\sigma'}

        Infinite where the two do not have the same possible classes. Summed over the latent variables and taken from
        the expected log-likelihood, it bounds that of the relaxed model, whose prior is of the same kind.

        Raises:
            ValueError: If the scale is not positive.

        Example:
            >>> import torch, softhot
            >>> softhot.estimators.InvertibleGaussian().divergence(torch.tensor([1.0, 2.0, 0.0]), torch.zeros(3))
            tensor(2.5000)
        """
        other = float(positive("prior_scale", self.scale if prior_scale is None else prior_scale, torch.Size()))
        (mean, rest), (prior, _) = _means(logits), _means(prior_logits)
        alike = (mean > -math.inf) == (prior > -math.inf)
        counted = (mean > -math.inf) & (prior > -math.inf) & ~rest
        squares = torch.where(counted, mean, 0.0).sub(torch.where(counted, prior, 0.0)).square()
        own = (self.scale / other) ** 2 / 2 - 0.5 - math.log(self.scale / other)
        divergence = (squares / (2 * other**2) + own * counted).sum(-1)
        return divergence.masked_fill(~alike.all(-1), math.inf)


def _means(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The differences to the last possible class, and which that is."""
    possible = logits > -math.inf
    place = torch.arange(logits.shape[-1], device=logits.device)
    last = torch.where(possible, place, 0).amax(-1, keepdim=True)
    finite = torch.where(possible, logits, 0.0)
    means = torch.where(possible, finite - finite.gather(-1, last), -math.inf)
    return means, place == last
