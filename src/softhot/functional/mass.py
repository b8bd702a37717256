"""The discrete log-mass at vectors that need not be one-hot."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import alike

__all__ = ["log_mass"]


def log_mass(z: Float[Tensor, "*#batch K"], logits: Float[Tensor, "*#batch K"]) -> Float[Tensor, "*batch"]:
    r""":math:`\sum_k z_k \log\pi_k`, where entries of z that are zero count as zero whatever their mass.

    Raises:
        ValueError: If these are no floats, or not of as many classes.

    Example:
        >>> import torch, softhot
        >>> log_mass(torch.tensor([1.0, 0.0]), torch.tensor([0.0, -torch.inf]))
        tensor(0.)
    """
    alike("z", z, "logits", logits)
    log_pi = logits.log_softmax(-1)
    z, log_pi = torch.broadcast_tensors(z, log_pi)
    impossible = log_pi == -math.inf
    inside: Tensor = (z * log_pi.masked_fill(impossible, 0.0)).sum(-1)
    return inside.masked_fill((impossible & (z > 0)).any(-1), -math.inf)
