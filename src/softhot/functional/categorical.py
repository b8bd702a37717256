"""The exact divergence of categorical variables."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import alike
from softhot.kernels.divergence import divergence

__all__ = ["categorical_kl"]


def categorical_kl(
    logits: Float[Tensor, "*#batch K"], prior_logits: Float[Tensor, "*#batch K"]
) -> Float[Tensor, "*batch"]:
    r""":math:`\sum_k p_k (\log p_k - \log p'_k)` over the last dimension, in nats, for logits of any normalisation.

    Infinite where a class that the prior excludes is possible; impossible classes have no part in value or gradient.

    Arguments:
        logits, prior_logits: of shapes (\*batch, K) that broadcast.

    Raises:
        ValueError: If the logits are no floats, or not of as many classes.

    Example:
        >>> import torch, softhot
        >>> softhot.functional.categorical_kl(torch.tensor([0.0, -torch.inf]), torch.zeros(2))
        tensor(0.6931)
    """
    alike("logits", logits, "prior_logits", prior_logits)
    return divergence(logits, prior_logits)
