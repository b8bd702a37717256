"""``softhot entropy``: every entropy term of one categorical variable, sampled and exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from softhot.distributions import OneHotCategorical
from softhot.functional.check import positive
from softhot.lab.experiments.entropies import curves, entropies
from softhot.lab.figures.drawing import save, writable
from softhot.lab.figures.entropies import LABELS, entropy_figure

__all__ = ["entropy"]


def entropy(
    probs: Annotated[list[float] | None, typer.Option(help="Probabilities, or numbers in proportion to them.")] = None,
    logits: Annotated[list[float] | None, typer.Option(help="Or logits; -inf marks an impossible class.")] = None,
    temperature: Annotated[list[float], typer.Option(help="Temperatures of the relaxed variable.")] = [1.0],  # noqa: B006
    samples: Annotated[int, typer.Option(help="Draws of each variable.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw every term against temperature: FILE.html, .png or .svg.")
    ] = None,
) -> None:
    """Print the mean of log q, for every kind of log q, in nats: by Monte Carlo, and exact.

    The discrete variable, the relaxed one, and the relaxed one discretised; with their mean frequencies.
    """
    if (probs is None) == (logits is None):
        raise ValueError("give either --probs or --logits, such as --probs 0.5 0.25 0.125 0.125")
    values = torch.tensor(probs if logits is None else logits, dtype=torch.float64)
    given = {"probs": values} if logits is None else {"logits": values}
    log_probs = OneHotCategorical(**given, validate_args=True).logits
    for heat in temperature:
        positive("temperature", heat, torch.Size())
    if plot is not None:
        writable(plot)
    found = entropies(log_probs, temperature, samples, seed)
    if plot is not None:
        low, high = min(0.05, *temperature), max(20.0, *temperature)
        save(entropy_figure(found, curves(log_probs, low, high)), plot)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    console = Console()
    note = f"{found['samples']:,} draws, seed {found['seed']}"
    terms = Table(title=Text(f"E[log q] in nats, {note}"), title_justify="left", box=SIMPLE_HEAD)
    frequencies = Table(title=Text(f"Mean frequencies, {note}"), title_justify="left", box=SIMPLE_HEAD)
    for column in ("t", "kind"):
        terms.add_column(column)
        frequencies.add_column(column)
    for column in ("Monte Carlo", "± standard error", "exact"):
        terms.add_column(column, justify="right")
    for column in ("Monte Carlo", "exact"):
        frequencies.add_column(column)
    _term(terms, "-", "discrete", found["discrete"]["log_q"])
    _frequency(frequencies, "-", "discrete", found["discrete"])
    for one in found["temperatures"]:
        heat = f"{one['temperature']:g}"
        for name, label in LABELS.items():
            _term(terms, heat, label, one["log_q"][name])
        for kind in ("relaxed", "discretised"):
            _frequency(frequencies, heat, kind, one[kind])
    console.print(terms)
    console.print(frequencies)


def _term(table: Table, heat: str, label: str, value: dict[str, float]) -> None:
    table.add_row(heat, label, f"{value['estimate']:.4f}", f"{value['standard_error']:.4f}", f"{value['exact']:.4f}")


def _frequency(table: Table, heat: str, label: str, value: dict[str, list[float]]) -> None:
    table.add_row(heat, label, *(_numbers(value[key]) for key in ("frequencies", "mean")))


def _numbers(values: list[float], most: int = 6) -> str:
    return " ".join(f"{number:.3f}" for number in values[:most]) + (" …" if len(values) > most else "")
