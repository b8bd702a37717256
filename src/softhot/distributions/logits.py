r"""Logits of given probabilities, with slopes that are finite, and of two classes with given odds.

The slope of a logarithm is infinite at zero, and beside it too large for its dtype; times the zero that everything has
for a slope in an impossible class it is NaN, and then so is every gradient of a program that found the probabilities
by a softmax that underflowed. There the logits keep their value, such as -inf, and have no slope.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from softhot.kernels.routes import forward, needs_gradient, unseen

__all__ = ["log_odds", "log_probabilities", "two_logits"]


def log_probabilities(probs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
    r""":math:`\log p`."""
    return _sloped(torch.log, probs, math.inf)


def log_odds(probs: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    r""":math:`\log p - \log(1 - p)`, without a slope at 1 either."""
    return _sloped(lambda p: p.log() - (-p).log1p(), probs, 1.0)


def two_logits(odds: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 2"]:
    r""":math:`\log p` and :math:`\log(1 - p)` from log-odds, which may be infinite."""
    return torch.stack([logsigmoid(odds), logsigmoid(-odds)], -1)


def _sloped(function: Callable[[Tensor], Tensor], probs: Tensor, end: float) -> Tensor:
    """A function of probabilities, constant where they are almost zero, and where they have come to the end."""
    if not needs_gradient(probs) and not forward():
        return function(probs)
    least = torch.finfo(probs.dtype).tiny ** 0.9  # leaves some digits for what 1 / p is multiplied by
    if probs.is_cpu and not unseen(probs) and probs.numel():
        low, high = (value.item() for value in probs.detach().aminmax())
        if least < low and high < end:
            return function(probs)
    inside = (probs > least) & (probs < end)
    return torch.where(inside, function(torch.where(inside, probs, 0.5)), function(probs.detach()))
