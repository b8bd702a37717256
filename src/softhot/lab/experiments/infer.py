"""Posteriors of a Bayesian network by different methods, each scored against the exact one.

The folder holds ``posteriors.json`` (what is infinite is null there), which a stopped command goes on from, and
``marginals.csv``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from softhot.lab.experiments.posteriors import Plan, Watch, found
from softhot.lab.files import kept, make_folder, write_csv, write_json

__all__ = ["Approximation", "execute", "marginals", "records"]


@dataclass(frozen=True)
class Approximation:
    """What one method came to.

    Attributes:
        method: its name.
        kl_q_p: KL(q||p), exact, in nats.
        kl_p_q: KL(p||q), exact, in nats.
        marginals: the probability of each state of each hidden variable.
        error: the largest difference of one of these from the exact one.
        seconds: of the method, without the scores.
        evaluations: of the joint probability, at one configuration each; None where expectations are exact.
        note: what else to know of it.
    """

    method: str
    kl_q_p: float
    kl_p_q: float
    marginals: list[list[float]]
    error: float
    seconds: float
    evaluations: int | None
    note: str


def execute(plan: Plan, folder: Path, watch: Watch = lambda method, share: None) -> Iterator[Approximation]:
    """The posterior of each method in turn; those that the folder holds are not made again.

    Arguments:
        plan: what is to be inferred.
        folder: where to write, after each method.
        watch: called with the method and the share of it that is done.

    Raises:
        ValueError: If the folder cannot be read or written, or a climb diverges.
    """
    known, done = _kept(plan, make_folder(folder) / "posteriors.json"), list[Approximation]()
    for method in plan.methods:
        done.append(known[method] if method in known else _infer(plan, method, watch))
        watch(method, 1.0)
        write_json(folder / "posteriors.json", records(plan, done))
        write_csv(folder / "marginals.csv", marginals(plan, done))
        yield done[-1]


def records(plan: Plan, done: list[Approximation]) -> dict[str, Any]:
    """Everything, as plain numbers, lists and dictionaries."""
    model = plan.model
    return {
        "settings": plan.settings(),
        "log_evidence": model.posterior.log_partition,
        "entropy": model.posterior.entropy,
        "configurations": math.prod(model.cardinalities),
        "possible": model.possible,
        "variables": [{"name": node.name, "states": list(node.states)} for node in model.hidden],
        "marginals": _own(plan, model.posterior.marginals),
        "posteriors": [asdict(one) for one in done],
    }


def marginals(plan: Plan, done: list[Approximation]) -> list[dict[str, Any]]:
    """One row for each state of each hidden variable: its exact probability, and that of each method."""
    exact = _own(plan, plan.model.posterior.marginals)
    return [
        {
            "variable": node.name,
            "state": state,
            "posterior": exact[n][k],
            **{one.method: one.marginals[n][k] for one in done},
        }
        for n, node in enumerate(plan.model.hidden)
        for k, state in enumerate(node.states)
    ]


def _infer(plan: Plan, method: str, watch: Watch) -> Approximation:
    one = found(plan, method, watch)
    return Approximation(
        method,
        _nonnegative(one.kl_q_p),
        _nonnegative(one.kl_p_q),
        _own(plan, one.marginals),
        (one.marginals - plan.model.posterior.marginals).abs().max().item(),
        one.seconds,
        one.evaluations,
        one.note,
    )


def _nonnegative(divergence: float) -> float:
    """Without what rounding took below zero, and without the sign of a zero."""
    return abs(max(divergence, 0.0))


def _own(plan: Plan, probs: Tensor) -> list[list[float]]:
    """Rows without what stands behind the states of a variable."""
    return [row[:size] for row, size in zip(probs.tolist(), plan.model.cardinalities, strict=True)]


def _kept(plan: Plan, path: Path) -> dict[str, Approximation]:
    """The posteriors of a file, if it is of the same settings."""
    done = (kept(path, plan.settings()) or {"posteriors": []})["posteriors"]
    return {one["method"]: Approximation(**{k: _infinite(k, v) for k, v in one.items()}) for one in done}


def _infinite(name: str, value: Any) -> Any:
    return math.inf if value is None and name.startswith("kl") else value
