"""The record of a run: its configuration, its scores on the test images, its learning curve and its gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from softhot.estimators import estimator
from softhot.lab.config import Config
from softhot.lab.files import jsonable
from softhot.lab.gradients import measure, reference
from softhot.lab.provenance import Code
from softhot.lab.targets import VaeTarget
from softhot.lab.training import Epoch, Run, evaluate, few
from softhot.problems.data import Binarised, ImageData, load, prepare

__all__ = ["Trial", "run_one", "table"]

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
        data, images = _images(config.data, config.binarise)
        run = Run(config, images)
        x = few(images.test, GRADIENT_IMAGES)
        return cls(run, data, x, *_gradient(run, x))

    def record(self, epochs: Sequence[Epoch]) -> dict[str, Any]:
        """What is kept of the run when it is trained, given its epochs."""
        run, config = self.run, self.run.config
        scores = evaluate(run, run.images.test)
        end, _ = _gradient(run, self.x)
        kind = estimator(config.estimator)
        record = {
            "id": config.id,
            **Code.here().to_json(),
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
    trial = Trial.begin(config)
    return trial.record(list(trial.run.epochs()))


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
