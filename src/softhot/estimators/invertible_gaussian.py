r"""The invertible Gaussian relaxation as an estimator: a softmax of Gaussian variables, differentiated as it is.

.. math:: \hat g = \nabla_\ell f(z), \qquad z = \operatorname{softmax}\Big( \frac{y_1}{t}, \dots, \frac{y_{K-1}}{t},
    \log\delta \Big), \quad y_k = \ell_k - \ell_K + \sigma \varepsilon_k, \quad \varepsilon_k \sim N(0, 1)

as in :mod:`softhot.functional.gaussian`, which says what the logits are here. The gradient is the exact pathwise
gradient of the relaxed expectation, and so biased for the discrete one, in value too. One evaluation of f, which must
be differentiable and defined inside the simplex. Its divergence is :class:`softhot.kl.Gaussian`.

Reference:
    Potapczynski, Loaiza-Ganem, Cunningham (2020), "Invertible Gaussian reparameterization: revisiting the
    Gumbel-softmax".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.estimators.estimator import Pathwise
from softhot.functional import gaussian_sample
from softhot.functional.check import positive
from softhot.kernels.noise import Noise
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
    relaxed: ClassVar[bool] = True
    noise: ClassVar[Noise] = "normal"
    source: ClassVar[str] = "Potapczynski et al. 2020"

    temperature: float | Tensor = 1.0
    scale: float = 1.0
    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "scale", "delta"):
            positive(name, getattr(self, name), torch.Size())

    @property
    def settings(self) -> dict[str, float]:
        return {"scale": self.scale, "delta": self.delta}

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        return gaussian_sample(logits, self.temperature, self.scale, self.delta, generator=generator)
