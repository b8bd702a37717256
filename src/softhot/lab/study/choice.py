r"""What is chosen on the validation images, so that the test images are looked at once.

An arm whose tuned settings (see :class:`softhot.lab.study.plan.Plan`) have several values is a set of candidates, one
for each combination. All candidates are trained with all seeds and recorded without the test images. Chosen is

.. math:: \arg\max_c \frac{1}{S} \sum_{s=1}^{S} \mathrm{ELBO}_{c,s}

the candidate c with the highest mean over the seeds s of the discrete ELBO of the validation images, at the end of
training, in nats per image. A candidate with a run that diverged or failed comes after all that have none. The chosen
one alone is scored on the test images.

The validation ELBO of what was chosen is the best of several and therefore flattering; the test images' is not. More
seeds may change the choice; what was scored before then stays in the folder, and is not reported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from softhot.lab.config import Config
from softhot.lab.study.plan import Plan
from softhot.lab.study.spread import Spread

__all__ = ["Settings", "arms", "choose", "undecided"]

Settings = tuple[tuple[str, float], ...]


def undecided(study: Plan) -> bool:
    """Whether an arm has anything to choose from.

    Example:
        >>> from softhot.lab.study.plan import Grid, plan
        >>> grid = Grid({"estimator": ["zgr"], "term": ["categorical"], "learning_rate": [0.001, 0.01]})
        >>> undecided(plan(Config(), [grid], [0]))
        True
    """
    return any(len(candidates) > 1 for candidates in arms(study))


def choose(study: Plan, records: Sequence[Mapping[str, Any]]) -> Plan:
    """The study with the chosen runs alone, and with what they were chosen from.

    Arguments:
        study: all candidates.
        records: of them, in any order; of a run that failed there may be none.
    """
    found = {record["id"]: record for record in records if "id" in record}
    runs: set[Config] = set()
    choices = []
    for candidates in arms(study):
        spreads = {
            settings: Spread.of(_valid_elbo(found, config) for config in configs)
            for settings, configs in candidates.items()
        }
        best = max(candidates, key=lambda one: _rank(spreads[one], len(candidates[one])))
        runs |= {config for config in candidates[best] if config.id in found}
        if len(candidates) > 1:
            scores = [_scores(settings, spreads[settings], len(candidates[settings])) for settings in candidates]
            found_best = {"chosen": dict(best), "valid_elbo": spreads[best].mean}
            choices.append({"arm": candidates[best][0].arm, **found_best, "candidates": scores})
    kept = tuple(config for config in study.runs if config in runs)
    return dataclasses.replace(study, runs=kept, choices=tuple(choices))


def arms(study: Plan) -> list[dict[Settings, list[Config]]]:
    """The candidates of each arm, by those of their tuned settings that differ, each with its runs."""
    found: dict[Config, dict[Settings, list[Config]]] = {}
    neutral: dict[str, Any] = dict.fromkeys(study.tune, 1.0)
    for config in study.runs:
        settings = tuple((name, getattr(config, name)) for name in study.tune)
        arm = found.setdefault(dataclasses.replace(config, seed=0, **neutral), {})
        arm.setdefault(settings, []).append(config)
    return [_differing(arm) for arm in found.values()]


def _differing(arm: dict[Settings, list[Config]]) -> dict[Settings, list[Config]]:
    same = set.intersection(*map(set, arm))
    return {tuple(one for one in settings if one not in same): configs for settings, configs in arm.items()}


def _valid_elbo(found: Mapping[str, Mapping[str, Any]], config: Config) -> float:
    value = found.get(config.id, {}).get("valid_elbo")
    return math.nan if value is None else float(value)


def _rank(spread: Spread, seeds: int) -> tuple[bool, bool, float]:
    return spread.count == seeds, spread.count > 0, spread.mean if spread.count else 0.0


def _scores(settings: Settings, spread: Spread, seeds: int) -> dict[str, Any]:
    return {
        **dict(settings),
        "valid_elbo": spread.mean,
        "deviation": spread.deviation,
        "seeds": seeds,
        "failed": seeds - spread.count,
    }
