r"""The invertible Gaussian relaxation: a softmax of Gaussian variables, with one class as the rest.

.. math:: z = \operatorname{softmax}\Big( \frac{y_1}{t}, \dots, \frac{y_{K-1}}{t}, \log\delta \Big), \qquad
    y_k = \mu_k + \sigma \varepsilon_k, \quad \mu_k = \ell_k - \ell_K, \quad \varepsilon_k \sim N(0, 1)

The map from y to z is invertible, :math:`y_k = t \, (\log z_k - \log z_K + \log\delta)`, so that densities and
divergences of z are those of Gaussian variables.

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

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softhot.functional.check import floating, per_row, positive, wide
from softhot.functional.log_space import remember_log
from softhot.kernels.streams import drawn
from softhot.kernels.temper import tempered

__all__ = ["gaussian_means", "gaussian_sample"]


def gaussian_means(
    logits: Float[Tensor, "*batch K"],
) -> tuple[Float[Tensor, "*batch K"], Bool[Tensor, "*batch K"]]:
    """The differences of the logits to that of the last possible class, and which class that is.

    Half precision gives differences in float32.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.gaussian_means(torch.tensor([1.0, 2.0, 0.5, -torch.inf]))
        (tensor([0.5000, 1.5000, 0.0000,   -inf]), tensor([False, False,  True, False]))
    """
    floating("logits", logits, least=1)
    possible = logits != -math.inf  # and so is what is not a number, which the result shows
    place = torch.arange(logits.shape[-1], device=logits.device)
    last = torch.where(possible, place, 0).amax(-1, keepdim=True)
    finite = torch.where(possible, wide(logits), 0.0)
    return torch.where(possible, finite - finite.gather(-1, last), -math.inf), possible & (place == last)


def gaussian_sample(
    logits: Float[Tensor, "*batch K"],
    temperature: float | Tensor = 1.0,
    scale: float = 1.0,
    delta: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch K"]:
    r"""A relaxed one-hot sample of Gaussian noise, over the last dimension.

    Arguments:
        logits: of shape (\*batch, K); -inf marks an impossible class.
        temperature: t > 0, a number or a tensor that broadcasts with the batch.
        scale: :math:`\sigma` > 0, the standard deviation of the noise.
        delta: :math:`\delta` > 0, the weight of the rest.
        generator: of the noise.

    Returns:
        z of shape (\*batch, K), with its own gradient; :func:`log_of` finds its logarithm, as long as z lives.

    Raises:
        ValueError: If a number is not positive, or the temperature does not broadcast.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.gaussian_sample(torch.zeros(5, 3), temperature=0.5).shape
        torch.Size([5, 3])
    """
    floating("logits", logits, least=1)
    heat = per_row("temperature", temperature, logits)
    positive("scale", scale, torch.Size())
    positive("delta", delta, torch.Size())
    means, rest = gaussian_means(logits)
    noise = drawn(
        lambda own: torch.randn(means.shape, dtype=means.dtype, device=means.device, generator=own), generator
    )
    log = tempered(means + scale * noise, heat).masked_fill(rest, math.log(delta)).log_softmax(-1)
    return remember_log(log.exp().to(logits.dtype), log.detach())
