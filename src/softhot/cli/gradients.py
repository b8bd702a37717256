"""``softhot gradients``: how good gradients are, of a problem or of a model that is fresh, trained, or in training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from softhot.cli import options
from softhot.cli.destination import basename, destination
from softhot.estimators import BASELINES
from softhot.kl import term as term_of
from softhot.lab.config import Config
from softhot.lab.figures.drawing import save, writable
from softhot.lab.figures.gradients import along_figure, gradient_figure
from softhot.lab.files import jsonable, make_folder, write_csv, write_json
from softhot.lab.gradients.diagnosis import Diagnosis
from softhot.lab.gradients.places import Grid, Place, along_run, at_checkpoint, at_fresh_weights, at_start, name_of
from softhot.lab.gradients.quality import Quality
from softhot.problems import PROBLEMS
from softhot.problems.data import DATA, MODES

__all__ = ["gradients"]

Found = list[tuple[int | None, Diagnosis]]  # with the epoch of a run

# estimators, where none is named
USUAL = ["leave-one-out", "rebar", "straight-through", "reinmax", "gumbel-rao", "st-gumbel-softmax", "gumbel-softmax"]


def gradients(
    problem: Annotated[
        str | None, typer.Option(help=f"Of a problem: {', '.join(PROBLEMS)}.", autocompletion=options.among(PROBLEMS))
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Of a model: the folder or file of softhot train.")] = None,
    run: Annotated[Path | None, typer.Option(help="Along a run: the folder of softhot train --keep-every.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Of a fresh VAE: its data, as for softhot train. (digits)", autocompletion=options.among(DATA)
        ),
    ] = None,
    binarise: Annotated[
        str | None, typer.Option(help="How grey pixels become binary. (threshold)", autocompletion=options.among(MODES))
    ] = None,
    latents: options.Latents = None,
    classes: options.Classes = None,
    hidden: options.Hidden = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Gradient estimators: {options.estimator_names}. (of a run: its own, with what it has learned)",
            autocompletion=options.estimators,
        ),
    ] = None,
    samples: options.Samples = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Baselines of the score function: {', '.join(BASELINES)}.", autocompletion=options.among(BASELINES)
        ),
    ] = None,
    temperature: Annotated[
        list[float] | None, typer.Option(help="Temperatures of estimators. (their own if not given)")
    ] = None,
    term: Annotated[
        str | None,
        typer.Option(
            help=f"KL term: {options.term_names}. (a run's own; otherwise categorical)", autocompletion=options.terms
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of each gradient.")] = 256,
    images: Annotated[int, typer.Option(help="Test images that a gradient is the mean over.")] = 16,
    learn: Annotated[int, typer.Option(help="Steps that baselines and control variates learn before.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of weights, parameters and draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables.")] = False,
    out: options.Out = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them elsewhere too: FILE.html, .png or .svg.")] = None,
) -> None:
    """Measure bias, variance and cosine of gradients against the true one, before and after the sample.

    Of a fresh VAE, unless --problem, --checkpoint or --run is given. Writes the numbers as .csv and .json, and draws
    them.
    """
    elsewhere = {"--problem": problem, "--checkpoint": checkpoint, "--run": run}
    given = [name for name, value in elsewhere.items() if value is not None]
    model = {"data": data, "binarise": binarise, "latents": latents, "classes": classes, "hidden": hidden}
    extra = [f"--{name}" for name, value in model.items() if value is not None]
    if len(given) > 1 or (given and extra):
        raise ValueError(f"{given[0]} says what is measured; leave out {', '.join([*given[1:], *extra])}.")
    for name, number, least in (("draws", draws, 32), ("images", images, 1), ("learn", learn, 0)):
        if number < least:
            raise ValueError(f"--{name} {number} is too few; use --{name} {least} or more.")
    if plot is not None:
        writable(plot)
    kl = None if term is None else term_of(term)
    names = estimator or ([] if checkpoint or run else USUAL)
    grid = Grid(names, temperature or (), baseline or (), samples, seed)
    places: Iterator[Place]
    if problem is not None:
        what, places = problem, iter([at_start(problem, seed)])
    elif checkpoint is not None:
        what, places = name_of(checkpoint), iter([at_checkpoint(checkpoint, images, kl)])
    elif run is not None:
        what, places = basename(run), along_run(run, images, kl)
    else:
        sizes = {"latents": latents, "classes": classes, "hidden": hidden}
        config = Config.for_data(data or "digits", binarise=binarise, estimator="leave-one-out", seed=seed, **sizes)
        what, places = basename(config.data), iter([at_fresh_weights(config, images, kl)])
    first = next(places)
    grid.at(first)  # bad input is refused before any work
    console = Console(stderr=as_json)
    folder = make_folder(destination(out, "gradients", what))
    found: Found = []
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("measuring")
        for place in chain([first], places):
            found += [(place.epoch, one) for one in grid.measure(place, draws=draws, learn=learn)]
            progress.update(bar, description="measured" if place.epoch is None else f"measured at epoch {place.epoch}")
    rows = [{"epoch": epoch, **one.row()} for epoch, one in found]
    known = [(epoch, one) for epoch, one in found if epoch is not None]
    figure = along_figure(known) if run is not None else gradient_figure([one for _, one in found])
    write_csv(folder / "gradients.csv", jsonable(rows))
    write_json(folder / "gradients.json", rows)
    for path in (folder / "gradients.html", plot):
        if path is not None:
            save(figure, path)
    if as_json:
        print(json.dumps(jsonable(rows), indent=1))
        return
    _print(console, what, found)
    console.print(f"{folder / 'gradients.html'}  {folder / 'gradients.csv'}", highlight=False, soft_wrap=True)


def _print(console: Console, what: str, found: Found) -> None:
    along = len({epoch for epoch, _ in found}) > 1
    parts = list(dict.fromkeys(part for _, one in found for part in one.parts))
    for part in parts:
        truths = ", ".join(dict.fromkeys(_truth(one, one.parts[part]) for _, one in found))
        title = f"Gradient of the {part}, {what}, relative to the true one ({truths}); {found[0][1].draws} draws"
        table = _table(title, along, ("bias", "variance", "snr", "cosine", "of mean"))
        for epoch, one in found:
            quality = one.parts[part]
            table.add_row(
                one.estimator,
                *(str(epoch),) * along,
                f"{quality.bias:.3f} ±{quality.bias_se:.3f}{' ' if quality.bias_z <= 2 else '*'}",
                f"{quality.variance:.3g} ±{quality.variance_se:.1g}",
                f"{quality.snr:.2f}",
                f"{quality.cosine:.2f}",
                f"{quality.cosine_of_mean:.2f}",
            )
        console.print(table)
    title = "Variance that a budget of one leaves: of one evaluation of f, and of one second"
    table = _table(title, along, ("evals", "ms", *(f"{part[:3]} {unit}" for part in parts for unit in ("eval", "s"))))
    for epoch, one in found:
        each = [quality.variance * cost for quality in one.parts.values() for cost in (one.evaluations, one.seconds)]
        cost = (str(one.evaluations), f"{1000 * one.seconds:.2g}")
        table.add_row(one.estimator, *(str(epoch),) * along, *cost, *(f"{value:.2g}" for value in each))
    console.print(table)
    console.print("* a bias of more than two standard errors, by its square; mse and quantiles are in the files")


def _truth(one: Diagnosis, quality: Quality) -> str:
    return one.truth + (f", itself ±{quality.truth_se:.2g}" if quality.truth_se else "")


def _table(title: str, along: bool, columns: tuple[str, ...]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("estimator", no_wrap=True)
    for column in ("epoch",) * along + columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
