"""Image data sets, by name or from your own files.

Every set is an :class:`ImageData`: three parts of flat grey images with values in [0, 1]. :func:`prepare`
turns it into what a Bernoulli likelihood is trained on. Only ``digits`` needs neither a download nor a file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from softhot.names import unknown
from softhot.problems.data import digits, fashion_mnist, files, mnist, omniglot, static_mnist
from softhot.problems.data.binarise import MODES, Binarised, prepare
from softhot.problems.data.dataset import ImageData
from softhot.problems.data.reading import reading

__all__ = ["DATA", "MODES", "Binarised", "ImageData", "load", "prepare"]

DATA: dict[str, Callable[[], ImageData]] = {
    "digits": digits.load,
    "mnist": mnist.load,
    "static-mnist": static_mnist.load,
    "fashion-mnist": fashion_mnist.load,
    "omniglot": omniglot.load,
}
"""What loads each data set, by its name."""


def load(name_or_path: str) -> ImageData:
    """The data set of that name, or the images in that file or folder.

    A name wins over a file of the same name; write ``./mnist`` for the folder.

    Arguments:
        name_or_path: A key of ``DATA``, or a path as described in :mod:`softhot.problems.data.files`.

    Raises:
        ValueError: In one line, if there is no such set or path, or if it cannot be read.

    Example:
        >>> load("digits")
        ImageData(name='digits', shape=(8, 8), source='scikit-learn, load_digits')
    """
    if name_or_path in DATA:
        return DATA[name_or_path]()
    with reading(name_or_path):
        path = Path(name_or_path).expanduser()
        found = bool(name_or_path) and path.exists()
    if found:
        return files.load(path)
    if path.name != name_or_path or path.suffix:
        raise ValueError(f"{name_or_path!r} does not exist; pass a file, a folder or one of {', '.join(DATA)}.")
    raise unknown("data set", name_or_path, DATA)
