"""Functions of one-hot variables whose expectations the tests take, and the generator that makes a test repeat."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cubic", "features", "linear", "quadratic", "seeded"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(z: Tensor) -> tuple[Tensor, Tensor]:
    a, b = torch.randn(2, *z.shape[-2:], dtype=torch.float64, generator=seeded(4)).to(z.dtype)
    return (z * a).sum((-1, -2)), (z * b).sum((-1, -2))


def linear(z: Tensor) -> Tensor:
    return features(z)[0]


def quadratic(z: Tensor) -> Tensor:
    a, b = features(z)
    return a * b + b**2 + a


def cubic(z: Tensor) -> Tensor:
    """A cubic with a sine, in which all variables interact."""
    a, b = features(z)
    return a**3 + 2 * a * b + torch.sin(3 * b)
