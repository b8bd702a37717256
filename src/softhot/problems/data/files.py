"""Images of your own, from one file or one folder.

- an IDX file, plain or gzipped;
- an .npy file of shape (n, height, width), or (n, d * d) for square images;
- an .npz file with one such array, or with the arrays train and test, and valid if you have it;
- a folder with MNIST's files of training and test images;
- a folder of pictures, all of one size.

Booleans and floats in [0, 1] are taken as they are, uint8 is divided by 255. What has no test part is split
80 / 10 / 10, what has no validation part gives a tenth of its training images, always in the same way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softhot.problems.data.arrays import NPY, NPZ, array_names, read_array, read_npy
from softhot.problems.data.dataset import ImageData
from softhot.problems.data.idx import GZIP, has_idx, read_idx, read_idx_folder
from softhot.problems.data.pictures import read_pictures
from softhot.problems.data.pixels import stack
from softhot.problems.data.reading import reading
from softhot.problems.data.split import hold_out

__all__ = ["load"]

_FEWEST = 10
_IDX = b"\0\0"


def load(path: Path) -> ImageData:
    """The images at the path, named after it.

    Raises:
        ValueError: Naming the path, if it cannot be read or holds fewer than 10 training images.
    """
    source = str(path)
    parts = {part: stack(array, source) for part, array in _arrays(path).items()}
    images = next(iter(parts.values()))
    if len(images) < _FEWEST:
        raise ValueError(f"{source!r}: {len(images)} images are too few to train on; pass at least {_FEWEST}.")
    if images.dtype == np.uint8 and images.max() <= 1:
        raise ValueError(
            f"{source!r}: uint8 pixels of at most 1 would be black, as white is 255; "
            "save binary images as images.astype(bool)."
        )
    tenth = len(images) // 10
    match parts:
        case {"train": train, "valid": valid, "test": test}:
            pass
        case {"test": test}:
            train, valid = hold_out(images, tenth)
        case _:
            train, valid, test = hold_out(images, tenth, tenth)
    return ImageData.from_arrays(path.absolute().stem, train, valid, test, source=source)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The stored arrays by part: "train", "test" and perhaps "valid", or all "images" in one."""
    if path.is_dir():
        return read_idx_folder(path) if has_idx(path) else {"images": read_pictures(path)}
    with reading(path), path.open("rb") as file:
        magic = file.read(2)
    if magic == NPZ:
        return {part: read_array(path, name) for part, name in _parts(path).items()}
    if magic == NPY:
        return {"images": read_npy(path)}
    if magic in (GZIP, _IDX):
        return {"images": read_idx(path)}
    raise ValueError(f"{str(path)!r} is no IDX, .npy or .npz file; pass one of these, or a folder of pictures.")


def _parts(path: Path) -> dict[str, str]:
    """Which array of an .npz file is which part."""
    names = array_names(path)
    if {"train", "test"} <= set(names):
        return {part: part for part in ("train", "valid", "test") if part in names}
    if len(names) == 1:
        return {"images": names[0]}
    raise ValueError(
        f"{str(path)!r} holds {', '.join(map(repr, names)) or 'no arrays'}; save one array of images, "
        "or two with numpy.savez_compressed(path, train=..., test=...)."
    )
