"""Scores divided by a temperature."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["tempered"]


def tempered(scores: Tensor, temperature: float | Tensor) -> Tensor:
    """Scores of shape (*batch, K) over a temperature that broadcasts with the batch.

    Scores of -inf stay, and have no part in the gradient to the temperature, where 0 * inf would be NaN.
    """
    if not isinstance(temperature, Tensor):
        return scores / temperature
    impossible = scores == -math.inf
    possible = scores.masked_fill(impossible, 0.0)
    return (possible / temperature[..., None]).masked_fill(impossible, -math.inf)
