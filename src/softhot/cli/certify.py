"""``softhot certify``: what each gradient estimator is, measured, and whether that is what its class says."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from softhot.estimators import ESTIMATORS, Estimator, estimator
from softhot.testing import Certificate, certify

__all__ = ["certificates"]

_NAMES = "Of the library, or your own as module:Class; all of the library if none is given."


def certificates(
    names: Annotated[list[str] | None, typer.Argument(help=_NAMES, show_default=False)] = None,
    draws: Annotated[int, typer.Option(help="Draws, where moments cannot be exact.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Measure gradient estimators: bias and variance, exact where draws can be enumerated; and what they claim.

    The exit status is 1 if one of them is not what its class says.
    """
    if draws < 100:
        raise ValueError(f"--draws {draws} are too few for a mean; use --draws 20000, for example.")
    chosen = {name: _instance(name) for name in names or ESTIMATORS}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[Certificate] = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
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
    record = {key: value for key, value in dataclasses.asdict(one).items() if key != "checks"}
    record = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in record.items()}
    return {**record, "passed": one.passed, "checks": {check.name: check.fault for check in one.checks}}


def _print(found: Sequence[Certificate]) -> None:
    console = Console()
    console.width = max(console.width, 100)  # numbers are not cut off where there is no terminal
    title = "Gradients to the logits, relative to the true one: exact, or ± standard error"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("estimator", no_wrap=True)
    table.add_column("unbiased", no_wrap=True)
    for column in ("bias", "variance", "cost", "from"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in found:
        table.add_row(
            one.name,
            "yes" if one.unbiased else "no",
            _number(one.bias, one.bias_error, one.exact),
            _number(one.variance, one.variance_error, one.exact),
            str(one.evaluations),
            f"all of {one.count:,}" if one.exact else f"{one.count:,} draws",
            "right" if one.passed else "[red]wrong[/red]",
        )
    console.print(table)
    for one in found:
        for check in one.faults:
            console.print(f"{one.name}, {check.name}: {check.fault}", highlight=False, markup=False, soft_wrap=True)


def _number(value: float, error: float, exact: bool) -> str:
    if exact:
        return f"{value:.4f}"
    return f"{value:.3f} ± {error:.3f}"
