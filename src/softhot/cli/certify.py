"""``softhot certify``: what each gradient estimator is, measured, and whether that is what its class says."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from softhot.cli import options
from softhot.cli.tables import widen
from softhot.estimators import ESTIMATORS, Estimator, estimator
from softhot.testing import Certificate, Figures, certify
from softhot.testing.measurement import Method

__all__ = ["certificates"]

_OF: dict[Method, str] = {"enumerated": "outcomes", "integrated": "nodes", "drawn": "draws"}
_NAMES = "Of the library, or your own as module:Class; all of the library if none is given."


def certificates(
    names: Annotated[
        list[str] | None, typer.Argument(help=_NAMES, show_default=False, autocompletion=options.estimators)
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws, where moments cannot be exact.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Measure gradient estimators, and hold them to what they claim: bias and variance, exact where that is possible.

    The last lines say what is wrong, if anything is; the exit status is then 1.
    """
    chosen = {name: _instance(name) for name in names or [name for name, one in ESTIMATORS.items() if not one.mixture]}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[Certificate] = []
    console = Console(stderr=True)
    console.quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("certifying", total=len(chosen))
        for name, one in chosen.items():
            progress.update(bar, description=name)
            found.append(certify(one, name, draws=draws, seed=seed))
            progress.update(bar, advance=1)
    if as_json:
        print(json.dumps([_record(one) for one in found], indent=1))
    else:
        _print(found)
    return 0 if all(one.passed for one in found) else 1


def _instance(name: str) -> Estimator:
    """The estimator of a name, with its own default arguments; or an estimator that a module holds."""
    module, colon, attribute = name.partition(":")
    if not colon:
        return estimator(name)()
    if not module or not attribute:
        raise ValueError(f"{name!r} names no module or no class; use module:Class.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a module does when it is imported
        raise ValueError(f"{name} cannot be imported: {type(error).__name__}: {error}; use module:Class.") from error
    if isinstance(found, type) and issubclass(found, Estimator):
        try:
            found = found()
        except TypeError as error:
            raise ValueError(
                f"{name} cannot be made without arguments: {error}; give them defaults, or name an instance."
            ) from error
    if not isinstance(found, Estimator):
        raise ValueError(f"{name} is no estimator; derive it from softhot.estimators.Estimator.")
    return found


def _record(one: Certificate) -> dict[str, Any]:
    return {
        "name": one.name,
        "passed": one.passed,
        "unbiased": one.unbiased,
        "evaluations": one.evaluations,
        "figures": [asdict(figures) for figures in one.figures],
        "checks": {check.name: check.fault for check in one.checks},
    }


def _print(found: Sequence[Certificate]) -> None:
    console = Console()
    widen(console, 100)
    title = "The gradient to N x K logits, relative to the true one: exact, or of draws ± standard error"
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("estimator", "N x K", "unbiased"):
        table.add_column(column, no_wrap=True)
    for column in ("bias", "variance", "of", "cost", "verdict"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found:
        verdict = "right" if one.passed else "[red]wrong[/red]"
        rows = [_row(figures) for figures in one.figures] or [["-"] * 5]
        table.add_row(one.name, *rows[0], str(one.evaluations or "-"), verdict)
        for row in rows[1:]:
            table.add_row("", *row)
    console.print(title, style="italic", highlight=False)
    console.print(table)
    for one in found:
        for check in one.faults:
            console.print(f"{one.name}, {check.name}: {check.fault}", highlight=False, markup=False, soft_wrap=True)


def _row(one: Figures) -> list[str]:
    drawn = one.method == "drawn"
    return [
        f"{one.latents} x {one.classes}",
        "yes" if one.unbiased else "no",
        f"{one.bias:.3f} ± {one.bias_error:.3f}" if drawn else f"{one.bias:.4f}",
        f"{one.variance:.3f} ± {one.variance_error:.3f}" if drawn else f"{one.variance:.4f}",
        f"{one.count:,} {_OF[one.method]}",
    ]
