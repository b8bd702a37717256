"""Which runs a study is made of.

A :class:`Grid` lists values of settings, and every combination that goes together is run for all seeds. What an arm is
called does not name its learning rate, so learning rates are *tuned*: one is chosen for each arm, by
:mod:`softhot.lab.study.choice`. Temperatures are arms of their own, unless they are to be tuned as well.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softhot.bounds import incompatible
from softhot.estimators import estimator
from softhot.kl import ALIASES, term
from softhot.lab.config import Config
from softhot.names import unknown

__all__ = ["GRID", "MOST", "TUNABLE", "Grid", "Plan", "plan"]

HEATS = ("temperature", "final_temperature")
OF_ESTIMATORS = (*HEATS, "samples", "baseline", "components")
GRID = ("estimator", "term", *OF_ESTIMATORS, "learning_rate")  # the settings that a grid may list
TUNABLE = ("learning_rate", "temperature")
MOST = 10_000  # runs


@dataclass(frozen=True)
class Grid:
    """Values of settings, of which every combination that goes together is run.

    Arguments:
        values: of "estimator", of "term", and of any other setting of ``GRID``. An estimator takes those that it has.
        own: settings that are meant for these very estimators. Temperatures that are not are for estimators that draw
            a relaxed variable alone.

    Raises:
        ValueError: If an estimator is unknown, or none has a setting that is meant for them.

    Example:
        >>> Grid({"estimator": ["zgr", "reinmax"], "term": ["categorical"], "temperature": [1.0, 2.0]}).of("reinmax")
        {}
    """

    values: Mapping[str, Sequence[Any]]
    own: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in sorted(self.own & set(OF_ESTIMATORS)):
            if not any(name in self.of(one) for one in self.values["estimator"]):
                raise ValueError(f"{name} is no setting of {', '.join(self.values['estimator'])}; leave it out.")

    def of(self, name: str) -> dict[str, Sequence[Any]]:
        """The values that an estimator takes, and those of the learning rate."""
        kind = estimator(name)
        has = {"learning_rate"} | {one.name for one in dataclasses.fields(kind)}
        if "temperature" in has:
            has.add("final_temperature")
        if not kind.relaxed:
            has -= set(HEATS) - self.own
        return {setting: values for setting, values in self.values.items() if setting in has}


@dataclass(frozen=True)
class Plan:
    """The runs of a study.

    Arguments:
        runs: what is to be run.
        skipped: the pairs that were left out, with the reason.
        tune: the settings that are chosen, where an arm has several values of them.
        choices: what was chosen; see :func:`softhot.lab.study.choice.choose`.
        scored: whether runs are scored on the test images, once they are trained.
        title: of the study.
        declaration: the text of the file that declares it.
    """

    runs: tuple[Config, ...]
    skipped: tuple[dict[str, str], ...]
    tune: tuple[str, ...] = ()
    choices: tuple[dict[str, Any], ...] = ()
    scored: bool = True
    title: str = ""
    declaration: str | None = None


def plan(
    base: Config, grids: Sequence[Grid], seeds: Sequence[int], *, tune: Sequence[str] = ("learning_rate",)
) -> Plan:
    """Every pair of an estimator and a term that go together, at every setting that the estimator has, for all seeds.

    Arguments:
        base: all other settings.
        grids: what is combined; equal runs of two grids are one.
        seeds: of every arm.
        tune: of ``TUNABLE``.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or no pair is left.

    Example:
        >>> grid = Grid({"estimator": ["reinmax", "zgr"], "term": ["categorical", "concrete"], "samples": [1, 4]})
        >>> for run in plan(Config(), [grid], [0]).runs:
        ...     print(run.arm)
        reinmax n=1 t=1 + categorical
        reinmax n=4 t=1 + categorical
        zgr n=1 + categorical
        zgr n=4 + categorical
    """
    for name in tune:
        if name not in TUNABLE:
            raise unknown("setting to tune", name, TUNABLE)
    arms: dict[Config, None] = {}
    skipped: dict[tuple[str, str], str] = {}
    for grid in grids:
        for name in dict.fromkeys(grid.values["estimator"]):
            taken = grid.of(name)
            for label in dict.fromkeys(ALIASES.get(label, label) for label in grid.values["term"]):
                reason = incompatible(estimator(name)(), term(label), base.latents, base.classes)
                if reason:
                    skipped[name, label] = reason
                    continue
                count = math.prod(len(values) for values in taken.values()) * len(seeds)
                if count > MOST:
                    raise ValueError(
                        f"the settings of {name!r} make {count:,} runs, more than {MOST:,}; list fewer values."
                    )
                for values in itertools.product(*taken.values()):
                    settings = dict(zip(taken, values, strict=True))
                    arms[dataclasses.replace(base, estimator=name, term=label, **settings)] = None
    left_out = tuple({"estimator": name, "term": label, "reason": why} for (name, label), why in skipped.items())
    if not arms:
        reasons = "; ".join(f"{one['estimator']} with {one['term']}: {one['reason']}" for one in left_out)
        raise ValueError(f"no estimator and KL term go together: {reasons or 'none is given'}.")
    rates = sorted({arm.learning_rate for arm in arms})
    if len(rates) > 1 and "learning_rate" not in tune:
        listed = ", ".join(f"{rate:g}" for rate in rates)
        raise ValueError(f"learning_rate={listed} are no arms of their own; let one be chosen: tune learning_rate too.")
    return Plan(tuple(dataclasses.replace(arm, seed=seed) for seed in seeds for arm in arms), left_out, tuple(tune))
