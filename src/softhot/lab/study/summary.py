"""What the records of a study say: one summary per arm.

An arm is an estimator and a KL term at given settings; its runs differ in the seed alone. Every number of an arm is the
mean and the sample standard deviation over its seeds, of those that are finite. Arms are ranked by the mean discrete
ELBO on the test images. A run without a finite ELBO has diverged: leaving it out would flatter its arm, so an arm with
a diverged run ranks below all that have none. A run that has a finite ELBO on the validation images and none on the
test images was not scored there: it is missing, not diverged.

Two arms are called different only where Welch's test says so at 5%: the difference exceeds about 2 standard errors with
many seeds, 2.8 with three in each arm. Otherwise they are not distinguishable, however far apart the means are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softhot.lab.study.spread import Spread

__all__ = ["Arm", "Gradient", "Parts", "Point", "distinct", "summarise"]

# one over the degrees of freedom, and Student's t at 97.5%, whose logarithm is convex in it: interpolation errs upwards
_INVERSE, _LIMIT = (0, 1 / 10, 1 / 4, 1 / 3, 1 / 2, 1), np.array((1.960, 2.229, 2.777, 3.183, 4.303, 12.707))


@dataclass(frozen=True)
class Gradient:
    """The quality of a gradient; see :mod:`softhot.lab.gradients.quality`.

    The standard error is that within a run: the root of its mean square over the seeds.
    """

    bias: Spread
    variance: Spread
    cosine: Spread
    cosine_of_mean: Spread
    bias_se: float
    bias_z: Spread

    @property
    def unbiased(self) -> bool:
        """Whether the bias is zero but for noise: its z, combined over the seeds, is at most 2."""
        return self.bias_z.mean * math.sqrt(self.bias_z.count) <= 2


@dataclass(frozen=True)
class Parts:
    """The gradient before the sample, and after it."""

    encoder: Gradient
    decoder: Gradient


@dataclass(frozen=True)
class Point:
    """A learning curve at an epoch; the evaluations and the seconds are those since the start, means over the seeds."""

    epoch: int
    valid_elbo: Spread
    evaluations: float
    seconds: float


@dataclass(frozen=True)
class Arm:
    """An estimator and a KL term, over the seeds.

    Attributes:
        bounds: what the objective is a lower bound of; None where it bounds nothing.
        sample: where the decoder is evaluated in training: "hard" or "soft".
        seeds: the number of runs, of which `failed` diverged and `unscored` were not evaluated on the test images.
        gap: the objective minus the discrete ELBO.
        cost: evaluations of the decoder for one gradient of one image.
        start: gradients at the fresh weights, which all arms of a seed share.
        end: gradients after training.
        choice: what was chosen for it from what, as in :func:`softhot.lab.study.choice.choose`; None if nothing was.
    """

    label: str
    estimator: str
    term: str
    temperature: float | None
    bounds: str | None
    unbiased: bool
    sample: str
    seeds: int
    failed: int
    unscored: int
    objective: Spread
    elbo: Spread
    iwae: Spread
    log_likelihood: Spread
    gap: Spread
    seconds: Spread
    evaluations: Spread
    cost: Spread
    start: Parts
    end: Parts
    curve: tuple[Point, ...]
    choice: Mapping[str, Any] | None

    @property
    def setting(self) -> str:
        """The label without the term: equal for arms that differ in the term alone."""
        return self.label.removesuffix(self.term).rstrip(" +")

    @property
    def overstates(self) -> bool:
        """Whether the objective exceeds the discrete ELBO and is no bound of the discrete log-likelihood either."""
        if "discrete" in (self.bounds or "") or not self.gap.mean > 0:
            return False
        return self.gap.count == 1 or distinct(self.gap, Spread(0.0, 0.0, self.gap.count))


def summarise(records: Sequence[Mapping[str, Any]], choices: Sequence[Mapping[str, Any]] = ()) -> list[Arm]:
    """The arms of a study's records, best first, with the choices that were made for them."""
    chosen = {choice["arm"]: choice for choice in choices}
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["arm"], []).append(record)
    return sorted((_arm(label, runs, chosen.get(label)) for label, runs in groups.items()), key=_rank)


def distinct(one: Spread, other: Spread) -> bool:
    """Whether two means differ by Welch's test at 5%; never, if either has fewer than two seeds.

    Example:
        >>> distinct(Spread(1.0, 0.1, 3), Spread(1.2, 0.1, 3)), distinct(Spread(1.0, 0.1, 3), Spread(1.3, 0.1, 3))
        (False, True)
    """
    if min(one.count, other.count) < 2:
        return False
    parts = [(s.deviation**2 / s.count, s.count - 1) for s in (one, other)]
    total = sum(square for square, _ in parts)
    if total == 0:
        return one.mean != other.mean
    inverse = sum((square / total) ** 2 / own for square, own in parts)
    limit = math.exp(np.interp(inverse, _INVERSE, np.log(_LIMIT)))
    return abs(one.mean - other.mean) > limit * math.sqrt(total)


def _rank(arm: Arm) -> tuple[bool, bool, float, str]:
    return arm.elbo.count == 0, arm.failed > 0, -arm.elbo.mean if arm.elbo.count else 0.0, arm.label


def _arm(label: str, runs: list[Mapping[str, Any]], choice: Mapping[str, Any] | None) -> Arm:
    first, elbo = runs[0], _spread(runs, "elbo")
    unscored = sum(math.isfinite(_number(run, "valid_elbo")) and math.isnan(_number(run, "elbo")) for run in runs)
    return Arm(
        label=label,
        estimator=first["estimator"],
        term=first["term"],
        temperature=first.get("temperature"),
        bounds=first.get("bounds"),
        unbiased=first["unbiased"],
        sample=first["sample"],
        seeds=len(runs),
        failed=len(runs) - elbo.count - unscored,
        unscored=unscored,
        objective=_spread(runs, "objective"),
        elbo=elbo,
        iwae=_spread(runs, "iwae"),
        log_likelihood=_spread(runs, "log_likelihood"),
        gap=_spread(runs, "gap"),
        seconds=_spread(runs, "seconds"),
        evaluations=_spread(runs, "evaluations"),
        cost=_spread(runs, "gradient", "evaluations"),
        start=_parts(runs, "start"),
        end=_parts(runs, "end"),
        curve=_curve(runs),
        choice=choice,
    )


def _parts(runs: list[Mapping[str, Any]], stage: str) -> Parts:
    return Parts(*(_gradient(runs, "gradient", stage, part) for part in ("encoder", "decoder")))


def _gradient(runs: list[Mapping[str, Any]], *path: str) -> Gradient:
    return Gradient(
        bias=_spread(runs, *path, "bias"),
        variance=_spread(runs, *path, "variance"),
        cosine=_spread(runs, *path, "cosine"),
        cosine_of_mean=_spread(runs, *path, "cosine_of_mean"),
        bias_se=_root_mean_square(_number(run, *path, "bias_se") for run in runs),
        bias_z=_spread(runs, *path, "bias_z"),
    )


def _curve(runs: list[Mapping[str, Any]]) -> tuple[Point, ...]:
    epochs: dict[int, list[tuple[float, float, float]]] = {}
    for run in runs:
        evaluations = seconds = 0.0
        for row in run.get("curve") or ():
            evaluations += _number(row, "evaluations")
            seconds += _number(row, "seconds")
            epochs.setdefault(row["epoch"], []).append((_number(row, "valid_elbo"), evaluations, seconds))
    points = []
    for epoch, rows in sorted(epochs.items()):
        elbo, *costs = (Spread.of(values) for values in zip(*rows, strict=True))
        points.append(Point(epoch, elbo, *(cost.mean for cost in costs)))
    return tuple(points)


def _spread(runs: list[Mapping[str, Any]], *path: str) -> Spread:
    return Spread.of(_number(run, *path) for run in runs)


def _number(record: Mapping[str, Any], *path: str) -> float:
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else math.nan


def _root_mean_square(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.hypot(*finite) / math.sqrt(len(finite)) if finite else math.nan
