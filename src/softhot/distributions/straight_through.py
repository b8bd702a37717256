r"""One-hot variables whose samples pass a gradient straight through.

With a one-hot draw z of probabilities p, which depend on parameters,

.. math:: z + p - \operatorname{stop}(p)

is exactly z, and has the gradient of p: a biased estimate of that of z.

Reference:
    Bengio, Léonard, Courville (2013), "Estimating or propagating gradients through stochastic neurons".
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.distributions.one_hot import OneHotCategorical

__all__ = ["OneHotCategoricalStraightThrough"]


class OneHotCategoricalStraightThrough(OneHotCategorical):
    r"""One-hot vectors z with :math:`P(z_k = 1) = p_k`, and samples :math:`z + p - \operatorname{stop}(p)`.

    As :class:`torch.distributions.OneHotCategoricalStraightThrough`, with a generator; all else, the divergence too, is
    that of :class:`OneHotCategorical`. :func:`softhot.functional.straight_through` is the same sample in one step.

    Arguments:
        probs: probabilities of shape (\*batch, K), of any normalisation.
        logits: unnormalised log-probabilities of that shape; -inf marks an impossible class.

    Raises:
        ValueError: As in :class:`OneHotCategorical`.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> z = softhot.distributions.OneHotCategoricalStraightThrough(logits=logits).rsample()
        >>> torch.autograd.grad(z[0], logits)[0]
        tensor([ 0.2500, -0.2500])
    """

    has_rsample = True

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch K"]:
        """One-hot draws of shape (*sample_shape, *batch, K), with the gradient of the probabilities."""
        return self.sample(sample_shape, generator=generator) + (self.probs - self.probs.detach())
