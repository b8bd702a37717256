"""Temperatures of the batch, beside scores of the batch and the classes."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["by_row", "column", "tempered"]


def tempered(scores: Tensor, temperature: float | Tensor) -> Tensor:
    """Scores of shape (*batch, K) over a temperature that broadcasts with the batch.

    Scores of -inf stay, and have no part in the gradient to the temperature, where 0 * inf would be NaN.
    """
    if not isinstance(temperature, Tensor):
        return scores / temperature
    impossible = scores == -math.inf
    possible = scores.masked_fill(impossible, 0.0)
    return (possible / column(temperature)).masked_fill(impossible, -math.inf)


def column(temperature: float | Tensor) -> float | Tensor:
    """The temperature with a dimension for the classes."""
    return temperature[..., None] if isinstance(temperature, Tensor) else temperature


def by_row(temperature: float | Tensor, scores: Tensor) -> tuple[float, Tensor | None]:
    """The temperature of all rows of the scores; or none, 0, and one for each row."""
    if not isinstance(temperature, Tensor) or temperature.numel() == 1:
        return float(temperature), None
    return 0.0, temperature.detach().to(scores.dtype).expand(scores.shape[:-1]).contiguous()
