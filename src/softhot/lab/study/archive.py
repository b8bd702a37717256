"""What a folder of results holds: a study, finished or half finished, or a single run.

A study is read as far as it can be: a record that is broken, or is not the record of a run, is left out and named. Of a
run of ``softhot train`` a record is made, without what was never measured: the quality of its gradients.

Where settings were chosen on the validation images, a run of others that was chosen once is not a run of the study.
"""

from __future__ import annotations

import base64
import csv
import math
from pathlib import Path
from typing import Any

from softhot.lab.config import Config
from softhot.lab.files import read_json
from softhot.lab.study.folder import DECLARATION
from softhot.lab.study.record import about
from softhot.lab.training.images import PICTURES

__all__ = ["describe", "read"]

_TEXTS = ("arm", "estimator", "term", "sample")
_COLUMNS = ("epoch", "valid_elbo", "seconds", "evaluations")


def describe(folder: Path) -> dict[str, Any]:
    """The study of a folder, whatever its runs: what its ``study.json`` holds, its ``study.toml`` under "toml".

    Under "damaged" are the names of the files that are left out: ``study.json`` or none.
    """
    found = _content(folder / "study.json")
    study = {**found, "damaged": []} if _is_study(found) else {"damaged": ["study.json"]}
    declared = folder / DECLARATION
    if declared.exists():
        study["toml"] = declared.read_text(encoding="utf-8", errors="replace")
    return study


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The study of a folder, with broken records under "damaged" as well, and the records of its finished runs.

    Raises:
        ValueError: If the folder holds neither a study nor a run, or the files of a single run are broken.
    """
    paths = sorted((folder / "runs").glob("*.json"))
    if not paths and not (folder / "study.json").exists():
        return {}, [_single(folder)]
    study = describe(folder)
    contents = {path.relative_to(folder).as_posix(): _content(path) for path in paths}
    study["damaged"] += [name for name, content in contents.items() if not _is_record(content)]
    chosen = {choice["arm"]: choice["chosen"] for choice in study.get("choices") or ()}
    records = [content for content in contents.values() if _is_record(content)]
    return study, [record for record in records if chosen.get(record["arm"], {}).items() <= record["config"].items()]


def _content(path: Path) -> Any:
    """What a JSON file holds; None if it is missing or broken."""
    try:
        return read_json(path)
    except ValueError:
        return None


def _is_study(found: Any) -> bool:
    """Whether it is a table, and says of each choice what was chosen for which arm."""
    if not isinstance(found, dict) or not isinstance(found.get("choices") or [], list):
        return False
    kinds = {"arm": str, "chosen": dict}
    return all(
        isinstance(choice, dict) and all(isinstance(choice.get(name), kind) for name, kind in kinds.items())
        for choice in found.get("choices") or ()
    )


def _is_record(found: Any) -> bool:
    """Whether it has what a summary cannot do without."""
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in _TEXTS):
        return False
    curve = found.get("curve") or []
    if not isinstance(curve, list) or not all(
        isinstance(row, dict) and isinstance(row.get("epoch"), int) for row in curve
    ):
        return False
    kinds = {"config": dict, "unbiased": bool, "seed": int, "temperature": float | int | None, "bounds": str | None}
    return all(isinstance(found.get(name), kind) for name, kind in kinds.items())


def _single(folder: Path) -> dict[str, Any]:
    """The record of a folder of ``softhot train``."""
    if not (folder / "config.json").exists():
        raise ValueError(
            f"{str(folder)!r} holds no study and no run; give a folder that softhot compare or softhot train wrote to."
        )
    config = Config.from_json(read_json(folder / "config.json"))
    curve = _curve(folder / "metrics.csv")
    scores = read_json(folder / "scores.json") if (folder / "scores.json").exists() else {}
    if not isinstance(scores, dict):
        raise ValueError(f"{str(folder / 'scores.json')!r} does not hold the scores of a run.")
    objective, elbo = scores.get("objective"), scores.get("elbo")
    return {
        "data": config.data,
        **scores,
        **about(config),
        "gap": objective - elbo if isinstance(objective, float) and isinstance(elbo, float) else None,
        "valid_elbo": curve[-1]["valid_elbo"] if curve else None,
        "seconds": math.fsum(row["seconds"] for row in curve),
        "evaluations": math.fsum(row["evaluations"] for row in curve),
        "curve": curve,
        "pictures": {
            name: base64.b64encode(path.read_bytes()).decode("ascii")
            for name in PICTURES
            if (path := folder / f"{name}.png").exists()
        },
    }


def _curve(path: Path) -> list[dict[str, Any]]:
    """The epochs of a run that has finished some."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = [
                {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)
            ]
        absent = [name for row in rows for name in _COLUMNS if name not in row]
        if absent:
            raise ValueError(f"there is no {absent[0]}")
        return [{**row, "epoch": int(row["epoch"])} for row in rows]
    except (TypeError, ValueError, OverflowError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} does not hold the epochs of a run ({error}).") from None
