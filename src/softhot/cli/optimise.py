"""``softhot optimise``: descents of a problem with known truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from softhot.cli import options
from softhot.lab.drawing import save, writable
from softhot.lab.files import jsonable, make_folder, write_csv, write_json
from softhot.lab.optimise import Descent, Plan, descend, records, rows
from softhot.lab.optimise_figure import optimise_figure
from softhot.problems import PROBLEMS, problem

__all__ = ["optimise"]

ESTIMATORS = ["exact", "leave-one-out", "straight-through", "reinmax", "optimal-straight-through", "gumbel-rao"]


def optimise(
    problem_name: Annotated[str, typer.Option("--problem", help=f"Problem: {', '.join(PROBLEMS)}.")] = "polynomial",
    estimator: Annotated[list[str], typer.Option(help=f"Gradient estimators: {options.estimator_names}.")] = ESTIMATORS,
    samples: Annotated[int | None, typer.Option(help="Draws per gradient. (the estimator's own if not given)")] = None,
    temperature: Annotated[float, typer.Option(help="Temperature of estimators that have one.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 2000,
    batch_size: Annotated[int, typer.Option(help="Estimates averaged in a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Learning rate.")] = 0.01,
    optimiser: options.Optimiser = "adam",
    seeds: Annotated[int, typer.Option(help="Number of seeds, from 0; all descend at once.")] = 5,
    every: Annotated[int | None, typer.Option(help="Steps between records. (a hundredth of all if not given)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    out: options.Out = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the losses elsewhere too: FILE.html, .png or .svg.")] = None,
) -> None:
    """Descend a problem whose truth is known, and print the exact loss by steps and evaluations of f.

    "exact" is the problem's own exact gradient, which needs no evaluation. Writes the losses as .csv and .json, and
    draws them.
    """
    plan = Plan(problem_name, steps, batch_size, learning_rate, optimiser, seeds, every)
    if plot is not None:
        writable(plot)
    folder = make_folder(out or Path("results") / f"optimise-{problem_name}")
    console = Console(stderr=as_json)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done: list[Descent] = []
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("descending", total=steps * len(dict.fromkeys(estimator)))

        def watch(name: str, count: int) -> None:
            progress.update(bar, advance=count, description=name)

        for one in descend(plan, estimator, samples=samples, temperature=temperature, watch=watch):
            done.append(one)
    found = records(plan, done)
    figure = optimise_figure(done, problem(problem_name).minimum())
    write_csv(folder / "losses.csv", rows(done))
    write_json(folder / "losses.json", found)
    for path in (folder / "losses.html", plot):
        if path is not None:
            save(figure, path)
    if as_json:
        print(json.dumps(jsonable(found), indent=1))
        return
    _print(console, plan, done)
    console.print(f"{folder / 'losses.html'}  {folder / 'losses.csv'}", highlight=False, soft_wrap=True)


def _print(console: Console, plan: Plan, done: Sequence[Descent]) -> None:
    toy = problem(plan.problem)
    least = toy.minimum()
    note = "" if least is None else f", infimum {least:.6f}"
    title = f"Exact loss of {plan.problem} ({toy.latents} x {toy.classes}){note}; mean of {plan.seeds} seed(s)"
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("estimator", no_wrap=True)
    last = len(done[0].steps) - 1
    shown = list(dict.fromkeys(round(last * part / 4) for part in range(5)))
    for i in shown:
        table.add_column(f"{done[0].steps[i]:,} steps" if i else "start", justify="right", no_wrap=True)
    for column in ("± deviation", "evaluations", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in sorted(done, key=lambda one: one.mean[-1]):
        evaluations = "-" if one.evaluations is None else f"{one.evaluations[-1]:,}"
        losses = (f"{one.mean[i]:.6f}" for i in shown)
        table.add_row(one.estimator, *losses, f"{one.deviation[-1]:.6f}", evaluations, f"{one.seconds:.1f}")
    console.print(table)
