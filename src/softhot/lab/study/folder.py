"""The folder of a study: many runs, one record for each, from which it can be continued.

The folder holds ``study.json``, ``runs/<id>.json`` (one record for each finished run, found again by a hash of its
configuration), ``records.csv`` and ``report.html``. A study that a file declares has a copy of it in ``study.toml``. If
there was anything to choose, ``candidates/`` holds what it was chosen from: a record without scores on the test images
and the weights, for each run that was trained. While a study runs there are ``unfinished/``, with the checkpoints of
its runs, and a lock, as two studies at a time in one folder would do the same work twice.
"""

from __future__ import annotations

import platform
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from softhot.lab.config import Config
from softhot.lab.files import make_folder, read_json, write_csv, write_json, write_text
from softhot.lab.provenance import Code
from softhot.lab.study.plan import Plan
from softhot.lab.study.record import table

__all__ = ["check_code", "finished", "keep", "open_study", "sees", "weights", "write_table"]

DECLARATION = "study.toml"


@contextmanager
def open_study(study: Plan, folder: Path, *, command: str) -> Iterator[str]:
    """Make the folder, or go on with it, write what the study is, and keep others out; gives the study's key.

    Raises:
        ValueError: If the folder cannot be written, or a study runs in it.
    """
    from filelock import FileLock, Timeout

    make_folder(folder / "runs")
    if not study.scored:
        make_folder(folder / "candidates")
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"a study is running in {str(folder)!r}; wait for it, or use another --out.") from None
    try:
        for left in folder.glob("*/.*"):
            left.unlink(missing_ok=True)  # what a killed process had half written
        path = folder / "study.json"
        before = read_json(path) if path.exists() else None
        key = str(before["key"]) if isinstance(before, dict) and "key" in before else uuid.uuid4().hex
        if study.declaration is not None:
            write_text(folder / DECLARATION, study.declaration)
        about = {
            "key": key,
            "title": study.title,
            "command": command,
            **Code.here().to_json(),
            "python": platform.python_version(),
            "planned": len(study.runs),
            "skipped": list(study.skipped),
            "choices": list(study.choices),
        }
        write_json(path, about)
        yield key
    finally:
        lock.release()


def sees(folder: Path, key: str) -> bool:
    """Whether this machine has the folder of a study; another folder may have the same path there."""
    try:
        return bool(read_json(folder / "study.json")["key"] == key)
    except (ValueError, LookupError, TypeError):
        return False


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


def check_code(folder: Path, found: Sequence[dict[str, Any]], code: Code) -> None:
    """Refuse to put numbers of different code side by side.

    Raises:
        ValueError: If some of the records were made by other code.
    """
    others = [Code.of(record) for record in found if Code.of(record) != code]
    if others:
        raise ValueError(
            f"{len(others)} of the {len(found)} finished runs in {str(folder)!r} were made by other code "
            f"({others[0].differences(code)}); use another --out, or --mix-versions to keep them beside the new ones."
        )


def keep(folder: Path, config: Config, record: dict[str, Any], *, scored: bool = True) -> None:
    """Write the record of a run that is done."""
    write_json(_path(folder, config, "runs" if scored else "candidates"), record)


def weights(folder: Path, config: Config) -> Path:
    """Where the weights of a candidate are."""
    return _path(folder, config, "candidates").with_suffix(".safetensors")


def write_table(folder: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write records.csv."""
    write_csv(folder / "records.csv", table(found))


def _path(folder: Path, config: Config, part: str = "runs") -> Path:
    return folder / part / f"{config.id}.json"
