"""Static MNIST: one fixed Bernoulli draw of MNIST, which published results share; 50,000 / 10,000 / 10,000.

The file holds the arrays train, valid and test, each with eight pixels to a byte.

References:
    Salakhutdinov, Murray (2008), "On the quantitative analysis of deep belief networks".
    Larochelle, Murray (2011), "The neural autoregressive distribution estimator": the files.
"""

from __future__ import annotations

import numpy as np

from softhot.problems.data.arrays import read_array
from softhot.problems.data.dataset import ImageData
from softhot.problems.data.shared import required

__all__ = ["load"]

_FILE = "mnist_static_binarized/binarized_mnist_packed.npz"
_SIDE = 28


def load() -> ImageData:
    """Statically binarised MNIST, from $SOFTHOT_DATA.

    Raises:
        ValueError: If the file is not there, or does not hold packed images of 28 x 28.
    """
    path = required("static-mnist", _FILE)
    packed = [read_array(path, part) for part in ("train", "valid", "test")]
    width = _SIDE * _SIDE // 8
    for array in packed:
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != width:
            raise ValueError(
                f"{str(path)!r}: {array.dtype} of shape {array.shape} is no packed MNIST; "
                f"save numpy.packbits(images, axis=1), uint8 of shape (n, {width})."
            )
    train, valid, test = (np.unpackbits(array, axis=1).astype(bool) for array in packed)
    return ImageData.from_arrays("static-mnist", train, valid, test, source=str(path))
