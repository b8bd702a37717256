"""Omniglot: characters of fifty alphabets, brought to 28 x 28 by area averaging, grey, ink is 1.

The test part is the evaluation alphabets; the validation part is a fixed tenth of the others. These are not
the images of ``chardata.mat``, so log-likelihoods do not compare with published ones.

Reference:
    Lake, Salakhutdinov, Tenenbaum (2015), "Human-level concept learning through probabilistic program
    induction".
"""

from __future__ import annotations

from softhot.problems.data.arrays import read_array
from softhot.problems.data.dataset import ImageData
from softhot.problems.data.shared import required
from softhot.problems.data.split import hold_out

__all__ = ["load"]

_FILE = "omniglot/omniglot_28_area.npz"


def load() -> ImageData:
    """Omniglot, from $SOFTHOT_DATA.

    Raises:
        ValueError: If the file is not there, or does not hold the images X and the flags evaluation.
    """
    path = required("omniglot", _FILE)
    images = read_array(path, "X")
    test = read_array(path, "evaluation")
    if test.dtype != bool or test.shape != images.shape[:1]:
        raise ValueError(
            f"{str(path)!r}: evaluation is {test.dtype} of shape {test.shape}, X has shape {images.shape}; "
            "save evaluation as one bool for each image."
        )
    rest = images[~test]
    train, valid = hold_out(rest, len(rest) // 10)
    return ImageData.from_arrays("omniglot", train, valid, images[test], source=str(path))
