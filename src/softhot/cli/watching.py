"""What is seen of a study while it runs: bars on a terminal, and a line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from softhot.lab.study.task import Progress as RunProgress

__all__ = ["Watcher", "watching"]

_LINE_SECONDS = 10.0


class Watcher(Protocol):
    """Shows how far a study is."""

    def step(self, progress: RunProgress) -> None:
        """A run is so far."""

    def end(self, record: Mapping[str, Any]) -> None:
        """A run is finished, or has failed."""


@contextmanager
def watching(console: Console, total: int) -> Iterator[Watcher]:
    """A watcher of so many runs, for a console."""
    if not console.is_terminal:
        yield _Lines(console, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        yield _Bars(bars, total)


class _Bars:
    """A bar for the study, counted in runs, and one for each run in training, counted in steps."""

    def __init__(self, bars: Progress, total: int) -> None:
        self.bars = bars
        self.study = bars.add_task("runs", total=total)
        self.runs: dict[str, TaskID] = {}

    def step(self, progress: RunProgress) -> None:
        """Move the bar of a run."""
        if progress.id not in self.runs:
            self.runs[progress.id] = self.bars.add_task(f"{progress.arm}, seed {progress.seed}", total=None)
        total = progress.steps or None  # by its pace where seconds end the run, and not known at first
        self.bars.update(self.runs[progress.id], total=total, completed=progress.step)

    def end(self, record: Mapping[str, Any]) -> None:
        """Take the bar of a run away."""
        if record["id"] in self.runs:
            self.bars.remove_task(self.runs.pop(record["id"]))
        self.bars.advance(self.study)


class _Lines:
    """A line every few seconds, of the study and of the runs in training."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.done = 0
        self.runs: dict[str, RunProgress] = {}
        self.due = time.monotonic() + _LINE_SECONDS

    def step(self, progress: RunProgress) -> None:
        """Note how far a run is."""
        self.runs[progress.id] = progress
        self._print()

    def end(self, record: Mapping[str, Any]) -> None:
        """Count a run."""
        self.runs.pop(record["id"], None)
        self.done += 1
        self._print()

    def _print(self) -> None:
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + _LINE_SECONDS
            now = (f"{run.arm}, seed {run.seed}: step {run.step} of {run.steps}" for run in self.runs.values())
            line = "; ".join([f"{self.done} of {self.total} runs done", *now])
            self.console.print(line, highlight=False, soft_wrap=True)
