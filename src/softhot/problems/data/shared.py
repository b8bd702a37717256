"""Files in the folder that the environment variable SOFTHOT_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["absent", "required", "shared"]


def shared(relative: str) -> Path | None:
    """$SOFTHOT_DATA/relative, or None if the variable is not set or there is no such file.

    Raises:
        ValueError: If the variable names no folder.
    """
    root = os.environ.get("SOFTHOT_DATA")
    if not root:
        return None
    if not Path(root).is_dir():
        raise ValueError(f"SOFTHOT_DATA={root!r} is no folder; set it to one that holds {relative}, or unset it.")
    path = Path(root) / relative
    return path if path.exists() else None


def required(name: str, relative: str) -> Path:
    """$SOFTHOT_DATA/relative, for a data set that cannot be downloaded.

    Raises:
        ValueError: If there is no such file.
    """
    path = shared(relative)
    if path is None:
        raise ValueError(
            f"data set {name!r} cannot be downloaded and {absent(relative)}; "
            f"set SOFTHOT_DATA to a folder that holds {relative}, or pass your own images: --data PATH."
        )
    return path


def absent(relative: str) -> str:
    """Why there is no $SOFTHOT_DATA/relative."""
    root = os.environ.get("SOFTHOT_DATA")
    return f"SOFTHOT_DATA={root!r} does not hold {relative}" if root else "SOFTHOT_DATA is not set"
