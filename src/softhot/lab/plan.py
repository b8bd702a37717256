"""Which runs a study is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from softhot.bounds import incompatible
from softhot.estimators import estimator
from softhot.kl import ALIASES, term
from softhot.lab.config import Config

__all__ = ["Plan", "plan"]


@dataclass(frozen=True)
class Plan:
    """The runs of a study, and the pairs that were left out with the reason."""

    runs: tuple[Config, ...]
    skipped: tuple[dict[str, str], ...]


def plan(
    base: Config, estimators: Sequence[str], terms: Sequence[str], temperatures: Sequence[float], seeds: Sequence[int]
) -> Plan:
    """Every pair of an estimator and a term that go together, at every temperature the estimator has, for all seeds.

    Raises:
        ValueError: If a name is unknown, a number is out of range, or no pair is left.
    """
    arms: list[Config] = []
    skipped = []
    for name in dict.fromkeys(estimators):
        kind = estimator(name)
        for label in dict.fromkeys(ALIASES.get(label, label) for label in terms):
            reason = incompatible(kind(), term(label), base.latents, base.classes)
            if reason:
                skipped.append({"estimator": name, "term": label, "reason": reason})
                continue
            heats = temperatures if kind.relaxed else [1.0]
            arms += [
                dataclasses.replace(base, estimator=name, term=label, temperature=heat) for heat in dict.fromkeys(heats)
            ]
    if not arms:
        reasons = "; ".join(f"{one['estimator']} with {one['term']}: {one['reason']}" for one in skipped)
        raise ValueError(f"no estimator and KL term go together: {reasons or 'none is given'}.")
    return Plan(tuple(dataclasses.replace(arm, seed=seed) for seed in seeds for arm in arms), tuple(skipped))
