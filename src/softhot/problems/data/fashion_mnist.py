"""Fashion-MNIST: articles of clothing, 28 x 28, grey; 50,000 / 10,000 / 10,000 in the order of the files.

Reference:
    Xiao, Rasul, Vollgraf (2017), "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms".
"""

from __future__ import annotations

from softhot.problems.data.dataset import ImageData
from softhot.problems.data.standard import load_standard

__all__ = ["load"]


def load() -> ImageData:
    """Fashion-MNIST, from the folder fashion-mnist of $SOFTHOT_DATA or from OpenML."""
    return load_standard("fashion-mnist", openml="Fashion-MNIST")
