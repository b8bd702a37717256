"""How wide tables are, and what ``softhot compare`` prints: what is left out, the ranking, and a forecast."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from softhot.lab.report.conclusion import chosen
from softhot.lab.study.choice import undecided
from softhot.lab.study.forecast import Cost, forecast, seconds
from softhot.lab.study.plan import Plan
from softhot.lab.study.summary import Arm

__all__ = ["left_out", "print_forecast", "print_ranking", "widen"]


def widen(console: Console, width: int = 120) -> None:
    """Give tables so much room even where there is no terminal, or a narrow one: numbers are not cut off."""
    console.width = max(console.width, width)


def left_out(skipped: Sequence[dict[str, str]]) -> list[str]:
    """A line for each reason: first the terms of an estimator together, then the estimators of the same terms."""
    terms: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        terms.setdefault((one["estimator"], one["reason"]), []).append(one["term"])
    estimators: dict[tuple[str, str], list[str]] = {}
    for (name, reason), labels in terms.items():
        estimators.setdefault((", ".join(labels), reason), []).append(name)
    return [f"skipped {', '.join(names)} with {labels}: {reason}" for (labels, reason), names in estimators.items()]


def print_ranking(console: Console, arms: Sequence[Arm]) -> None:
    """The arms in a table, best first."""
    title = "Test images, nats per image, and cosines of the encoder's and decoder's gradients with the exact one"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("arm", no_wrap=True)
    for column in ("discrete ELBO", "gap", "enc", "dec"):
        table.add_column(column, justify="right", no_wrap=True)
    if any(arm.choice for arm in arms):
        table.add_column("chosen (validation ELBO)", no_wrap=True)
    for arm in arms:
        deviation = f" ±{arm.elbo.deviation:.2f}" if arm.elbo.count > 1 else ""
        gradient = (arm.end.encoder.cosine, arm.end.decoder.cosine)
        numbers = (f"{value.mean:.2f}" if value.count else "–" for value in (arm.gap, *gradient))
        table.add_row(arm.label, f"{arm.elbo.mean:.2f}{deviation}", *numbers, _choice(arm))
    widen(console)
    console.print(table)


def print_forecast(console: Console, study: Plan, workers: int | None) -> None:
    """The runs, an arm in a line, and an estimate of how long they take."""
    table = Table(box=None, pad_edge=False)
    table.add_column("arm", no_wrap=True)
    for column in ("seeds", "learning rates", "steps", "seconds a run"):
        table.add_column(column, justify="right")
    costs: list[Cost] = []
    with console.status("timing a few steps of every arm"):
        for cost in forecast(study, workers=workers):
            costs.append(cost)
            seeds = " ".join(dict.fromkeys(str(run.seed) for run in cost.runs))
            rates = " ".join(dict.fromkeys(f"{run.learning_rate:g}" for run in cost.runs))
            steps = "-" if cost.steps is None else f"{cost.steps:,}"
            table.add_row(cost.runs[0].arm, seeds, rates, steps, f"{cost.training + cost.scoring:.1f}")
    widen(console)
    console.print(table)
    total = datetime.timedelta(seconds=round(seconds(study, costs, workers=workers)))
    choice = ", of which what is chosen is scored on the test images" if undecided(study) else ""
    console.print(f"{len(study.runs)} runs of {study.runs[0].length}{choice}", highlight=False, soft_wrap=True)
    text = f"about {total} (h:mm:ss), an estimate from a few steps of every arm; nothing was written"
    console.print(text, highlight=False, soft_wrap=True)


def _choice(arm: Arm) -> str:
    if arm.choice is None:
        return ""
    count, elbo = len(arm.choice["candidates"]), arm.choice["valid_elbo"]
    return f"{chosen(arm.choice)} of {count} ({elbo:.2f})"
