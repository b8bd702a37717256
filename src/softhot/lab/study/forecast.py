"""How long a study will take: an estimate from a few steps of every arm, taken for real.

A run of S steps in E epochs takes about

    S x (a step) + E x (a validation)

seconds, and its scoring as long as an evaluation of the test images and two measurements of a gradient. All are timed
when they are warm, and in as many processes at once as there will be, since they slow each other: a few steps of the
runs that train together, the others with a part of the images or draws, and scaled. The test images are not looked at:
validation images stand for them. The runs are taken to share the workers evenly; the seconds that it takes to start the
workers come on top.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from softhot.lab.config import Config
from softhot.lab.gradients.draws import REFERENCE, measure, reference
from softhot.lab.gradients.targets import VaeTarget
from softhot.lab.seeds import stream
from softhot.lab.study.choice import arms
from softhot.lab.study.plan import Plan
from softhot.lab.study.record import GRADIENT_DRAWS, GRADIENT_IMAGES, images_of
from softhot.lab.study.together import program_of, together
from softhot.lab.training.loop import Run, evaluate, evaluate_elbo, few

__all__ = ["Cost", "forecast", "seconds"]

STEPS = 3
IMAGES = 100
DRAWS = 32


@dataclass(frozen=True)
class Cost:
    """What one run of an arm takes.

    Attributes:
        runs: of the arm, with all seeds and learning rates.
        steps: of each; None where seconds end it.
        training: seconds, with the validation.
        scoring: seconds, on the test images.
    """

    runs: tuple[Config, ...]
    steps: int | None
    training: float
    scoring: float


def forecast(study: Plan, *, workers: int | None = None) -> Iterator[Cost]:
    """The cost of the runs of every arm, each measured as it is asked for.

    Arguments:
        study: the runs.
        workers: that will share the cores of this machine; one for each core if not given.

    Raises:
        ValueError: If the data cannot be read.
    """
    from softhot.lab.study.cluster import cores

    workers = workers or cores()
    groups = {config: group for group in together(study.runs) for config in group}
    named: dict[str, list[Config]] = {}
    for config in study.runs:
        named.setdefault(config.arm, []).append(config)
    with _at_once(min(workers, len({*groups.values()}))) as call:
        for runs in named.values():
            found = call(_cost, tuple(runs), groups[runs[0]], max(1, cores() // workers))
            training, scoring = (fmean(getattr(one, name) for one in found) for name in ("training", "scoring"))
            yield dataclasses.replace(found[0], training=training, scoring=scoring)


def seconds(study: Plan, costs: Sequence[Cost], *, workers: int | None = None) -> float:
    """How long the study takes, given the costs of all its arms: the share of a worker, or the longest group of runs.

    Example:
        >>> from softhot.lab.study.plan import Grid, plan
        >>> study = plan(Config(), [Grid({"estimator": ["zgr", "reinmax"], "term": ["categorical"]})], seeds=range(4))
        >>> seconds(study, [Cost(study.runs, 360, training=30.0, scoring=2.0)], workers=2)
        128.0
    """
    from softhot.lab.study.cluster import cores

    one = {config: cost for cost in costs for config in cost.runs}
    spent: dict[Config, float] = {}
    for candidates in arms(study):  # of which one is scored
        for config in (config for configs in candidates.values() for config in configs):
            spent[config] = one[config].training + one[config].scoring / len(candidates)
    longest = max(sum(spent[config] for config in group) for group in together(study.runs))
    return max(longest, sum(spent.values()) / (workers or cores()))


@contextmanager
def _at_once(workers: int) -> Iterator[Callable[..., list[Any]]]:
    """A function that calls another one in so many processes at once, in this one if that is enough."""
    from softhot.lab.study.cluster import everywhere

    if workers > 1:
        with everywhere(workers) as call:
            yield call
    else:
        yield lambda function, *given: [function(*given)]


def _cost(runs: tuple[Config, ...], group: tuple[Config, ...], threads: int) -> Cost:
    """The cost of the runs of an arm, of which the first trains in a group."""
    with _threads(threads):
        config = runs[0]
        _, images = images_of(config.data, config.binarise)
        # however little seconds end a run, its steps are timed
        made = [Run(dataclasses.replace(one, budget_seconds=None), images) for one in group]
        program, run = program_of(made), made[0]
        program.train_step()
        before = run.elapsed
        for _ in range(STEPS):
            program.train_step()
        step = (run.elapsed - before) / STEPS
        x, objective = few(images.valid, IMAGES), run.objective(run.temperature)
        validation = _time(lambda: evaluate_elbo(run.model, objective, x, stream(0, "validation")))
        validation *= len(images.valid) / len(x)
        scoring = _time(lambda: evaluate(run, x)) * len(images.test) / len(x) + 2 * _gradient(run)
    if config.budget_seconds is not None:
        passed = config.budget_seconds
        return Cost(runs, None, passed + passed / (step * run.per_epoch) * validation, scoring)
    return Cost(runs, run.steps, run.steps * (step + validation / run.per_epoch), scoring)


def _gradient(run: Run) -> float:
    """The seconds of a measurement of the gradient."""
    target = VaeTarget(run.model, few(run.images.valid, GRADIENT_IMAGES), run.config.make_term())
    start = time.perf_counter()
    truth = reference(target, draws=DRAWS)
    known = time.perf_counter() - start
    if truth.how != "exact":
        known *= REFERENCE / DRAWS
    found = measure(target, run.learner.at(run.temperature), truth, draws=DRAWS)
    return known + found.seconds * GRADIENT_DRAWS


def _time(work: Callable[[], object]) -> float:
    work()  # what is compiled is so now
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
