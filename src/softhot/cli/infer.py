"""``softhot infer``: posteriors of a Bayesian network by different methods, against the exact one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from softhot.cli import options
from softhot.cli.destination import destination
from softhot.cli.tables import widen
from softhot.lab.experiments.infer import Approximation, execute, marginals, records
from softhot.lab.experiments.posteriors import METHODS, Plan
from softhot.lab.figures.drawing import save, writable
from softhot.lab.figures.infer import infer_figure
from softhot.lab.files import jsonable

__all__ = ["infer"]

METHOD = ["leave-one-out", "reinmax", "gumbel-softmax"]
LONGEST = 40  # rows of the table of marginals


def infer(
    network: Annotated[str, typer.Argument(help="A .bif file, or the name of one in $SOFTHOT_DATA/bayesnets.")],
    evidence: Annotated[list[str] | None, typer.Option(help="What is observed: Variable=state ...")] = None,
    method: Annotated[
        list[str], typer.Option(help=f"Methods: {', '.join(METHODS)}.", autocompletion=options.among(METHODS))
    ] = METHOD,
    components: Annotated[int, typer.Option(help="Configurations of a mixture (mdnf).")] = 100,
    restarts: Annotated[int, typer.Option(help="Climbs of an estimator; the best is kept.")] = 8,
    samples: options.Samples = None,
    temperature: options.Temperature = None,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 1000,
    batch_size: Annotated[int, typer.Option(help="Estimates averaged in a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Learning rate.")] = 0.05,
    optimiser: options.Optimiser = "adam",
    floor: Annotated[float, typer.Option(help="What log 0 counts as while climbing; not in the scores.")] = -20.0,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables.")] = False,
    out: options.Out = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the posteriors elsewhere too: FILE.html, .png or .svg.")
    ] = None,
) -> None:
    """Fit the posterior of a Bayesian network, and print KL(q||p), KL(p||q) and the marginals against the exact ones.

    Two methods are always there, for the others to be held against: mean-field, the best product of independent
    variables of many coordinate ascents, and mdnf, the best mixture of equally weighted configurations.
    """
    plan = Plan(
        network,
        tuple(evidence or ()),
        tuple(method),
        components=components,
        restarts=restarts,
        samples=samples,
        temperature=temperature,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimiser=optimiser,
        floor=floor,
        seed=seed,
    )
    if plot is not None:
        writable(plot)
    folder = destination(out, "infer", Path(network).stem, *plan.evidence)
    console = Console(stderr=as_json)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    done: list[Approximation] = []
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("inferring", total=len(plan.methods))

            def watch(name: str, share: float) -> None:
                progress.update(bar, completed=plan.methods.index(name) + share, description=name)

            done.extend(execute(plan, folder, watch))
    finally:
        if done:
            save(infer_figure(plan, done), folder / "posteriors.html")
    if plot is not None:
        save(infer_figure(plan, done), plot)
    if as_json:
        print(json.dumps(jsonable(records(plan, done)), indent=1))
        return
    widen(console)
    _print(console, plan, done)
    files = (folder / "posteriors.html", folder / "marginals.csv")
    console.print("  ".join(map(str, files)), highlight=False, soft_wrap=True)


def _print(console: Console, plan: Plan, done: list[Approximation]) -> None:
    found = records(plan, done)
    given = f" with {', '.join(plan.evidence)}" if plan.evidence else ""
    size = f"{len(found['variables'])} hidden variables, {found['configurations']:,} configurations"
    size += "" if found["possible"] > 0.999 * found["configurations"] else f", {found['possible']:,.0f} possible"
    truth = f"log evidence {found['log_evidence']:.5f}, entropy of the posterior {found['entropy']:.5f}"
    console.print(f"Posterior of {plan.network}{given} ({size}): {truth}", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for column in ("KL(q||p)", "KL(p||q)", "marginals ±", "evaluations", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for one in sorted(done, key=lambda one: one.kl_q_p):
        scores = (f"{one.kl_q_p:.5f}", f"{one.kl_p_q:.5f}", f"{one.error:.4f}")
        evaluations = "-" if one.evaluations is None else f"{one.evaluations:,}"
        table.add_row(one.method, *scores, evaluations, f"{one.seconds:.1f}", one.note)
    console.print(table)
    _print_marginals(console, plan, done)


def _print_marginals(console: Console, plan: Plan, done: list[Approximation]) -> None:
    rows, methods = marginals(plan, done), [one.method for one in done]
    if len(rows) > LONGEST:
        rows.sort(key=lambda row: max(abs(row[method] - row["posterior"]) for method in methods), reverse=True)
    left = f", the {LONGEST} of {len(rows)} that are furthest off" if len(rows) > LONGEST else ""
    console.print(f"\nMarginals, with their error{left}:", highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in ("posterior", *methods):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows[:LONGEST]:
        errors = (f"{row[method]:.3f} {row[method] - row['posterior']:+.3f}" for method in methods)
        table.add_row(f"{row['variable']}={row['state']}", f"{row['posterior']:.4f}", *errors)
    console.print(table)
