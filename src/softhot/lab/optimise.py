"""Descents of a problem with known truth: what each estimator's gradient leads to, by steps and by evaluations.

All seeds of an estimator descend at once, as elements of a batch, each with noise, and a start, of its own. What is
recorded is the exact expectation, not what the estimator saw.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softhot.estimators import Estimator, Exact
from softhot.lab.config import OPTIMISERS, make_estimator
from softhot.lab.seeds import stream
from softhot.names import unknown
from softhot.problems import Problem, problem

__all__ = ["Descent", "Plan", "descend", "records", "rows"]


@dataclass(frozen=True)
class Plan:
    """What a descent depends on beside its estimator; checked when it is made.

    Arguments:
        problem: a name of :data:`softhot.problems.PROBLEMS`.
        steps: of the optimiser.
        batch_size: independent estimates averaged in a step.
        learning_rate: of the optimiser.
        optimiser: "adam" or "radam".
        seeds: how many descents at once, from seed 0.
        every: steps between records; a hundredth of all if not given.

    Raises:
        ValueError: If a name is unknown, or a number is out of range.

    Example:
        >>> Plan("rebar", steps=500).interval
        5
    """

    problem: str
    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 0.01
    optimiser: str = "adam"
    seeds: int = 5
    every: int | None = None

    def __post_init__(self) -> None:
        problem(self.problem)
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

    @property
    def interval(self) -> int:
        """Steps between records."""
        return self.every or max(1, self.steps // 100)


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


def descend(
    plan: Plan,
    estimators: Sequence[str],
    *,
    samples: int | None = None,
    temperature: float = 1.0,
    watch: Callable[[str, int], None] = lambda name, steps: None,
) -> Iterator[Descent]:
    """The descent of each estimator in turn.

    Arguments:
        plan: the rest of the setting.
        estimators: names of :data:`softhot.estimators.ESTIMATORS`; "exact" takes the problem's own exact gradient.
        samples: draws of an estimator, where it has them; its own default if not given.
        temperature: of an estimator, where it has one.
        watch: called with the name and the number of steps done since the last call.

    Raises:
        ValueError: If a name is unknown, or an estimator refuses its settings or the problem.
    """
    toy = problem(plan.problem)
    made = {
        name: make_estimator(name, toy.latents, toy.classes, temperature=temperature, samples=samples)
        for name in dict.fromkeys(estimators)
    }
    if not made:
        raise ValueError("no estimator is given; use straight-through, for example.")
    for name, estimator in made.items():
        yield _descend(plan, name, estimator, watch)


def _descend(plan: Plan, name: str, estimator: Estimator, watch: Callable[[str, int], None]) -> Descent:
    toy = problem(plan.problem)
    parameters = torch.stack([toy.start(seed) for seed in range(plan.seeds)]).requires_grad_()
    optimiser = OPTIMISERS[plan.optimiser]([parameters], lr=plan.learning_rate)
    noise = stream(0, "optimise", name)
    exact = isinstance(estimator, Exact)
    each = 0 if exact else plan.batch_size * estimator.evaluations(toy.latents, toy.classes)
    steps, losses, seconds = [0], [_losses(toy, parameters)], 0.0
    for step in range(1, plan.steps + 1):
        start = time.perf_counter()
        logits = toy.logits(parameters)
        if exact:
            value = toy.value(logits)
        else:
            value = estimator(toy.f, logits.expand(plan.batch_size, *logits.shape), generator=noise).mean(0)
        optimiser.zero_grad()
        value.sum().backward()
        optimiser.step()
        seconds += time.perf_counter() - start
        if step % plan.interval == 0 or step == plan.steps:
            watch(name, step - steps[-1])
            steps.append(step)
            losses.append(_losses(toy, parameters))
    return Descent(name, steps, None if exact else [each * step for step in steps], losses, seconds)


@torch.no_grad()
def _losses(toy: Problem, parameters: Tensor) -> list[float]:
    losses: list[float] = toy.value(toy.logits(parameters.double())).tolist()
    return losses


def rows(descents: Sequence[Descent]) -> list[dict[str, Any]]:
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


def records(plan: Plan, descents: Sequence[Descent]) -> dict[str, Any]:
    """Everything, as plain numbers, lists and dictionaries."""
    toy = problem(plan.problem)
    return {
        "plan": {**vars(plan), "every": plan.interval},
        "latents": toy.latents,
        "classes": toy.classes,
        "source": toy.source,
        "minimum": toy.minimum(),
        "descents": [{**vars(one), "mean": one.mean, "deviation": one.deviation} for one in descents],
    }
