"""The folder of a study: many runs, one record for each, from which it can be continued.

The folder holds ``study.json``, ``runs/<id>.json`` (one record for each finished run, found again by a hash of its
configuration), ``records.csv`` and ``report.html``.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from softhot import __version__
from softhot.lab.config import Config
from softhot.lab.files import make_folder, read_json, write_csv, write_json
from softhot.lab.plan import Plan
from softhot.lab.record import table

__all__ = ["finished", "keep", "open_study", "records", "write_table"]


def open_study(study: Plan, folder: Path, *, command: str) -> None:
    """Make the folder, or go on with it, and write what the study is.

    Raises:
        ValueError: If the folder cannot be written.
    """
    make_folder(folder / "runs")
    about = {
        "command": command,
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "planned": len(study.runs),
        "skipped": list(study.skipped),
    }
    write_json(folder / "study.json", about)


def records(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a folder holds: the study, and the records of the runs that are finished.

    Raises:
        ValueError: If the folder holds no study.
    """
    return read_json(folder / "study.json"), [read_json(path) for path in sorted((folder / "runs").glob("*.json"))]


def finished(folder: Path, config: Config) -> dict[str, Any] | None:
    """The record of a run, if it is done.

    Raises:
        ValueError: If the file is broken, or is the record of something else.
    """
    path = _path(folder, config)
    if not path.exists():
        return None
    record = read_json(path)
    if (
        not isinstance(record, dict)
        or record.get("id") != config.id
        or not {"arm", "gradient", "config"} <= record.keys()
    ):
        raise ValueError(f"{str(path)!r} is not the record of this run; remove it to make it anew.")
    return record


def keep(folder: Path, config: Config, record: dict[str, Any]) -> None:
    """Write the record of a run that is done."""
    write_json(_path(folder, config), record)


def write_table(folder: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write records.csv."""
    write_csv(folder / "records.csv", table(found))


def _path(folder: Path, config: Config) -> Path:
    return folder / "runs" / f"{config.id}.json"
