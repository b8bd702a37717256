"""Images as a model sees them: rows of grey values in [0, 1], in three parts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from softhot.kernels import bernoulli
from softhot.problems.data.pixels import scale, stack

__all__ = ["ImageData"]


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set of flat grey images.

    Arguments:
        name: What the set is called.
        train: The training images, float32 of shape (n, height * width), in [0, 1]; never empty.
        valid: The images that choose between models, likewise.
        test: The images that are reported on, likewise.
        shape: (height, width).
        source: Where the images came from, in one line.

    Raises:
        ValueError: If a part is empty or has another type, width or range.

    Example:
        >>> halves = torch.full((2, 6), 0.5)
        >>> data = ImageData("halves", halves, halves, halves, shape=(2, 3), source="made up")
        >>> data.binary
        False
    """

    name: str
    train: Float[Tensor, "train pixels"] = field(repr=False)
    valid: Float[Tensor, "valid pixels"] = field(repr=False)
    test: Float[Tensor, "test pixels"] = field(repr=False)
    shape: tuple[int, int]
    source: str

    def __post_init__(self) -> None:
        height, width = self.shape
        for part, images in self._parts().items():
            where = f"{self.source!r}: {part}"
            if images.dtype != torch.float32:
                raise ValueError(f"{where} is {images.dtype}, not torch.float32; pass {part}={part}.float().")
            if images.dim() != 2 or images.shape[1] != height * width:
                raise ValueError(
                    f"{where} has shape {tuple(images.shape)}, but images of {height} x {width} are rows of "
                    f"{height * width}; pass {part}={part}.reshape(-1, {height * width})."
                )
            if images.numel() == 0:
                raise ValueError(f"{where} is empty; keep at least one image for each of train, valid and test.")
            low, high = (value.item() for value in images.aminmax())
            if math.isnan(low):
                raise ValueError(f"{where} holds NaN; leave those images out: images[~isnan(images).any(-1)].")
            if low < 0 or high > 1:
                raise ValueError(
                    f"{where} holds values from {low:g} to {high:g}, which are not all in [0, 1]; "
                    "rescale them: (images - images.min()) / (images.max() - images.min())."
                )

    @classmethod
    def from_arrays(
        cls, name: str, train: NDArray[Any], valid: NDArray[Any], test: NDArray[Any], *, source: str
    ) -> ImageData:
        """The data set of three arrays of shape (n, height, width), or (n, d * d) for square images.

        Arguments:
            name: What the set is called.
            train: Booleans, uint8 (white is 255) or floats in [0, 1].
            valid: Likewise.
            test: Likewise.
            source: Where the arrays came from; errors begin with it.
        """
        stacks = [stack(array, source) for array in (train, valid, test)]
        shapes = {images.shape[1:] for images in stacks}
        if len(shapes) > 1:
            raise ValueError(f"{source!r}: the images have several sizes, {sorted(shapes)}; bring them to one size.")
        height, width = shapes.pop()
        train_rows, valid_rows, test_rows = (scale(images, source) for images in stacks)
        return cls(name, train_rows, valid_rows, test_rows, shape=(height, width), source=source)

    @property
    def binary(self) -> bool:
        """Whether every value of every part is 0 or 1."""
        return all(map(bernoulli.binary, self._parts().values()))

    def _parts(self) -> dict[str, Tensor]:
        return {"train": self.train, "valid": self.valid, "test": self.test}
