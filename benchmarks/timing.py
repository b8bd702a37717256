"""Timing in interleaved rounds, and what becomes of the seconds: rows of numbers, a table, a CSV file.

In every round each contender runs once for a few milliseconds or more, one after the other and every other round
backwards, so that a machine that slows down slows all of them. What is reported is the median over the rounds, and the
quartiles.
"""

from __future__ import annotations

import csv
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

__all__ = ["OURS", "Call", "Pace", "Row", "measure", "plain", "quartiles", "read_csv", "shorten", "summary", "table"]

OURS = "softhot"

Row = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """Something to time.

    Arguments:
        run: does it, or on an asynchronous device asks for it.
        wait: waits until the result that run returned is there.
        queued: wait after the last call of a round only, as it is there after all others.
    """

    run: Callable[[], Any]
    wait: Callable[[Any], object]
    queued: bool = False


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Arguments:
        rounds: at most this many.
        fewest: at least this many, however long they take.
        budget: no new round after so many seconds.
        shortest: what a contender's part of a round takes at least, in seconds; it is called as often as that needs.
    """

    rounds: int = 15
    fewest: int = 3
    budget: float = 1.2
    shortest: float = 0.005


def measure(calls: Mapping[str, Call], pace: Pace) -> dict[str, list[float]]:
    """Seconds per call of every contender, one number for each round."""
    counts = {name: _count(call, pace.shortest) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.freeze()  # what outlives this is not searched again
    gc.disable()
    try:
        started = time.perf_counter()
        for number in range(pace.rounds):
            if number >= pace.fewest and time.perf_counter() - started > pace.budget:
                break
            for name in list(calls)[:: -1 if number % 2 else 1]:
                seconds[name].append(_time(calls[name], counts[name]) / counts[name])
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
    return seconds


def _count(call: Call, shortest: float) -> int:
    """How many calls take that long; the first, which may compile, does not count."""
    _time(call, 1)
    count = 1
    while (elapsed := _time(call, count)) < shortest:
        count = max(2 * count, int(count * shortest / max(elapsed, 1e-9)))
    return count


def _time(call: Call, count: int) -> float:
    run, wait, queued = call.run, call.wait, call.queued
    started = time.perf_counter()
    for _ in range(count):
        result = run()
        if not queued:
            wait(result)
    wait(result)
    return time.perf_counter() - started


def quartiles(seconds: list[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    low, middle, high = statistics.quantiles(seconds * 2 if len(seconds) == 1 else seconds, method="inclusive")
    return low, middle, high


def summary(seconds: Mapping[str, list[float]], elements: int) -> list[Row]:
    """A row for each contender: nanoseconds per element, their quartiles, and how many times ours they are."""
    ours = statistics.median(seconds[OURS])
    rows = []
    for name, each in seconds.items():
        low, middle, high = (1e9 * value / elements for value in quartiles(each))
        row = {"contender": name, "ns_per_element": middle, "lower_quartile": low, "upper_quartile": high}
        rows.append(row | {"ratio": statistics.median(each) / ours, "rounds": len(each)})
    return rows


def table(title: str, rows: Sequence[Row]) -> Table:
    """Rows of one task, grouped by shape."""
    drawn = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    drawn.add_column("shape")
    drawn.add_column("contender")
    for column in ("ns per element", "quartiles", f"ratio to {OURS}", "rounds"):
        drawn.add_column(column, justify="right", no_wrap=True)
    for shape, group in groupby(rows, key=lambda row: row["shape"]):
        for number, row in enumerate(group):
            spread = f"{shorten(row['lower_quartile'])} to {shorten(row['upper_quartile'])}"
            numbers = shorten(row["ns_per_element"]), spread, shorten(row["ratio"]), str(row["rounds"])
            drawn.add_row("" if number else shape, row["contender"], *numbers)
        drawn.add_section()
    return drawn


def shorten(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def plain(rows: Sequence[Row]) -> list[Row]:
    """The rows for a CSV file: floats with four digits."""
    return [{key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows]


def read_csv(path: Path) -> list[Row]:
    """The rows of a CSV file, numbers as numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
