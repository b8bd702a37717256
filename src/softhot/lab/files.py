"""Plain files, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "Unwritable",
    "jsonable",
    "kept",
    "make_folder",
    "read_json",
    "replace",
    "write_csv",
    "write_json",
    "write_text",
]


class Unwritable(ValueError):
    """A file or folder cannot be written: the disk is full, say, or the folder is read-only."""


def make_folder(path: Path) -> Path:
    """The folder, made if need be.

    Raises:
        Unwritable: If it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Unwritable(f"cannot write to the folder {str(path)!r}: {error.strerror}; choose another.") from error
    return path


def replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside its place, then move it there: a reader sees the old one or the new one.

    What is moved is on the disk by then, so that not even a power failure leaves half a file.

    Raises:
        Unwritable: If it cannot be written; what was there before still is.
    """
    beside = path.with_name(f".{uuid.uuid4().hex}.{path.name}")  # a name of its own on every machine
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Unwritable(f"cannot write {str(path)!r}: {error.strerror or error}.") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file."""

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8")

    replace(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; numbers that are not finite become null."""
    write_text(path, json.dumps(jsonable(value), indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If it is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not valid JSON ({error}); remove it to make it anew.") from None


def kept(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What a JSON file holds, if there is one and its "settings" are these.

    Raises:
        ValueError: If it is broken.
    """
    found = read_json(path) if path.exists() else None
    return found if isinstance(found, dict) and found.get("settings") == settings else None


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table with one line for each row; the first row names the columns."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())


def jsonable(value: Any) -> Any:
    """The value with numbers that are not finite replaced by None."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
