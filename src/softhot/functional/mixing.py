"""Uniform mixing of logits: a floor under every probability."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import floating

__all__ = ["uniform_mix"]


def uniform_mix(logits: Float[Tensor, "*batch K"], weight: float = 0.01) -> Float[Tensor, "*batch K"]:
    r"""Log-probabilities of a mixture of the categorical variable and the uniform one.

    .. math:: \log\big((1 - w) \operatorname{softmax}(\ell)_k + w / K\big)

    No class becomes impossible, so that KL divergences stay finite and gradients do not vanish: world models mix one
    per cent. The result is normalised, and serves wherever logits do. Computed in log space; logits may hold -inf.

    Arguments:
        logits: of shape (\*batch, K).
        weight: of the uniform variable, w, in [0, 1].

    Raises:
        ValueError: If the weight is not in [0, 1], or the logits are no floats or have no classes.

    Example:
        >>> import torch
        >>> uniform_mix(torch.tensor([0.0, -torch.inf]), 0.5).exp()
        tensor([0.7500, 0.2500])

    Reference:
        Hafner, Pasukonis, Ba, Lillicrap (2023), "Mastering diverse domains through world models", "unimix".
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight={weight} is not a probability; use weight=0.01, for example.")
    floating("logits", logits, least=1)
    own = logits.log_softmax(-1)
    if weight == 0:
        return own
    uniform = torch.full_like(own, math.log(weight / logits.shape[-1]))
    return uniform if weight == 1 else torch.logaddexp(own + math.log1p(-weight), uniform)
