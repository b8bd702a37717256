"""A folder of pictures, all of one size, as one stack of grey images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softhot.problems.data.reading import reading

__all__ = ["read_pictures"]

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # not EPS, which runs another program
_DEEP = ("I", "F")  # how the modes of more than 8 bits a pixel begin
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


def read_pictures(folder: Path) -> NDArray[np.uint8]:
    """The pictures right in the folder, in the order of their names, as uint8 of shape (n, height, width).

    Colours become their luma. What cannot become grey without a guess is refused: transparent pixels, more
    than 8 bits a pixel, several frames.

    Raises:
        ValueError: Naming the folder or the picture, if there is none, one is damaged, or the sizes differ.
    """
    with reading(folder):
        paths = sorted(
            path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
        )
    if not paths:
        raise ValueError(f"{str(folder)!r} holds no pictures; pass a folder of files {', '.join(_SUFFIXES)}.")
    pictures = [_grey(paths[0])]
    height, width = pictures[0].shape
    for path in paths[1:]:
        picture = _grey(path)
        if picture.shape != (height, width):
            raise ValueError(
                f"{str(path)!r} is {picture.shape} (height, width), but {paths[0].name!r} is {height, width}; "
                f"bring all to one size: image.resize(({width}, {height}))."
            )
        pictures.append(picture)
    return np.stack(pictures)


def _grey(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with reading(path), Image.open(path, formats=_FORMATS) as image:
        if image.mode.startswith(_DEEP):
            raise ValueError(f"its mode {image.mode} has more than 8 bits a pixel; save it with 8.")
        if getattr(image, "n_frames", 1) > 1:
            raise ValueError("it has several frames; save each as a picture of its own.")
        transparency = image.mode in _ALPHA or "transparency" in image.info
        if transparency and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise ValueError("it has transparent pixels; save it on a background.")
        return np.asarray(image.convert("L"))
