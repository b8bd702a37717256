r"""The Gumbel-Rao estimator: straight-through Gumbel-softmax, averaged over the noise that the hard sample leaves open.

.. math:: \hat g = \frac{1}{m} \sum_{j=1}^m \tfrac{1}{t} J(z_j) \nabla f(z), \qquad
    z_j \sim \operatorname{softmax}((\ell + G) / t) \text{ given } z = \operatorname{one\,hot}(\arg\max_k \ell_k + G_k)

Its mean, and so its bias, is that of the straight-through Gumbel-softmax estimator at the same temperature; its
variance is never larger, and falls with m to that of the conditional expectation. f is evaluated and differentiated
once; nothing of m times the size of z is kept.

The paper says that the derivative is also taken through the conditional law of the noise, which depends on the logits.
The mean would then be another one: the noise of the straight-through estimator is a constant. Here it is one.

Reference:
    Paulus, Maddison, Krause (2021), "Rao-Blackwellizing the straight-through Gumbel-softmax gradient estimator".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from softhot.estimators.conditional import Conditional
from softhot.functional import one_hot_sample

__all__ = ["GumbelRao"]


@dataclass(frozen=True)
class GumbelRao(Conditional):
    """A hard sample with the mean gradient of relaxed samples of which it is the largest entry.

    Arguments:
        samples: the number of draws n of the hard sample.
        temperature: t > 0.
        draws: the number m of relaxed samples for each hard one.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.GumbelRao(temperature=0.5, draws=10)(lambda z: z.amax((-1, -2)), logits).item()
        1.0
    """

    relaxed: ClassVar[bool] = True
    source: ClassVar[str] = "Paulus et al. 2021"

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        z = one_hot_sample(logits.detach(), generator=generator)
        return self.relaxed_given(z, logits, generator)
