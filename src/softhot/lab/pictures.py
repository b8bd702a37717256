"""Pictures of what a model does: reconstructions of images, and samples from the prior."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.distributions import MixtureOfDiscreteFlows
from softhot.functional import one_hot_sample
from softhot.lab.files import replace
from softhot.lab.seeds import stream
from softhot.problems.vae import CategoricalVAE

__all__ = ["prior_samples", "reconstructions", "save_grid"]


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

    height, width = shape
    tiles = torch.nn.functional.pad(images.unflatten(-1, shape), (1, 1, 1, 1), value=0.35)
    rows, columns = tiles.shape[:2]
    sheet = tiles.permute(0, 2, 1, 3).reshape(rows * (height + 2), columns * (width + 2))
    pixels = (sheet * 255).round().to(torch.uint8).numpy()
    factor = max(1, 448 // (max(height, width) * 8))
    picture = Image.fromarray(pixels).resize(
        (pixels.shape[1] * factor, pixels.shape[0] * factor), Image.Resampling.NEAREST
    )
    replace(path, lambda beside: picture.save(beside, format="PNG"))
