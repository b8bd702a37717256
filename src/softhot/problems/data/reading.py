"""One way to fail: whatever goes wrong with a file becomes a ValueError of one line that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["one_line", "plausible", "reading"]

_LARGE = 1 << 30
_DENSE = 100


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Around the reading of a file; catches every exception, as decoders raise all kinds on damaged files.

    Pipes and devices are refused before they are opened, which may wait for ever.

    Example:
        >>> with reading("missing.npy"):
        ...     raise FileNotFoundError(2, "No such file or directory")
        Traceback (most recent call last):
        ...
        ValueError: cannot read 'missing.npy': No such file or directory
    """
    try:
        there = Path(path)
        if there.exists() and not (there.is_file() or there.is_dir()):
            raise ValueError("it is a pipe or a device; save what it holds as a file.")
        yield
    except Exception as error:
        raise ValueError(f"cannot read {str(path)!r}: {one_line(error)}") from error


def plausible(unpacked: int, packed: int) -> None:
    """Refuse bytes that would fill the memory when they are unpacked: over a gigabyte, and a hundred times as many."""
    if unpacked > max(_LARGE, _DENSE * packed):
        raise ValueError(f"its {packed} bytes would become {unpacked}, as no images do; save it without compression.")


def one_line(error: Exception) -> str:
    """What an exception says, in one line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__
