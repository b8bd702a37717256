"""Pictures of what a model does: reconstructions of images, and samples from the prior."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softhot.distributions import MixtureOfDiscreteFlows
from softhot.functional import one_hot_sample
from softhot.lab.files import replace
from softhot.lab.seeds import stream
from softhot.lab.training.loop import few
from softhot.problems.vae import CategoricalVAE

__all__ = ["PICTURES", "encoded", "pictures", "prior_samples", "reconstructions", "save_grid"]

PICTURES = ("reconstructions", "samples")
_COLUMNS = 10
_SHADES = 16


def pictures(model: CategoricalVAE, test: Float[Tensor, "n D"], rows: int) -> dict[str, Tensor]:
    """Those of a model by name: of some test images, and of so many rows of samples."""
    both = reconstructions(model, few(test, _COLUMNS)), prior_samples(model, rows, _COLUMNS)
    return dict(zip(PICTURES, both, strict=True))


@torch.no_grad()
def reconstructions(model: CategoricalVAE, x: Float[Tensor, "n D"], *, seed: int = 0) -> Float[Tensor, "2 n D"]:
    """Images, and below each the mean pixels given one draw of its hard latent variables."""
    logits, noise = model.posterior(x), stream(seed, "reconstruction")
    if model.components is None:
        z = one_hot_sample(logits, generator=noise)
    else:
        z = MixtureOfDiscreteFlows.of_deltas(logits).sample(generator=noise)
    return torch.stack([x, model.decode(z).sigmoid()])


@torch.no_grad()
def prior_samples(model: CategoricalVAE, rows: int, columns: int, *, seed: int = 0) -> Float[Tensor, "rows columns D"]:
    """The mean pixels given draws of the latent variables from the prior."""
    logits = model.prior.expand(rows, columns, *model.prior.shape)
    return model.decode(one_hot_sample(logits, generator=stream(seed, "samples"))).sigmoid()


def save_grid(path: Path, images: Float[Tensor, "rows columns D"], shape: tuple[int, int]) -> None:
    """Write a PNG of a grid of images, ink in white, each pixel several wide."""
    from PIL import Image

    pixels = _grid(images, shape, 255)
    factor = max(1, 448 // (max(shape) * 8))
    picture = Image.fromarray(pixels).resize(
        (pixels.shape[1] * factor, pixels.shape[0] * factor), Image.Resampling.NEAREST
    )
    replace(path, lambda beside: picture.save(beside, format="PNG"))


def encoded(images: Float[Tensor, "rows columns D"], shape: tuple[int, int]) -> str:
    """A small PNG of a grid of images in base64: ink in white, 16 shades of grey, a pixel for each of theirs.

    Example:
        >>> import torch
        >>> text = encoded(torch.rand(2, 10, 28 * 28), (28, 28))
        >>> text[:8], len(text) < 15_000  # noise; of digits, a third of it
        ('iVBORw0K', True)
    """
    from PIL import Image

    picture = Image.fromarray(_grid(images, shape, _SHADES - 1)).convert("P")
    picture.putpalette([17 * shade for shade in range(_SHADES) for _ in range(3)])
    file = io.BytesIO()
    picture.save(file, format="PNG", bits=4, optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _grid(images: Tensor, shape: tuple[int, int], white: int) -> np.ndarray:
    """The images side by side, framed in grey, as whole numbers up to that of white."""
    height, width = shape
    tiles = torch.nn.functional.pad(images.unflatten(-1, shape), (1, 1, 1, 1), value=0.35)
    rows, columns = tiles.shape[:2]
    sheet = tiles.permute(0, 2, 1, 3).reshape(rows * (height + 2), columns * (width + 2))
    pixels: np.ndarray = (sheet * white).round().to(torch.uint8).numpy()
    return pixels
