"""Where a command writes: to the folder that is given, or to one in results/ that is named after what is done."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["basename", "destination"]

_REFUSED = re.compile(r'[%/\\:*?"<>|]')  # in names, by one system or another; and the sign that they are written with


def destination(out: Path | None, *words: object) -> Path:
    """The folder to write to, given what is done.

    Example:
        >>> destination(None, "infer", "pair", "B=y/z").as_posix()
        'results/infer-pair-B=y%2Fz'
    """
    name = _REFUSED.sub(lambda found: f"%{ord(found[0]):02X}", "-".join(map(str, words)))
    return out or Path("results") / name


def basename(path: Path | str) -> str:
    """The name of a file or a folder, of ``.`` and ``..`` too; that of a link is its own.

    Example:
        >>> basename("data/set.npz"), basename(".") == Path.cwd().name
        ('set.npz', True)
    """
    return Path(os.path.abspath(path)).name  # noqa: PTH100
