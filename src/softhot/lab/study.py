"""A study: many runs, one record for each, in a folder that it can be continued from.

The folder holds ``study.json``, ``runs/<id>.json`` (one record for each finished run, found again by a hash of its
configuration), ``records.csv`` and ``report.html``.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from softhot import __version__
from softhot.bounds import incompatible
from softhot.estimators import estimator
from softhot.kl import ALIASES, term
from softhot.lab.config import Config
from softhot.lab.files import jsonable, make_folder, read_json, write_csv, write_json
from softhot.lab.gradients import measure, reference
from softhot.lab.targets import VaeTarget
from softhot.lab.training import Run, evaluate, few
from softhot.problems.data import Binarised, ImageData, load, prepare

__all__ = ["Plan", "execute", "plan", "records", "run_one", "table"]

GRADIENT_IMAGES = 16
GRADIENT_DRAWS = 64


@dataclass(frozen=True)
class Plan:
    """The runs of a study, and the pairs that were left out with the reason."""

    runs: tuple[Config, ...]
    skipped: tuple[dict[str, str], ...]


def plan(
    base: Config, estimators: Sequence[str], terms: Sequence[str], temperatures: Sequence[float], seeds: Sequence[int]
) -> Plan:
    """Every pair of an estimator and a term that go together, at every temperature the estimator has, for all seeds.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or no pair is left.
    """
    arms: list[Config] = []
    skipped = []
    for name in dict.fromkeys(estimators):
        kind = estimator(name)
        for label in dict.fromkeys(ALIASES.get(label, label) for label in terms):
            reason = incompatible(kind(), term(label), base.latents, base.classes)
            if reason:
                skipped.append({"estimator": name, "term": label, "reason": reason})
                continue
            heats = temperatures if kind.relaxed else [1.0]
            arms += [
                dataclasses.replace(base, estimator=name, term=label, temperature=heat) for heat in dict.fromkeys(heats)
            ]
    if not arms:
        reasons = "; ".join(f"{one['estimator']} with {one['term']}: {one['reason']}" for one in skipped)
        raise ValueError(f"no estimator and KL term go together: {reasons or 'none is given'}.")
    return Plan(tuple(dataclasses.replace(arm, seed=seed) for seed in seeds for arm in arms), tuple(skipped))


def execute(study: Plan, folder: Path, *, command: str, workers: int | None = None) -> Iterator[dict[str, Any]]:
    """Run what is not yet done, and yield every record, the old ones first.

    Each run has one process and its share of the cores. A run that fails yields {"failed": arm, "reason": ...}.

    Raises:
        ValueError: If the folder cannot be written, or a worker was killed from outside.
    """
    make_folder(folder / "runs")
    load(study.runs[0].data)  # a bad data set is an error now, not in every worker
    write_json(folder / "study.json", _about(study, command))
    waiting = []
    for config in study.runs:
        record = _finished(folder, config)
        if record is None:
            waiting.append(config)
        else:
            yield record
    cores = os.cpu_count() or 1
    workers = min(workers or cores, max(len(waiting), 1))
    if not waiting:
        return
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_worker,
        initargs=(max(1, cores // workers),),
    )
    try:
        futures = {pool.submit(_run_into, folder, config): config for config in waiting}
        for future in as_completed(futures):
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                raise ValueError("a worker process was killed; run the same command again to go on.") from error
            yield future.result() if error is None else {"failed": futures[future].arm, "reason": str(error)}
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def run_one(config: Config) -> dict[str, Any]:
    """Train, evaluate and measure one model; the record of it."""
    data, images = _images(config.data, config.binarise)
    run = Run(config, images)
    x = few(images.test, GRADIENT_IMAGES)
    start, how = _gradient(run, x)
    epochs = list(run.epochs())
    scores = evaluate(run, images.test)
    end, _ = _gradient(run, x)
    kind = estimator(config.estimator)
    record = {
        "id": config.id,
        "version": __version__,
        "torch": torch.__version__,
        "config": config.to_json(),
        "arm": config.arm,
        "estimator": config.estimator,
        "term": config.term,
        "temperature": config.temperature if config.tempered else None,
        "seed": config.seed,
        "data": f"{data.name}, {_pixels(data, config.binarise)}; {data.source}",
        "bounds": run.objective(run.temperature).bounds,
        "unbiased": kind.unbiased,
        "sample": kind.sample,
        **dataclasses.asdict(scores),
        "gap": scores.objective - scores.elbo,
        "valid_elbo": epochs[-1].valid_elbo,
        "seconds": sum(epoch.seconds for epoch in epochs),
        "evaluations": sum(epoch.evaluations for epoch in epochs),
        "gradient": {"reference": how, "draws": GRADIENT_DRAWS, "images": len(x), "start": start, "end": end},
        "curve": [dataclasses.asdict(epoch) for epoch in epochs],
    }
    cleaned: dict[str, Any] = jsonable(record)
    return cleaned


def records(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a folder holds: the study, and the records of the runs that are finished.

    Raises:
        ValueError: If the folder holds no study.
    """
    return read_json(folder / "study.json"), [read_json(path) for path in sorted((folder / "runs").glob("*.json"))]


def table(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records as flat rows, without the curves."""
    rows = []
    for record in found:
        row = {key: value for key, value in record.items() if key not in ("config", "gradient", "curve")}
        gradient = record["gradient"]
        for when in ("start", "end"):
            for part, numbers in gradient[when].items():
                row |= {f"{part}_{name}_{when}": value for name, value in numbers.items()}
        row |= {key: value for key, value in record["config"].items() if key not in row}
        rows.append(row)
    return rows


def write_table(folder: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write records.csv."""
    write_csv(folder / "records.csv", table(found))


def _about(study: Plan, command: str) -> dict[str, Any]:
    return {
        "command": command,
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "planned": len(study.runs),
        "skipped": list(study.skipped),
    }


def _gradient(run: Run, x: torch.Tensor) -> tuple[dict[str, Any], str]:
    target = VaeTarget(run.model, x, run.config.make_term())
    truth = reference(target)
    found = measure(target, run.learner.at(run.temperature), truth, draws=GRADIENT_DRAWS, seed=run.config.seed)
    return {part: dataclasses.asdict(value) for part, value in found.parts.items()}, truth.how


@lru_cache(maxsize=2)
def _images(name: str, mode: str) -> tuple[ImageData, Binarised]:
    data = load(name)
    return data, prepare(data, mode)


def _pixels(data: ImageData, mode: str) -> str:
    if data.binary:
        return "binary as it is"
    return "grey: cross-entropies, not log-likelihoods" if mode == "none" else f"binarised: {mode}"


def _prepare_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the parent was killed, and nobody would end this worker


def _run_into(folder: Path, config: Config) -> dict[str, Any]:
    record = run_one(config)
    write_json(_path(folder, config), record)
    return record


def _path(folder: Path, config: Config) -> Path:
    return folder / "runs" / f"{config.id}.json"


def _finished(folder: Path, config: Config) -> dict[str, Any] | None:
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
