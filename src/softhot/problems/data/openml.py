"""Images from OpenML, downloaded once into scikit-learn's data folder."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softhot.problems.data.arrays import read_npy
from softhot.problems.data.reading import one_line

__all__ = ["fetch"]


def fetch(name: str, instead: str) -> NDArray[Any]:
    """The rows of pixels of version 1 of a data set on OpenML, as uint8.

    scikit-learn compares what comes with the MD5 checksum that OpenML has of it. The rows are kept as an .npy file, as
    scikit-learn keeps the text, and parses it for half a minute at every call; their SHA-256 checksum stands beside
    them, and is compared at every call.

    Arguments:
        name: The name on OpenML.
        instead: What to do if the download fails, the end of the error.

    Raises:
        ValueError: If it cannot be downloaded, or what is kept of it has changed since.
    """
    from sklearn.datasets import fetch_openml, get_data_home

    try:
        kept = Path(get_data_home()) / "softhot" / f"{name}.npy"
        checksum = kept.with_suffix(".sha256")
        if not checksum.exists():
            # the parser "auto" needs pandas
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of every attempt; what counts is the error
                rows = fetch_openml(name, version=1, as_frame=False, parser="liac-arff").data
            kept.parent.mkdir(exist_ok=True)
            partial = kept.with_suffix(f".{os.getpid()}.npy")
            np.save(partial, rows.astype(np.uint8))
            partial.replace(kept)
            checksum.write_text(_digest(kept))
    except Exception as error:
        raise ValueError(f"cannot download {name!r} from OpenML: {one_line(error)}; {instead}") from error
    if not kept.exists() or _digest(kept) != checksum.read_text():
        raise ValueError(f"{str(kept)!r} is not what was downloaded; delete {str(checksum)!r} to download it again.")
    return read_npy(kept)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
