"""What a worker does: it trains a group of runs, says now and then how far they are, and hands back their records.

A worker that sees the study's folder keeps checkpoints there, and the record of every run that it finishes, so that
nothing is lost if whoever asked for the study is gone by then. One that does not see it, on a machine with another
disk, hands back the record alone, and a run that it loses starts anew.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from softhot.lab.config import Config
from softhot.lab.provenance import Code
from softhot.lab.study.folder import finished, keep, sees, weights
from softhot.lab.study.record import Trial, records_of, score_candidate
from softhot.lab.study.together import program_of
from softhot.lab.study.unfinished import Unfinished
from softhot.lab.training import checkpoint
from softhot.lab.training.loop import Epoch, Run

__all__ = ["Abandoned", "Progress", "Task", "Unfit", "carry_out", "results"]

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
    return results(group, task, place, _Reporter(worker, task.key))


def results(
    group: tuple[Config, ...], task: Task, place: Path | None, report: Callable[[Sequence[Run]], bool]
) -> list[dict[str, Any]]:
    """The records of a group: found, scored or made.

    Arguments:
        group: the runs.
        task: what else there is to know.
        place: the study's folder, if it is there.
        report: called between steps with the runs in training; says whether anybody waits for them.
    """
    if place is None:
        return _train(group, task, None, report)
    left = tuple(config for config in group if finished(place, config, scored=task.scored) is None)
    fresh = tuple(config for config in left if not _score(config, place))
    if fresh:
        _train(fresh, task, place, report)
    return [record for config in group if (record := finished(place, config, scored=task.scored)) is not None]


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


def _score(config: Config, place: Path) -> bool:
    """Score a candidate that is trained; whether it is one."""
    candidate = finished(place, config, scored=False)
    if candidate is None or not weights(place, config).exists():
        return False
    keep(place, config, score_candidate(config, weights(place, config), candidate))
    return True


def _train(
    group: tuple[Config, ...], task: Task, place: Path | None, report: Callable[[Sequence[Run]], bool]
) -> list[dict[str, Any]]:
    """Train a group, and keep what comes of it, if there is a place; the records."""
    kept = [] if place is None else [Unfinished(place, config.id) for config in group]
    trials, curves = _begin(group, task.scored, kept)
    runs = [trial.run for trial in trials]
    program = program_of(runs)
    due = time.monotonic() + task.checkpoint_seconds

    def pause() -> None:
        nonlocal due
        wanted = report(runs)
        if kept and (not wanted or time.monotonic() >= due):
            program.write()
            for one, run, curve in zip(kept, runs, curves, strict=True):
                one.save(run, curve)
            due = time.monotonic() + task.checkpoint_seconds
        if not wanted:
            raise Abandoned

    pause()
    for epochs in program.epochs(pause):
        for curve, epoch in zip(curves, epochs, strict=True):
            curve.append(epoch)
        pause()
    records = records_of(trials, curves)
    if place is not None:
        for run, record, one in zip(runs, records, kept, strict=True):
            if not task.scored and record["valid_elbo"] is not None:
                checkpoint.save(run, weights(place, run.config))
            keep(place, run.config, record, scored=task.scored)
            one.remove()
    return records


def _begin(
    group: tuple[Config, ...], scored: bool, kept: Sequence[Unfinished]
) -> tuple[list[Trial], list[list[Epoch]]]:
    """The runs where they were left, if all were left at the same step; else at their fresh weights."""
    trials = Trial.begin_all(group, scored=scored)
    try:
        curves = [one.restore(trial.run) for one, trial in zip(kept, trials, strict=bool(kept))] or [[] for _ in group]
    except ValueError:
        return _begin(group, scored, ())
    if len({trial.run.step for trial in trials}) > 1:
        return _begin(group, scored, ())
    return trials, curves


class _Reporter:
    """Tells who asked how far runs are, once a second, and asks Dask whether anybody still waits for them."""

    def __init__(self, worker: Any, topic: str) -> None:
        self.worker = worker
        self.topic = topic
        self.task = worker.get_current_task()
        self.due = 0.0

    def __call__(self, runs: Sequence[Run]) -> bool:
        if time.monotonic() < self.due:
            return True
        self.due = time.monotonic() + _REPORT_SECONDS
        for run in runs:
            config = run.config
            progress = Progress(config.id, config.arm, config.seed, run.step, run.expected)
            self.worker.log_event(self.topic, dataclasses.astuple(progress))
        state = self.worker.state.tasks.get(self.task)
        return self.worker.status.name == "running" and state is not None and state.state == "executing"
