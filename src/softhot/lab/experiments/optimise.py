"""Descents of a problem with known truth: what each estimator's gradient leads to, by steps and by evaluations.

All seeds of an estimator descend at once, as elements of a batch, each with noise, and a start, of its own. What is
recorded is the exact expectation, not what the estimator saw. An estimator with a learned control learns it on the way,
with an optimiser like that of the descent; its control is one for all seeds.

The folder holds ``losses.json``, which a stopped command goes on from, and the same numbers as ``losses.csv``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softhot import __version__
from softhot.estimators import Estimator, Exact
from softhot.lab.config import OPTIMISERS, make_estimator
from softhot.lab.files import kept, make_folder, write_csv, write_json
from softhot.lab.gradients.targets import ProblemTarget
from softhot.lab.seeds import stream
from softhot.lab.training.learner import Learner
from softhot.names import unknown
from softhot.problems import Problem, problem

__all__ = ["Descent", "Plan", "execute", "records"]

Watch = Callable[[str, int], None]


@dataclass(frozen=True)
class Plan:
    """What is to descend; checked when it is made.

    Arguments:
        problem: a name of :data:`softhot.problems.PROBLEMS`.
        estimators: names of :data:`softhot.estimators.ESTIMATORS`; "exact" takes the problem's own exact gradient.
        samples: draws of an estimator, where it has them; its own default if not given.
        temperature: of an estimator, where it has one; its own default if not given.
        steps: of the optimiser.
        batch_size: independent estimates averaged in a step.
        learning_rate: of the optimiser.
        optimiser: "adam" or "radam".
        seeds: how many descents at once, from seed 0.
        every: steps between records; a hundredth of all if not given.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or an estimator and the problem do not go together.

    Example:
        >>> Plan("rebar", ("exact", "reinmax"), steps=500).interval
        5
    """

    problem: str
    estimators: tuple[str, ...]
    samples: int | None = None
    temperature: float | None = None
    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 0.01
    optimiser: str = "adam"
    seeds: int = 5
    every: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "estimators", tuple(dict.fromkeys(self.estimators)))
        if not self.estimators:
            raise ValueError("no estimator is given; use straight-through, for example.")
        if self.optimiser not in OPTIMISERS:
            raise unknown("optimiser", self.optimiser, OPTIMISERS)
        for name in ("steps", "batch_size", "seeds", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} leaves nothing to do; use {name}=1 or more.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate={self.learning_rate} is not a positive finite number; use learning_rate=0.01, for "
                "example."
            )
        toy = problem(self.problem)
        for name in self.estimators:
            one = self.estimator(name)
            reason = None if isinstance(one, Exact) else ProblemTarget(toy, toy.start()).refusal(one)
            if reason:
                raise ValueError(f"estimator {name!r} and problem {self.problem!r} do not go together: {reason}.")

    @property
    def interval(self) -> int:
        """Steps between records."""
        return self.every or max(1, self.steps // 100)

    def estimator(self, name: str) -> Estimator:
        """The estimator of a name, with the plan's settings."""
        toy = problem(self.problem)
        return make_estimator(name, toy.latents, toy.classes, temperature=self.temperature, samples=self.samples)

    def settings(self) -> dict[str, Any]:
        """What a descent depends on beside its estimator."""
        own = {name: value for name, value in asdict(self).items() if name != "estimators"}
        return {"version": __version__, **own, "every": self.interval}


@dataclass(frozen=True)
class Descent:
    """What one estimator led to.

    Attributes:
        estimator: its name.
        steps: at which the loss was recorded, from 0.
        evaluations: of f up to there, for one seed; None where the exact gradient needs none.
        losses: the exact expectation there, of each seed.
        seconds: of all steps and seeds, without the records.
    """

    estimator: str
    steps: list[int]
    evaluations: list[int] | None
    losses: list[list[float]]
    seconds: float

    @property
    def mean(self) -> list[float]:
        """Of the seeds, at each record."""
        return [math.fsum(each) / len(each) for each in self.losses]

    @property
    def deviation(self) -> list[float]:
        """Standard deviation over the seeds, at each record; zero for one seed."""
        return [
            math.sqrt(math.fsum((x - mean) ** 2 for x in each) / max(len(each) - 1, 1))
            for each, mean in zip(self.losses, self.mean, strict=True)
        ]


def execute(plan: Plan, folder: Path, watch: Watch = lambda name, steps: None) -> Iterator[Descent]:
    """The descent of each estimator in turn; those that the folder holds are not made again.

    Arguments:
        plan: what is to descend.
        folder: where to write, after each descent.
        watch: called with the name and the number of steps done since the last call.

    Raises:
        ValueError: If the folder cannot be read or written, or a descent diverges.
    """
    known, done = _kept(plan, make_folder(folder) / "losses.json"), list[Descent]()
    for name in plan.estimators:
        if name in known:
            watch(name, plan.steps)
        done.append(known[name] if name in known else _descend(plan, name, watch))
        write_json(folder / "losses.json", records(plan, done))
        write_csv(folder / "losses.csv", _rows(done))
        yield done[-1]


def records(plan: Plan, descents: list[Descent]) -> dict[str, Any]:
    """Everything, as plain numbers, lists and dictionaries."""
    toy = problem(plan.problem)
    about = {"latents": toy.latents, "classes": toy.classes, "source": toy.source, "minimum": toy.minimum()}
    return {"settings": plan.settings(), **about, "descents": [asdict(one) for one in descents]}


def _descend(plan: Plan, name: str, watch: Watch) -> Descent:
    toy, estimator, noise = problem(plan.problem), plan.estimator(name), stream(0, "optimise", name)
    parameters = torch.stack([toy.start(seed) for seed in range(plan.seeds)]).requires_grad_()
    kind = OPTIMISERS[plan.optimiser]
    optimiser, learner = kind([parameters], lr=plan.learning_rate), Learner(estimator, plan.learning_rate, kind)
    exact = isinstance(estimator, Exact)
    steps, losses, seconds = [0], [_losses(toy, parameters)], 0.0
    for step in range(1, plan.steps + 1):
        start = time.perf_counter()
        optimiser.zero_grad()
        logits = toy.logits(parameters)
        many = logits.expand(plan.batch_size, *logits.shape)
        value = toy.value(logits) if exact else estimator.learn(toy.f, many, generator=noise).mean(0)
        value.sum().backward()
        optimiser.step()
        learner.step()
        seconds += time.perf_counter() - start
        if step % plan.interval == 0 or step == plan.steps:
            watch(name, step - steps[-1])
            steps.append(step)
            losses.append(_losses(toy, parameters))
            if not all(map(math.isfinite, losses[-1])):
                raise ValueError(f"{name} diverged by step {step}; use a smaller learning rate.")
    each = plan.batch_size * estimator.evaluations(toy.latents, toy.classes)
    return Descent(name, steps, None if exact else [each * step for step in steps], losses, seconds)


@torch.no_grad()
def _losses(toy: Problem, parameters: Tensor) -> list[float]:
    losses: list[float] = toy.value(toy.logits(parameters.double())).tolist()
    return losses


def _kept(plan: Plan, path: Path) -> dict[str, Descent]:
    """The descents of a file, if it is of the same settings."""
    found = kept(path, plan.settings()) or {"descents": []}
    return {one["estimator"]: Descent(**one) for one in found["descents"]}


def _rows(descents: list[Descent]) -> list[dict[str, Any]]:
    """One flat row for each estimator, seed and record."""
    return [
        {
            "estimator": one.estimator,
            "seed": seed,
            "step": step,
            "evaluations": None if one.evaluations is None else one.evaluations[i],
            "loss": one.losses[i][seed],
        }
        for one in descents
        for seed in range(len(one.losses[0]))
        for i, step in enumerate(one.steps)
    ]
