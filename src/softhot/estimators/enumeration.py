"""All configurations of N one-hot variables of K classes, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["configurations"]


def configurations(
    latents: int, classes: int, *, limit: int, chunk: int, like: Tensor
) -> Iterator[Float[Tensor, "chunk N K"]]:
    """One-hot tensors that together hold each of the K^N configurations once, in the dtype and device of `like`.

    Raises:
        ValueError: If there are more than `limit`.

    Example:
        >>> import torch
        >>> [c.shape[0] for c in configurations(3, 2, limit=8, chunk=5, like=torch.zeros(1))]
        [5, 3]
    """
    total = classes**latents
    if total > limit:
        raise ValueError(
            f"enumeration of {latents} latent variables of {classes} classes has {total:,} configurations, more than "
            f"the limit of {limit:,}; use fewer latent variables or classes, a larger limit, or LeaveOneOut()."
        )
    return _chunks(latents, classes, total, chunk, like)


def _chunks(latents: int, classes: int, total: int, chunk: int, like: Tensor) -> Iterator[Tensor]:
    place = classes ** torch.arange(latents, device=like.device)
    for start in range(0, total, chunk):
        index = torch.arange(start, min(start + chunk, total), device=like.device)
        digits = index[:, None] // place % classes
        yield torch.nn.functional.one_hot(digits, classes).to(like.dtype)
