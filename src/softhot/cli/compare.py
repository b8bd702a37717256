"""``softhot compare``: a grid of estimators, KL terms, temperatures, learning rates and seeds, and a report."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from softhot.cli import options
from softhot.cli.destination import basename, destination
from softhot.cli.tables import left_out, print_forecast, print_ranking
from softhot.cli.watching import watching
from softhot.lab.figures.drawing import save, writable
from softhot.lab.figures.outcomes import overview
from softhot.lab.files import write_text
from softhot.lab.report.conclusion import conclude
from softhot.lab.report.page import render
from softhot.lab.study import declaration
from softhot.lab.study.archive import describe
from softhot.lab.study.choice import choose, undecided
from softhot.lab.study.declaration import USUAL
from softhot.lab.study.engine import CHECKPOINT_SECONDS, execute
from softhot.lab.study.folder import write_table
from softhot.lab.study.plan import TUNABLE, Plan
from softhot.lab.study.summary import summarise

__all__ = ["PANELS", "compare"]

PANELS = {
    "Data and model": ("data", "binarise", "latents", "classes", "hidden", "learned_prior", "prior_temperature"),
    "What is compared": (
        *("title", "estimator", "baseline", "samples", "components", "term", "temperature", "final_temperature"),
        *("learning_rate", "tune", "seeds"),
    ),
    "Training": (
        *("epochs", "budget_evaluations", "budget_seconds", "optimiser", "batch_size", "control_learning_rate"),
        *("schedule", "precision"),
    ),
}


def compare(
    context: typer.Context,
    study: Annotated[
        Path | None,
        typer.Argument(help="A TOML file that declares the study, in place of the last three panels of options."),
    ] = None,
    data: options.Data = "digits",
    binarise: options.Binarise = "threshold",
    latents: options.Latents = None,
    classes: options.Classes = None,
    hidden: options.Hidden = None,
    learned_prior: options.LearnedPrior = False,
    prior_temperature: options.PriorTemperature = None,
    title: Annotated[str | None, typer.Option(help="What the report is called.")] = None,
    estimator: Annotated[
        list[str],
        typer.Option(help=f"Gradient estimators: {options.estimator_names}.", autocompletion=options.estimators),
    ] = USUAL["estimator"],
    baseline: options.Baseline = None,
    samples: Annotated[
        list[int] | None, typer.Option(help="Draws per gradient. (the estimator's own if not given)")
    ] = None,
    components: options.Components = 8,
    term: Annotated[
        list[str], typer.Option(help=f"KL terms: {options.term_names}.", autocompletion=options.terms)
    ] = USUAL["term"],
    temperature: Annotated[list[float], typer.Option(help="Temperatures of relaxed variables.")] = USUAL["temperature"],
    final_temperature: Annotated[
        list[float] | None, typer.Option(help="What they are annealed to. (constant if not given)")
    ] = None,
    learning_rate: Annotated[
        list[float] | None, typer.Option(help="Learning rates to choose from. (digits: 0.008; other data: 0.001)")
    ] = None,
    tune: Annotated[
        list[str],
        typer.Option(
            help=f"What is chosen on the validation images: {', '.join(TUNABLE)}.",
            autocompletion=options.among(TUNABLE),
        ),
    ] = declaration.TUNE,
    seeds: Annotated[int, typer.Option(help="Number of seeds, from 0.")] = declaration.SEEDS,
    epochs: options.Epochs = None,
    budget_evaluations: options.BudgetEvaluations = None,
    budget_seconds: options.BudgetSeconds = None,
    optimiser: options.Optimiser = "adam",
    batch_size: options.BatchSize = 100,
    control_learning_rate: options.ControlLearningRate = 3e-2,
    schedule: Annotated[str, typer.Option(help="How temperatures are annealed: exponential, linear.")] = "exponential",
    precision: options.Precision = "32",
    out: options.Out = None,
    workers: Annotated[
        int | None, typer.Option(help="Runs at a time on this machine. (one for each core if not given)")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers train the runs: tcp://HOST:8786.")
    ] = None,
    checkpoint_every: Annotated[
        float, typer.Option(help="Minutes between the checkpoints of a run.")
    ] = CHECKPOINT_SECONDS / 60,
    mix_versions: Annotated[
        bool, typer.Option("--mix-versions", help="Keep finished runs of other code beside the new ones.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw an overview too: FILE.html, .png or .svg.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the runs and an estimate of their time on this machine; write nothing."),
    ] = False,
) -> None:
    """Train every pair of an estimator and a KL term that go together, and report what each really optimised.

    The study is that of the options, or of a TOML file (its format: python -m pydoc softhot.lab.study.declaration). Of
    several learning rates one is chosen for each arm, by the validation images. A study that was stopped goes on where
    it was: run the same command again.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers} runs nothing; use --workers 1 or more, or leave it out.")
    if workers is not None and scheduler is not None:
        raise ValueError(f"--scheduler {scheduler} has workers of its own; leave out --workers.")
    if not checkpoint_every >= 0:
        raise ValueError(f"--checkpoint-every {checkpoint_every} is no time; use --checkpoint-every 5, for example.")
    if plot is not None:
        writable(plot)
    if study is not None:
        extra = [name for names in PANELS.values() for name in names if _given(context, name)]
        if extra:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in extra)
            raise ValueError(f"{study} says what is run; leave out {flags}.")
        planned = declaration.read(study)
    else:
        planned = declaration.declare(
            {
                "title": title,
                "seeds": seeds,
                "tune": tune,
                "data": {"name": data, "binarise": binarise},
                "model": {
                    "latents": latents,
                    "classes": classes,
                    "hidden": hidden,
                    "learned_prior": learned_prior,
                    "prior_temperature": prior_temperature,
                },
                "training": {
                    "optimiser": optimiser,
                    "batch_size": batch_size,
                    "control_learning_rate": control_learning_rate,
                    "schedule": schedule,
                    "precision": precision,
                },
                "budget": {"epochs": epochs, "evaluations": budget_evaluations, "seconds": budget_seconds},
                "grid": {
                    "estimator": estimator,
                    "term": term,
                    "temperature": temperature,
                    "final_temperature": final_temperature,
                    "samples": samples,
                    "baseline": baseline,
                    "components": components,
                    "learning_rate": learning_rate,
                },
            }
        )
    console = Console()
    for line in left_out(planned.skipped):
        console.print(line, style="dim", soft_wrap=True)
    if dry_run:
        print_forecast(console, planned, workers)
        return
    folder = destination(out, "compare", basename(data)) if study is None else destination(out, study.stem)
    start = partial(
        execute,
        folder=folder,
        command=shlex.join(["softhot", *sys.argv[1:]]),
        workers=workers,
        scheduler=scheduler,
        checkpoint_seconds=60 * checkpoint_every,
        mix_versions=mix_versions,
    )
    candidates: list[dict[str, Any]] = []
    if undecided(planned):
        candidates = _carry_out(console, dataclasses.replace(planned, scored=False), start)
        planned = choose(planned, candidates)
    done = _carry_out(console, planned, start) if planned.runs else []
    if not done:
        raise ValueError("every run failed, so there is nothing to report.")
    reported = {record["id"] for record in done}
    write_table(folder, [*done, *(record for record in candidates if record["id"] not in reported)])
    write_text(folder / "report.html", render(describe(folder), done))
    if plot is not None:
        save(overview(done), plot)
    arms = summarise(done, planned.choices)
    print_ranking(console, arms)
    for sentence in conclude(arms):
        console.print(f"• {sentence}", highlight=False, soft_wrap=True)
    console.print(f"\n{folder / 'report.html'}  {folder / 'records.csv'}", highlight=False, soft_wrap=True)


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _carry_out(
    console: Console, study: Plan, start: Callable[..., Generator[dict[str, Any], None, None]]
) -> list[dict[str, Any]]:
    """The records of the runs, which are watched, with a line for each that failed."""
    done = []
    with watching(console, len(study.runs)) as watcher, closing(start(study, watch=watcher.step)) as running:
        for record in running:
            if "failed" in record:
                console.print(f"failed {record['failed']}: {record['reason']}", style="red", soft_wrap=True)
            else:
                done.append(record)
            watcher.end(record)
    return done
