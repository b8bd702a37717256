"""From stored arrays to grey values: which shapes are images, and what 1 means in each type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["scale", "stack"]


def stack(array: NDArray[Any], source: str) -> NDArray[Any]:
    """The array as (n, height, width); a row of d * d values is a square image.

    Raises:
        ValueError: Beginning with the source, if the array is empty or has another shape.
    """
    side = math.isqrt(array.shape[1]) if array.ndim == 2 else 0
    if array.size and array.ndim == 2 and side * side == array.shape[1]:
        return array.reshape(len(array), side, side)
    if array.size and array.ndim == 3:
        return array
    raise ValueError(
        f"{source!r}: an array of shape {array.shape} is no stack of grey images; "
        "save images.reshape(n, height, width), or the mean over the colours."
    )


def scale(images: NDArray[Any], source: str) -> Float[Tensor, "n pixels"]:
    """The stack as float32 rows in which 1 is white: booleans and floats as they are, uint8 divided by 255.

    Raises:
        ValueError: Beginning with the source, if the pixels have another type.
    """
    if images.dtype != np.uint8 and images.dtype.kind not in "bf":
        raise ValueError(
            f"{source!r}: pixels of type {images.dtype} have no known range; "
            "save images.astype(numpy.uint8) with white at 255, or floats in [0, 1]."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        rows = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    if images.dtype == np.uint8:
        rows /= 255
    return torch.from_numpy(rows)
