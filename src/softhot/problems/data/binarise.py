r"""Binary images from grey ones, for a Bernoulli likelihood.

A grey value x in [0, 1] becomes a pixel b in {0, 1} in one of these ways, and the reported log-likelihood
depends on which:

- ``threshold``: :math:`b = 1[x > 1/2]`, the same in every epoch.
- ``dynamic``: :math:`b \sim \mathrm{Bernoulli}(x)`, drawn anew for the training images in every epoch, and
  once for the validation and test images, always with the same seed.
- ``none``: x as it is, and the caller must know: the Bernoulli density of a grey value is no probability.

Images that are binary already stay as they are in every mode.

References:
    Salakhutdinov, Murray (2008), "On the quantitative analysis of deep belief networks": a fixed draw.
    Burda, Grosse, Salakhutdinov (2016), "Importance weighted autoencoders": a draw per epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.names import unknown
from softhot.problems.data.dataset import ImageData

__all__ = ["MODES", "Binarised", "prepare"]

MODES = ("threshold", "dynamic", "none")
"""How grey pixels become binary, by name: see :func:`prepare`."""

_EVALUATION_SEED = 0


@dataclass(frozen=True, eq=False)
class Binarised:
    """Images ready for training, whatever the mode.

    Arguments:
        train: What :meth:`train_epoch` gives or, if ``redraw``, draws from.
        valid: The validation images, the same at every evaluation.
        test: The test images, the same at every evaluation.
        redraw: Whether ``train`` holds probabilities of which every epoch is a fresh draw.
    """

    train: Float[Tensor, "train pixels"] = field(repr=False)
    valid: Float[Tensor, "valid pixels"] = field(repr=False)
    test: Float[Tensor, "test pixels"] = field(repr=False)
    redraw: bool

    def train_epoch(self, generator: torch.Generator) -> Float[Tensor, "train pixels"]:
        """The training images of one epoch, in the order of the data set; not to be changed in place.

        Arguments:
            generator: What a fresh draw comes from; left alone if there is none.
        """
        return torch.bernoulli(self.train, generator=generator) if self.redraw else self.train


def described(data: ImageData, mode: str) -> str:
    """A data set in one of the ``MODES``, in words: its name, what became of its pixels, and where it is from."""
    grey = "grey: cross-entropies, not log-likelihoods"
    pixels = "binary as it is" if data.binary else grey if mode == "none" else f"binarised: {mode}"
    return f"{data.name}, {pixels}; {data.source}"


def prepare(data: ImageData, mode: str) -> Binarised:
    """The images of a data set in one of the ``MODES``.

    Raises:
        ValueError: If there is no such mode.

    Example:
        >>> grey = torch.tensor([[0.2, 0.5, 0.9]])
        >>> data = ImageData("grey", grey, grey, grey, shape=(1, 3), source="made up")
        >>> prepare(data, "threshold").train_epoch(torch.Generator())
        tensor([[0., 0., 1.]])
    """
    if mode not in MODES:
        raise unknown("binarisation", mode, MODES)
    if mode == "none" or data.binary:
        return Binarised(data.train, data.valid, data.test, redraw=False)
    if mode == "threshold":
        train, valid, test = ((part > 0.5).float() for part in (data.train, data.valid, data.test))
        return Binarised(train, valid, test, redraw=False)
    generator = torch.Generator().manual_seed(_EVALUATION_SEED)
    valid, test = (torch.bernoulli(part, generator=generator) for part in (data.valid, data.test))
    return Binarised(data.train, valid, test, redraw=True)
