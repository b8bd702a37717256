"""What a worker does: it trains a group of runs, says now and then how far they are, and hands back their records.

A worker that sees the study's folder keeps checkpoints there, and the record of every run that it finishes, so that
nothing is lost if whoever asked for the study is gone by then. One that does not see it, on a machine with another
disk, hands back the record alone, and a run that it loses starts anew.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from softhot.lab import checkpoint
from softhot.lab.config import Config
from softhot.lab.provenance import Code
from softhot.lab.record import Trial, score_candidate
from softhot.lab.study import finished, keep, sees, weights
from softhot.lab.training import Epoch, Run
from softhot.lab.unfinished import Unfinished

__all__ = ["Progress", "Task", "Unfit", "carry_out"]

_REPORT_SECONDS = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Arguments:
        id: of the run.
        arm: what it is called.
        seed: of the run.
        step: how many steps are done.
        steps: how many there are; where seconds end the run, how many there will be at this pace.
    """

    id: str
    arm: str
    seed: int
    step: int
    steps: int


@dataclass(frozen=True)
class Task:
    """What a worker must know besides the runs.

    Arguments:
        folder: of the study, from the root.
        key: of the study; reports go to the Dask topic of this name.
        code: what the worker must run; anything if not given.
        threads: that PyTorch uses; as the worker was started if not given.
        checkpoint_seconds: between the checkpoints of a run.
        scored: whether the test images are looked at; if not, the weights are kept for that.
    """

    folder: Path
    key: str
    code: Code | None
    threads: int | None
    checkpoint_seconds: float
    scored: bool = True


class Unfit(ValueError):
    """A worker that cannot take part in a study."""


class Abandoned(Exception):
    """Nobody waits for the run any more."""


def carry_out(group: tuple[Config, ...], task: Task) -> list[dict[str, Any]]:
    """Train a group of runs on a Dask worker; their records.

    Raises:
        Unfit: If the worker runs other code, or several tasks at once.
        Unwritable: If the study's folder is there and cannot be written.
    """
    from distributed import get_worker

    worker = get_worker()
    _check(worker, task)
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    place = task.folder if sees(task.folder, task.key) else None
    report = _Reporter(worker, task.key)
    return [_record(config, task, place, report) for config in group]


def _check(worker: Any, task: Task) -> None:
    if worker.state.nthreads != 1:
        raise Unfit(
            f"the worker {worker.address} runs {worker.state.nthreads} tasks at a time in one process; "
            "start it with: dask worker --nthreads 1, and --nworkers for more."
        )
    if task.code is not None and task.code != Code.here():
        raise Unfit(
            f"the worker {worker.address} runs other code ({Code.here().differences(task.code)} here); "
            "install the same on all machines, or use --mix-versions."
        )


def _record(config: Config, task: Task, place: Path | None, report: Callable[[Run], bool]) -> dict[str, Any]:
    if place is None:
        trial, epochs = _train(config, task, None, report)
        return trial.record(epochs)
    record = finished(place, config, scored=task.scored)
    if record is None:
        kept = Unfinished(place, config.id)
        record = _made(config, task, place, kept, report)
        keep(place, config, record, scored=task.scored)
        kept.remove()
    return record


def _made(config: Config, task: Task, place: Path, kept: Unfinished, report: Callable[[Run], bool]) -> dict[str, Any]:
    candidate = finished(place, config, scored=False)
    if candidate is not None and weights(place, config).exists():
        return score_candidate(config, weights(place, config), candidate)
    trial, epochs = _train(config, task, kept, report)
    if not task.scored and math.isfinite(epochs[-1].valid_elbo):
        checkpoint.save(trial.run, weights(place, config))
    return trial.record(epochs)


def _train(
    config: Config, task: Task, kept: Unfinished | None, report: Callable[[Run], bool]
) -> tuple[Trial, list[Epoch]]:
    trial, epochs = _begin(config, task.scored, kept)
    due = time.monotonic() + task.checkpoint_seconds

    def pause() -> None:
        nonlocal due
        wanted = report(trial.run)
        if kept is not None and (not wanted or time.monotonic() >= due):
            kept.save(trial.run, epochs)
            due = time.monotonic() + task.checkpoint_seconds
        if not wanted:
            raise Abandoned

    pause()
    for epoch in trial.run.epochs(pause):
        epochs.append(epoch)
        pause()
    return trial, epochs


def _begin(config: Config, scored: bool, kept: Unfinished | None) -> tuple[Trial, list[Epoch]]:
    trial = Trial.begin(config, scored=scored)
    if kept is None:
        return trial, []
    try:
        return trial, kept.restore(trial.run)
    except ValueError:
        return Trial.begin(config, scored=scored), []


class _Reporter:
    """Tells who asked how far a run is, once a second, and asks Dask whether anybody still waits for it."""

    def __init__(self, worker: Any, topic: str) -> None:
        self.worker = worker
        self.topic = topic
        self.task = worker.get_current_task()
        self.due = 0.0

    def __call__(self, run: Run) -> bool:
        if time.monotonic() < self.due:
            return True
        self.due = time.monotonic() + _REPORT_SECONDS
        config = run.config
        progress = Progress(config.id, config.arm, config.seed, run.step, run.expected)
        self.worker.log_event(self.topic, dataclasses.astuple(progress))
        state = self.worker.state.tasks.get(self.task)
        return self.worker.status.name == "running" and state is not None and state.state == "executing"
