"""The record of a run: its configuration, its scores on the test images, its learning curve and its gradients.

The record of a candidate, of which only the best is scored, has no scores on the test images and no gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from softhot.estimators import estimator
from softhot.lab.config import Config
from softhot.lab.files import jsonable
from softhot.lab.gradients.draws import measure, reference
from softhot.lab.gradients.targets import VaeTarget
from softhot.lab.provenance import Code
from softhot.lab.study.together import Together
from softhot.lab.training import checkpoint
from softhot.lab.training.images import encoded, pictures
from softhot.lab.training.loop import Epoch, Run, evaluate, few
from softhot.problems.data import Binarised, ImageData, load, prepare
from softhot.problems.data.binarise import described

__all__ = ["Trial", "about", "images_of", "records_of", "score_candidate", "table"]

GRADIENT_IMAGES = 16
GRADIENT_DRAWS = 64
_NOT_FLAT = ("config", "gradient", "curve", "pictures")


@dataclass(frozen=True)
class Trial:
    """A run, and its gradient at the fresh weights.

    Arguments:
        run: the run.
        data: where its images are from.
        start: the gradient at the fresh weights, and how the true one is known; None of a candidate.
    """

    run: Run
    data: ImageData
    start: tuple[dict[str, Any], str] | None

    @classmethod
    def begin(cls, config: Config, *, scored: bool = True) -> Trial:
        """A run at its fresh weights; a candidate, if it is not to be scored.

        Raises:
            ValueError: If the data cannot be read.
        """
        return cls.begin_all([config], scored=scored)[0]

    @classmethod
    def begin_all(cls, configs: Sequence[Config], *, scored: bool = True) -> list[Trial]:
        """Those of a group of :func:`softhot.lab.study.together.together`.

        Raises:
            ValueError: If the data cannot be read.
        """
        data, images = images_of(configs[0].data, configs[0].binarise)
        runs = [Run(config, images) for config in configs]
        starts = _gradients(runs) if scored else [None for _ in runs]
        return [cls(run, data, start) for run, start in zip(runs, starts, strict=True)]

    def record(self, epochs: Sequence[Epoch], end: dict[str, Any] | None = None) -> dict[str, Any]:
        """What is kept of the run when it is trained.

        Arguments:
            epochs: of its training.
            end: the gradient at the trained weights; a candidate has none.
        """
        run, config = self.run, self.run.config
        record = {
            "id": config.id,
            **Code.here().to_json(),
            **about(config),
            "data": described(self.data, config.binarise),
            "length": config.length,
            "steps": run.step,
            **({} if self.start is None else self._scores(*self.start, end)),
            "valid_elbo": epochs[-1].valid_elbo,
            "seconds": sum(epoch.seconds for epoch in epochs),
            "evaluations": sum(epoch.evaluations for epoch in epochs),
            "curve": [dataclasses.asdict(epoch) for epoch in epochs],
        }
        cleaned: dict[str, Any] = jsonable(record)
        return cleaned

    def _scores(self, start: dict[str, Any], truth: str, end: dict[str, Any] | None) -> dict[str, Any]:
        """What the test images say."""
        run, config, test = self.run, self.run.config, self.run.images.test
        scores = evaluate(run, test)
        return {
            **dataclasses.asdict(scores),
            "gap": scores.objective - scores.elbo,
            "gradient": {
                "reference": truth,
                "draws": GRADIENT_DRAWS,
                "images": len(few(test, GRADIENT_IMAGES)),
                "evaluations": run.learner.estimator.evaluations(config.latents, config.classes),
                "start": start,
                "end": end,
            },
            "pictures": {
                name: encoded(images, self.data.shape) for name, images in pictures(run.model, test, rows=3).items()
            },
        }


def about(config: Config) -> dict[str, Any]:
    """The part of a record that is known before training: what the run is, and what its objective bounds."""
    kind = estimator(config.estimator)
    return {
        "config": config.to_json(),
        "arm": config.arm,
        "estimator": config.estimator,
        "term": config.term,
        "temperature": config.temperature if config.tempered else None,
        "seed": config.seed,
        "bounds": config.objective(config.temperature).bounds,
        "unbiased": kind.unbiased,
        "sample": kind.sample,
    }


def records_of(trials: Sequence[Trial], curves: Sequence[Sequence[Epoch]]) -> list[dict[str, Any]]:
    """What is kept of the runs of a group when they are trained, given the epochs of each."""
    scored = trials[0].start is not None
    ends = [end for end, _ in _gradients([trial.run for trial in trials])] if scored else [None for _ in trials]
    return [trial.record(curve, end) for trial, curve, end in zip(trials, curves, ends, strict=True)]


def score_candidate(config: Config, weights: Path, candidate: dict[str, Any]) -> dict[str, Any]:
    """Evaluate and measure a model that was trained before; the record of it, as if it had been scored at once.

    Raises:
        ValueError: If the weights cannot be read.
    """
    trial = Trial.begin(config)
    checkpoint.restore(trial.run, weights)
    return records_of([trial], [[Epoch(**row) for row in candidate["curve"]]])[0]


def table(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records as flat rows, without the curves and the pictures."""
    rows = []
    for record in found:
        row = {key: value for key, value in record.items() if key not in _NOT_FLAT}
        for when in ("start", "end"):
            for part, numbers in record.get("gradient", {}).get(when, {}).items():
                row |= {f"{part}_{name}_{when}": value for name, value in numbers.items()}
        row |= {key: value for key, value in record["config"].items() if key not in row}
        rows.append(row)
    return rows


def _gradients(runs: Sequence[Run]) -> list[tuple[dict[str, Any], str]]:
    """The quality of each run's gradient on a few test images, and how the true one is known."""
    x = few(runs[0].images.test, GRADIENT_IMAGES)
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
def images_of(name: str, mode: str) -> tuple[ImageData, Binarised]:
    """A data set, and its images ready for training."""
    data = load(name)
    return data, prepare(data, mode)
