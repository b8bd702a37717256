"""One script's way: who is here, do they agree, how long do they take; then a table, a CSV file and a picture."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod

import torch

from benchmarks import machine
from benchmarks.agreement import FALSE_ALARM, Task, agree
from benchmarks.calls import copy_call
from benchmarks.peers import Contender, Maker, assemble
from benchmarks.pictures import costs, save_picture
from benchmarks.settings import Settings, console
from benchmarks.timing import Call, Pace, Row, measure, plain, summary, table
from softhot.lab.files import write_csv

__all__ = ["SHAPES", "Case", "contest", "sweeps", "undisturbed"]

SHAPES = "shapes"
DISTURBED = 0.1  # cores in use by other processes; a case is measured again then
COPY = "copy of the logits"
DIRECTIONS = {False: "forward", True: "forward and backward"}


@dataclass(frozen=True)
class Case:
    """One thing to time: a task, in one direction, on logits of one shape; of a series of such shapes."""

    task: str
    backward: bool
    shape: tuple[int, ...]
    series: str = SHAPES


def sweeps(task: str, quick: bool) -> list[Case]:
    """The cases of the picture, forward and backward: by the number of classes, and by the number of rows."""
    most = 2 if quick else 7
    by_classes = [Case(task, True, (64, 4**power), "classes") for power in range(1, most + 1)]
    by_rows = [Case(task, True, (8**power, 32), "rows") for power in range(min(most, 6))]
    return by_classes + by_rows


def contest(
    script: str, makers: Iterable[Maker], tasks: Sequence[Task], cases: Sequence[Case], settings: Settings
) -> None:
    """Run a script.

    Raises:
        AssertionError: If a contender does not compute what it should; nothing is timed then.
    """
    terminal = console()
    contenders, skipped = assemble(makers, settings.device)
    terminal.print(f"{settings.machine}, {settings.device}, {settings.threads} threads")
    for contender in contenders:
        terminal.print(f"{contender.name}: {contender.version}")
    for name, reason in skipped.items():
        terminal.print(f"{name} is skipped: {reason}")
    count = agree(contenders, tasks, settings.draws, settings.device)
    terminal.print(
        f"{count} means of {settings.draws:,} draws agree with exact values (false-alarm rate of each {FALSE_ALARM:g})"
    )
    rows: list[Row] = []
    for (task, backward, series), group in groupby(cases, key=lambda case: (case.task, case.backward, case.series)):
        found = [row for case in group for row in _rows(case, contenders, settings)]
        title = f"{task}, {DIRECTIONS[backward]}" + (f", by {series}" if series != SHAPES else "")
        terminal.print(table(title, found))
        rows += found
    write_csv(settings.file(script, "csv"), plain(rows))
    worst = max(rows, key=lambda row: row["others"])
    if worst["others"] > DISTURBED:
        case = f"{worst['task']}, {worst['direction']}, {worst['shape']}"
        terminal.print(
            f"disturbed: other processes used up to {worst['others']:.2f} cores ({case}); times are too long"
        )
    terminal.print(save_picture(costs(rows), settings.file(script, settings.picture)))


def _rows(case: Case, contenders: Sequence[Contender], settings: Settings) -> list[Row]:
    draw = torch.Generator().manual_seed(0)
    logits, prior = (torch.randn(case.shape, generator=draw).to(settings.device) for _ in range(2))
    able = {each.name: each for each in contenders if case.task in each.functions}
    calls = {name: each.bind(each.functions[case.task], logits, prior, case.backward) for name, each in able.items()}
    if settings.device == "cuda":
        calls[COPY] = copy_call(logits)
    fixed = {
        "task": case.task,
        "direction": DIRECTIONS[case.backward],
        "series": case.series,
        "shape": "x".join(map(str, case.shape)),
        "rows": prod(case.shape[:-1]),
        "classes": case.shape[-1],
    }
    others, seconds = undisturbed(calls, settings)
    about = {
        "others": max(others, 0.0),
        "machine": settings.machine,
        "device": settings.device,
        "threads": settings.threads,
    }
    return [
        fixed | row | about | {"version": able[row["contender"]].version if row["contender"] in able else ""}
        for row in summary(seconds, prod(case.shape))
    ]


def undisturbed(
    calls: Mapping[str, Call], settings: Settings, pace: Pace | None = None
) -> tuple[float, dict[str, list[float]]]:
    """Seconds per call, and how many cores other processes used meanwhile: the least of a few tries."""
    tries: list[tuple[float, dict[str, list[float]]]] = []
    while not tries or (tries[-1][0] > DISTURBED and len(tries) < settings.tries):
        started, before = time.perf_counter(), machine.elsewhere()
        seconds = measure(calls, pace or settings.pace)
        tries.append(((machine.elsewhere() - before) / (time.perf_counter() - started), seconds))
    return min(tries, key=lambda each: each[0])
