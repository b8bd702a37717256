"""Digits: 1,797 handwritten digits that scikit-learn carries, 8 x 8, grey; 1,197 / 300 / 300, shuffled once.

Reference:
    Alpaydin, Kaynak (1998), "Optical recognition of handwritten digits", UCI Machine Learning Repository.
"""

from __future__ import annotations

from softhot.problems.data.dataset import ImageData
from softhot.problems.data.split import hold_out

__all__ = ["load"]

_WHITE = 16.0
_HELD_OUT = 300


def load() -> ImageData:
    """The digits of scikit-learn; needs no network.

    Example:
        >>> load().train.shape
        torch.Size([1197, 64])
    """
    from sklearn.datasets import load_digits

    train, valid, test = hold_out(load_digits().images / _WHITE, _HELD_OUT, _HELD_OUT)
    return ImageData.from_arrays("digits", train, valid, test, source="scikit-learn, load_digits")
