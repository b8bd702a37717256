"""Relaxed one-hot samples given the hard one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import counted, positive, tensor, wide
from softhot.kernels.conditional import with_mean_jacobian
from softhot.kernels.philox import new_seed

__all__ = ["with_conditional_gradient"]


def with_conditional_gradient(
    z: Float[Tensor, "*batch K"],
    logits: Float[Tensor, "*batch K"],
    temperature: float | Tensor = 1.0,
    draws: int = 100,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch K"]:
    r"""A one-hot sample, with the mean gradient of relaxed samples of which it is the largest entry.

    .. math:: \frac{1}{m} \sum_{j=1}^m \tfrac{1}{t} J(z_j) g, \qquad
        z_j \sim \operatorname{softmax}((\ell + G) / t) \text{ given } \arg\max_k (\ell_k + G_k)

    The noise is a constant: no gradient passes through its law, which depends on the logits. The mean over all noise is
    then that of :func:`gumbel_softmax` with ``hard=True``.

    Arguments:
        z: one-hot vectors of possible classes.
        logits: of the same shape; -inf marks an impossible class.
        temperature: t > 0.
        draws: the number m of relaxed samples.
        generator: the source of randomness; torch's default generator if not given.

    Raises:
        ValueError: If the temperature is not positive, z is not as large as the logits, or there is no draw.

    Example:
        >>> import torch, softhot
        >>> logits, z = torch.zeros(2, requires_grad=True), torch.tensor([1.0, 0.0])
        >>> softhot.functional.with_conditional_gradient(z, logits, 1e4, draws=1)[0].backward()
        >>> logits.grad  # nearly uniform samples: J / t
        tensor([ 2.5000e-05, -2.5000e-05])

    Reference:
        Paulus, Maddison, Krause (2021), "Rao-Blackwellizing the straight-through Gumbel-softmax gradient estimator".
    """
    tensor("z", z)
    known = wide(logits)
    rate = 1 / positive("temperature", temperature, torch.Size(), device=logits.device)
    counted("draws", draws, 1, "leaves nothing to average")
    if z.shape != logits.shape:
        raise ValueError(
            f"z of shape {tuple(z.shape)} is no sample of logits of shape {tuple(logits.shape)}; use as large ones, as "
            "logits.expand_as(z) is for several samples."
        )
    ratios = known.detach().softmax(-1).reciprocal().masked_fill(z > 0, 0.0)
    sample = with_mean_jacobian(z.to(known.dtype), known, ratios, new_seed(logits.device, generator), rate, draws)
    return sample.to(logits.dtype)
