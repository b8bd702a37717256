"""``softhot optimise``: descents of a problem with known truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from softhot.cli import options
from softhot.cli.destination import destination
from softhot.lab.experiments.optimise import Descent, Plan, execute, records
from softhot.lab.figures.drawing import save, writable
from softhot.lab.figures.optimise import optimise_figure
from softhot.problems import PROBLEMS, problem

__all__ = ["optimise"]

# estimators, where none is named
USUAL = ["exact", "leave-one-out", "straight-through", "reinmax", "optimal-straight-through", "gumbel-rao"]


def optimise(
    problem_name: Annotated[
        str, typer.Option("--problem", help=f"Problem: {', '.join(PROBLEMS)}.", autocompletion=options.among(PROBLEMS))
    ] = "polynomial",
    estimator: Annotated[
        list[str],
        typer.Option(help=f"Gradient estimators: {options.estimator_names}.", autocompletion=options.estimators),
    ] = USUAL,
    samples: options.Samples = None,
    temperature: options.Temperature = None,
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

    "exact" is the problem's own exact gradient, which needs no evaluation. A command that was stopped goes on with the
    estimators that are left: run it again.
    """
    plan = Plan(
        problem_name,
        tuple(estimator),
        samples=samples,
        temperature=temperature,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimiser=optimiser,
        seeds=seeds,
        every=every,
    )
    if plot is not None:
        writable(plot)
    folder = destination(out, "optimise", problem_name)
    console = Console(stderr=as_json)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done: list[Descent] = []
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("descending", total=steps * len(plan.estimators))

            def watch(name: str, count: int) -> None:
                progress.update(bar, advance=count, description=name)

            done.extend(execute(plan, folder, watch))
    finally:
        if done:
            save(optimise_figure(problem_name, done), folder / "losses.html")
    if plot is not None:
        save(optimise_figure(problem_name, done), plot)
    if as_json:
        print(json.dumps(records(plan, done), indent=1))
        return
    _print(console, plan, done)
    console.print(f"{folder / 'losses.html'}  {folder / 'losses.csv'}", highlight=False, soft_wrap=True)


def _print(console: Console, plan: Plan, done: list[Descent]) -> None:
    toy = problem(plan.problem)
    least = toy.minimum()
    known = "" if least is None else f", least possible {least:.5f}"
    size = f"{toy.latents} x {toy.classes} classes, {plan.seeds} seed(s), {plan.steps:,} steps"
    start = f"at the start {done[0].mean[0]:.5f}{known}"
    console.print(f"Exact loss of {plan.problem} ({size}): {start}", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("estimator", no_wrap=True)
    for column in ("half-way", "end", "± sd", "evaluations", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in sorted(done, key=lambda one: one.mean[-1]):
        losses = (one.mean[len(one.mean) // 2], one.mean[-1], one.deviation[-1])
        evaluations = "-" if one.evaluations is None else f"{one.evaluations[-1]:,}"
        table.add_row(one.estimator, *(f"{loss:.5f}" for loss in losses), evaluations, f"{one.seconds:.1f}")
    console.print(table)
