"""The record of a run: its configuration, its scores on the test images, its learning curve and its gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from softhot import __version__
from softhot.estimators import estimator
from softhot.lab.config import Config
from softhot.lab.files import jsonable
from softhot.lab.gradients import measure, reference
from softhot.lab.targets import VaeTarget
from softhot.lab.together import Together
from softhot.lab.training import Epoch, Run, evaluate, few
from softhot.problems.data import Binarised, ImageData, load, prepare

__all__ = ["Trial", "run_one", "run_together", "table"]

GRADIENT_IMAGES = 16
GRADIENT_DRAWS = 64


@dataclass(frozen=True)
class Trial:
    """A run, and its gradient at the fresh weights.

    Arguments:
        run: the run.
        data: where its images are from.
        x: the test images that gradients are measured on.
        start: the gradient at the fresh weights.
        truth: how the true gradient is known.
    """

    run: Run
    data: ImageData
    x: torch.Tensor
    start: dict[str, Any]
    truth: str

    @classmethod
    def begin(cls, config: Config) -> Trial:
        """A run at its fresh weights.

        Raises:
            ValueError: If the data cannot be read.
        """
        return cls.begin_all([config])[0]

    @classmethod
    def begin_all(cls, configs: Sequence[Config]) -> list[Trial]:
        """Runs of one group of :func:`softhot.lab.together.together` at their fresh weights; errors as of begin."""
        data, images = _images(configs[0].data, configs[0].binarise)
        runs = [Run(config, images) for config in configs]
        x = few(images.test, GRADIENT_IMAGES)
        return [cls(run, data, x, *found) for run, found in zip(runs, _gradients(runs, x), strict=True)]

    def record(self, epochs: Sequence[Epoch], end: dict[str, Any] | None = None) -> dict[str, Any]:
        """What is kept of the run when it is trained.

        Arguments:
            epochs: of its training.
            end: the gradient at the trained weights; measured if not given.
        """
        run, config = self.run, self.run.config
        scores = evaluate(run, run.images.test)
        end = _gradients([run], self.x)[0][0] if end is None else end
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
            "data": f"{self.data.name}, {_pixels(self.data, config.binarise)}; {self.data.source}",
            "bounds": run.objective(run.temperature).bounds,
            "unbiased": kind.unbiased,
            "sample": kind.sample,
            **dataclasses.asdict(scores),
            "gap": scores.objective - scores.elbo,
            "valid_elbo": epochs[-1].valid_elbo,
            "seconds": sum(epoch.seconds for epoch in epochs),
            "evaluations": sum(epoch.evaluations for epoch in epochs),
            "gradient": {
                "reference": self.truth,
                "draws": GRADIENT_DRAWS,
                "images": len(self.x),
                "start": self.start,
                "end": end,
            },
            "curve": [dataclasses.asdict(epoch) for epoch in epochs],
        }
        cleaned: dict[str, Any] = jsonable(record)
        return cleaned


def run_one(config: Config) -> dict[str, Any]:
    """Train, evaluate and measure one model; the record of it."""
    return run_together([config])[0]


def run_together(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """Train, evaluate and measure the runs of one group of :func:`softhot.lab.together.together`; their records."""
    trials = Trial.begin_all(configs)
    runs = [trial.run for trial in trials]
    if len(runs) == 1:
        return [trials[0].record(list(runs[0].epochs()))]
    epochs = list(Together(runs).epochs())
    ends = _gradients(runs, trials[0].x)
    return [
        trial.record(own, end) for trial, own, (end, _) in zip(trials, zip(*epochs, strict=True), ends, strict=True)
    ]


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


def _gradients(runs: Sequence[Run], x: torch.Tensor) -> list[tuple[dict[str, Any], str]]:
    """The quality of every run's gradient, and how the true one is known."""
    targets = [VaeTarget(run.model, x, run.config.make_term()) for run in runs]
    truths = [reference(target) for target in targets]
    if len(runs) > 1:
        found = Together(runs).measure(x, truths, draws=GRADIENT_DRAWS)
    else:
        own, seed = runs[0].learner.at(runs[0].temperature), runs[0].config.seed
        found = [measure(targets[0], own, truths[0], draws=GRADIENT_DRAWS, seed=seed).parts]
    return [
        ({part: dataclasses.asdict(value) for part, value in parts.items()}, truth.how)
        for parts, truth in zip(found, truths, strict=True)
    ]


@lru_cache(maxsize=2)
def _images(name: str, mode: str) -> tuple[ImageData, Binarised]:
    data = load(name)
    return data, prepare(data, mode)


def _pixels(data: ImageData, mode: str) -> str:
    if data.binary:
        return "binary as it is"
    return "grey: cross-entropies, not log-likelihoods" if mode == "none" else f"binarised: {mode}"
