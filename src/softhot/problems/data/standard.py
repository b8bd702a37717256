"""The layout that MNIST began and others share: 60,000 training and 10,000 test images of 28 x 28.

The files are sought in $SOFTHOT_DATA, and otherwise the set comes from OpenML. The last 10,000 training
images are the validation part.
"""

from __future__ import annotations

from softhot.problems.data.dataset import ImageData
from softhot.problems.data.idx import FILES, read_idx_folder
from softhot.problems.data.openml import fetch
from softhot.problems.data.pixels import stack
from softhot.problems.data.shared import shared

__all__ = ["load_standard"]

_TRAIN = 60_000
_VALID = 10_000
_TEST = 10_000
_SIDE = 28


def load_standard(name: str, openml: str) -> ImageData:
    """The data set in the folder $SOFTHOT_DATA/name, or of that name on OpenML.

    Raises:
        ValueError: If it can be had from neither, or has other sizes.
    """
    folder = shared(name)
    if folder is None:
        wanted = " and ".join(f"{name}/{file}.gz" for file in FILES.values())
        rows = fetch(
            openml,
            f"set SOFTHOT_DATA to a folder that holds {wanted}, or pass your own images: --data PATH.",
        )
        source = f"OpenML, {openml} version 1"
        images = stack(rows, source)
        train, test = images[:_TRAIN], images[_TRAIN:]
    else:
        source = str(folder)
        train, test = read_idx_folder(folder).values()
    if (train.shape, test.shape) != ((_TRAIN, _SIDE, _SIDE), (_TEST, _SIDE, _SIDE)):
        raise ValueError(
            f"{source!r}: the shapes {train.shape} and {test.shape} are not those of {name}, "
            f"{(_TRAIN, _SIDE, _SIDE)} and {(_TEST, _SIDE, _SIDE)}; pass its path for a set of your own."
        )
    return ImageData.from_arrays(name, train[:-_VALID], train[-_VALID:], test, source=source)
