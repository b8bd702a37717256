"""MNIST: handwritten digits, 28 x 28, grey; 50,000 / 10,000 / 10,000 in the order of the files.

Reference:
    LeCun, Bottou, Bengio, Haffner (1998), "Gradient-based learning applied to document recognition".
"""

from __future__ import annotations

from softhot.problems.data.dataset import ImageData
from softhot.problems.data.standard import load_standard

__all__ = ["load"]


def load() -> ImageData:
    """MNIST, from the folder mnist of $SOFTHOT_DATA or from OpenML."""
    return load_standard("mnist", openml="mnist_784")
