"""``softhot list``: what there is, by name, a line each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from softhot.cli import options
from softhot.estimators import ESTIMATORS
from softhot.kl import TERMS
from softhot.names import unknown
from softhot.problems import PROBLEMS
from softhot.problems.data import DATA

__all__ = ["listing"]

KINDS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "estimators": ("softhot.estimators.ESTIMATORS, --estimator", ESTIMATORS),
    "terms": ("softhot.kl.TERMS, --term", TERMS),
    "problems": ("softhot.problems.PROBLEMS, --problem", PROBLEMS),
    "data": ("softhot.problems.data.DATA, --data", DATA),
}


def listing(
    kind: Annotated[
        list[str] | None,
        typer.Argument(help=f"{', '.join(KINDS)}; all if none is given.", autocompletion=options.among(KINDS)),
    ] = None,
) -> None:
    """List the estimators, KL terms, problems and data sets by name."""
    for name in kind or ():
        if name not in KINDS:
            raise unknown("kind", name, KINDS)
    console = Console(highlight=False, soft_wrap=True)
    for one in kind or KINDS:
        where, values = KINDS[one]
        console.print(f"{one} ({where})", style="bold")
        width = max(map(len, values))
        for name, value in values.items():
            console.print(f"  {name:{width}}  {_line(value)}", markup=False)


def _line(value: Any) -> str:
    """What a thing says of itself; an instance with its settings, a function in the words of its module."""
    if inspect.isfunction(value):
        value = inspect.getmodule(value)
    kind, settings = (value, "") if inspect.isclass(value) or inspect.ismodule(value) else (type(value), f" {value!r}")
    return (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ") + settings
