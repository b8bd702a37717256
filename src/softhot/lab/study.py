"""The folder of a study: many runs, one record for each, from which it can be continued.

The folder holds ``study.json``, ``runs/<id>.json`` (one record for each finished run, found again by a hash of its
configuration), ``records.csv`` and ``report.html``. A study that a file declares has a copy of it in ``study.toml``. If
there was anything to choose, ``candidates/`` holds what it was chosen from: a record without scores on the test images
and the weights, for each run that was trained.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from softhot import __version__
from softhot.lab.config import Config
from softhot.lab.files import make_folder, read_json, write_csv, write_json, write_text
from softhot.lab.plan import Plan
from softhot.lab.record import run_candidate, run_one, score_candidate, table

__all__ = ["carry_out", "finished", "open_study", "records", "write_table"]

DECLARATION = "study.toml"


def open_study(study: Plan, folder: Path, *, command: str) -> None:
    """Make the folder, or go on with it, and write what the study is.

    Raises:
        ValueError: If the folder cannot be written.
    """
    make_folder(folder / "runs")
    if not study.scored:
        make_folder(folder / "candidates")
    if study.declaration is not None:
        write_text(folder / DECLARATION, study.declaration)
    about = {
        "title": study.title,
        "command": command,
        "declaration": None if study.declaration is None else DECLARATION,
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "planned": len(study.runs),
        "skipped": list(study.skipped),
        "choices": list(study.choices),
    }
    write_json(folder / "study.json", about)


def records(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a folder holds: the study, and the records of the runs that are finished.

    Raises:
        ValueError: If the folder holds no study.
    """
    return read_json(folder / "study.json"), [read_json(path) for path in sorted((folder / "runs").glob("*.json"))]


def finished(folder: Path, config: Config, *, scored: bool = True) -> dict[str, Any] | None:
    """The record of a run, if it is done; of one that is at least trained, if it need not be scored.

    Raises:
        ValueError: If the file is broken, or is the record of something else.
    """
    path = _path(folder, config)
    if not scored and not path.exists():
        path = _path(folder, config, "candidates")
    if not path.exists():
        return None
    record = read_json(path)
    if (
        not isinstance(record, dict)
        or record.get("id") != config.id
        or not {"arm", "config", "gradient" if scored else "valid_elbo"} <= record.keys()
    ):
        raise ValueError(f"{str(path)!r} is not the record of this run; remove it to make it anew.")
    return record


def carry_out(folder: Path, config: Config, *, scored: bool = True) -> dict[str, Any]:
    """Train a run and score it on the test images, or as much of that as is asked for and left; keep its record.

    Raises:
        ValueError: If its data or its weights cannot be read, or its record cannot be written.
    """
    weights = _path(folder, config, "candidates").with_suffix(".safetensors")
    if not scored:
        record = run_candidate(config, weights)
    elif weights.exists() and (candidate := finished(folder, config, scored=False)):
        record = score_candidate(config, weights, candidate)
    else:
        record = run_one(config)
    write_json(_path(folder, config, "runs" if scored else "candidates"), record)
    return record


def write_table(folder: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write records.csv."""
    write_csv(folder / "records.csv", table(found))


def _path(folder: Path, config: Config, part: str = "runs") -> Path:
    return folder / part / f"{config.id}.json"
