"""NumPy's files, without pickle: they hold numbers or they are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from softhot.problems.data.reading import plausible, reading

__all__ = ["NPY", "NPZ", "array_names", "read_array", "read_npy"]

NPY = b"\x93N"
NPZ = b"PK"


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an .npy file."""
    with reading(path):
        array: NDArray[Any] = np.load(path, allow_pickle=False)
        return array


def array_names(path: Path) -> list[str]:
    """The names of the arrays in an .npz file."""
    with reading(path), _opened(path) as stored:
        return stored.files


def read_array(path: Path, name: str) -> NDArray[Any]:
    """One array of an .npz file."""
    with reading(path), _opened(path) as stored:
        if name not in stored.files:
            raise ValueError(f"it has no array {name!r}, only {', '.join(map(repr, stored.files))}.")
        array: NDArray[Any] | bytes = stored[name]  # bytes where the entry is not in the format of an .npy file
        if not isinstance(array, np.ndarray):
            raise ValueError(f"its entry {name!r} is no array; save it again with numpy.savez_compressed.")
        return array


@contextmanager
def _opened(path: Path) -> Iterator[NpzFile]:
    with path.open("rb") as file:  # numpy.load itself leaves a damaged file open
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no complete .npz file; save it again with numpy.savez_compressed.")
        with zipfile.ZipFile(file) as entries:
            for entry in entries.infolist():
                plausible(entry.file_size, entry.compress_size)
        file.seek(0)
        with np.load(file, allow_pickle=False) as stored:
            yield stored
