"""IDX, the format of the MNIST files: images of shape (n, height, width), plain or gzipped.

Four bytes (0, 0, type, 3), three big-endian uint32 (n, height, width), then the pixels row by row.
All is big-endian, and the file must hold exactly what its header says.

Reference:
    LeCun, Cortes, Burges (1998), "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import math
import struct
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softhot.problems.data.reading import plausible, reading

__all__ = ["FILES", "GZIP", "has_idx", "read_idx", "read_idx_folder"]

FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
GZIP = b"\x1f\x8b"

_TYPES = {0x08: ">u1", 0x0D: ">f4", 0x0E: ">f8"}
_EXPANSION = 1032  # no deflate stream grows more than this
_CHUNK = 1 << 20


def read_idx(path: Path) -> NDArray[Any]:
    """The images of one IDX file, uint8 or floats.

    Reads no more than the header promises, and nothing if the file is too small to keep that promise.

    Raises:
        ValueError: Naming the file, if it is missing, damaged, or no IDX file of images.
    """
    with reading(path), path.open("rb") as file:
        size = path.stat().st_size
        if file.read(2) != GZIP:
            file.seek(0)
            return _images(file, size, 1)
        file.seek(0)
        with gzip.GzipFile(fileobj=file) as unpacked:
            return _images(unpacked, size, _EXPANSION)


def has_idx(folder: Path) -> bool:
    """Whether the folder holds MNIST's file of training or of test images."""
    return any(_plain_or_gzipped(folder, name).exists() for name in FILES.values())


def read_idx_folder(folder: Path) -> dict[str, NDArray[Any]]:
    """The arrays "train" and "test" of a folder with the names of the MNIST files, plain or with .gz."""
    return {part: read_idx(_plain_or_gzipped(folder, name)) for part, name in FILES.items()}


def _plain_or_gzipped(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


def _images(stream: BufferedIOBase, size: int, expansion: int) -> NDArray[Any]:
    magic = _read(stream, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(f"it begins with {magic.hex() or 'nothing'}, but IDX images begin with 00000803.")
    _, _, code, rank = magic
    if code not in _TYPES:
        raise ValueError(f"its data type is 0x{code:02x}; save uint8 (0x08), float32 (0x0d) or float64 (0x0e).")
    if rank != 3:
        raise ValueError(f"its arrays have rank {rank}, like labels; images have 3: (n, height, width).")
    sizes = _read(stream, 12)
    if len(sizes) < 12:
        raise ValueError("it ends within its header; fetch it again.")
    shape = struct.unpack(">3I", sizes)
    dtype = np.dtype(_TYPES[code])
    promised = math.prod(shape) * dtype.itemsize
    if promised == 0:
        raise ValueError(f"its header says shape {shape}, which is empty; pass a file with images.")
    if promised > size * expansion:
        raise ValueError(f"its header says shape {shape}, more than a file of its size can hold; fetch it again.")
    plausible(promised, size)
    pixels = _read(stream, promised)
    if len(pixels) < promised:
        raise ValueError(f"it ends after {len(pixels)} of the {promised} bytes of its images; fetch it again.")
    if _read(stream, 1):
        raise ValueError(f"it goes on after the {promised} bytes of its images; fetch it again.")
    return np.frombuffer(pixels, dtype).reshape(shape)


def _read(stream: BufferedIOBase, size: int) -> bytearray:
    """The next bytes, fewer at the end; in pieces, so that memory follows what is there."""
    got = bytearray()
    while len(got) < size and (piece := stream.read(min(_CHUNK, size - len(got)))):
        got += piece
    return got
