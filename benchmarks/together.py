"""Runs trained together: a training step of many seeds as one program, and of one seed after the other.

The step is that of `softhot compare`'s default run, with images made up in the number and size of the digits: the
order of the images, the noise and Adam's update are part of it.
Run: python -m benchmarks.together
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from benchmarks.calls import ending
from benchmarks.contest import undisturbed
from benchmarks.settings import RESULTS, Out, Quick, Settings, Threads, console, launch
from benchmarks.timing import Call, Row, plain, quartiles, shorten
from softhot.lab.config import Config
from softhot.lab.files import write_csv
from softhot.lab.study.together import Together
from softhot.lab.training.loop import Run
from softhot.problems.data import Binarised

__all__ = ["SEEDS", "main"]

SEEDS = (1, 4, 16, 64)
ESTIMATORS = ("gumbel-softmax", "reinmax", "leave-one-out")
TOGETHER, ALONE = "together", "one after the other"


def main(quick: Quick = False, threads: Threads = None, out: Out = RESULTS) -> None:
    """Time training steps of many seeds."""
    settings, terminal = Settings.of(quick, threads, "cpu", out, "html"), console()
    terminal.print(f"{settings.machine}, {settings.threads} threads")
    torch.manual_seed(0)
    pixels = (torch.rand(1797, 64) < 0.3).float()
    images = Binarised(pixels[:1197], pixels[1197:1497], pixels[1497:], redraw=False)
    rows = []
    for name in ESTIMATORS:
        rows += _rows(name, images, SEEDS[:2] if quick else SEEDS, settings)
    for row in rows:
        terminal.print(
            f"{row['estimator']}, {row['seeds']} seeds, {row['contender']}: {shorten(row['milliseconds'])} ms, "
            f"{shorten(row['ratio'])} times that of one"
        )
    write_csv(settings.file("together", "csv"), plain(rows))


def _rows(estimator: str, images: Binarised, seeds: Sequence[int], settings: Settings) -> list[Row]:
    calls: dict[str, Call] = {}
    kinds = {}
    for count in seeds:
        config = Config(estimator=estimator, epochs=10**6)  # never over
        alone, beside = ([Run(replace(config, seed=seed), images) for seed in range(count)] for _ in range(2))
        for contender, step in ((ALONE, partial(_each, alone)), (TOGETHER, Together(beside).train_step)):
            if count > 1 or contender == ALONE:
                name = f"{count} {contender}"
                calls[name], kinds[name] = Call(step, *ending(images.train)), (count, contender)
    others, seconds = undisturbed(calls, settings, replace(settings.pace, budget=4 * settings.pace.budget))
    unit = statistics.median(seconds[f"1 {ALONE}"])
    rows = []
    for name, each in seconds.items():
        count, contender = kinds[name]
        low, middle, high = (1e3 * value for value in quartiles(each))
        rows.append(
            {
                "estimator": estimator,
                "seeds": count,
                "contender": contender,
                "milliseconds": middle,
                "lower_quartile": low,
                "upper_quartile": high,
                "ratio": statistics.median(each) / unit,
                "rounds": len(each),
                "others": max(others, 0.0),
                "version": "",
                "machine": settings.machine,
                "device": settings.device,
                "threads": settings.threads,
            }
        )
    return rows


def _each(runs: Sequence[Run]) -> None:
    for run in runs:
        run.train_step()


if __name__ == "__main__":
    launch(main)
