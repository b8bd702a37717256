"""``softhot compare``: a grid of estimators, KL terms, temperatures and seeds, and a report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from softhot.cli import options
from softhot.cli.watching import watching
from softhot.lab.conclusion import conclude
from softhot.lab.config import Config
from softhot.lab.drawing import save, writable
from softhot.lab.engine import CHECKPOINT_SECONDS, execute
from softhot.lab.figures import overview
from softhot.lab.files import write_text
from softhot.lab.plan import plan
from softhot.lab.report import render
from softhot.lab.study import records, write_table
from softhot.lab.summary import Arm, summarise

__all__ = ["compare"]

ESTIMATORS = ["exact", "leave-one-out", "straight-through", "reinmax", "gumbel-softmax", "st-gumbel-softmax"]
ESTIMATORS += ["mixture-of-discrete-flows"]
TERMS = ["categorical", "maddison21", "maddison21-exact", "concrete", "concrete-exact", "mixture"]


def compare(
    data: options.Data = "digits",
    binarise: options.Binarise = "threshold",
    estimator: Annotated[list[str], typer.Option(help=f"Gradient estimators: {options.estimator_names}.")] = ESTIMATORS,
    baseline: options.Baseline = None,
    term: Annotated[list[str], typer.Option(help=f"KL terms: {options.term_names}.")] = TERMS,
    temperature: Annotated[list[float], typer.Option(help="Temperatures of relaxed variables.")] = [0.5, 1.0],  # noqa: B006
    components: options.Components = 8,
    prior_temperature: options.PriorTemperature = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds, from 0.")] = 3,
    latents: options.Latents = None,
    classes: options.Classes = None,
    hidden: options.Hidden = None,
    learned_prior: options.LearnedPrior = False,
    optimiser: options.Optimiser = "adam",
    learning_rate: options.LearningRate = None,
    control_learning_rate: options.ControlLearningRate = 3e-2,
    batch_size: options.BatchSize = 100,
    epochs: options.Epochs = None,
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
) -> None:
    """Train every pair of an estimator and a KL term that go together, and report what each really optimised.

    A study that was stopped goes on where it was: run the same command again.
    """
    if seeds < 1:
        raise ValueError(f"--seeds {seeds} leaves nothing to run; use --seeds 2, for example.")
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers} runs nothing; use --workers 1 or more, or leave it out.")
    if workers is not None and scheduler is not None:
        raise ValueError(f"--scheduler {scheduler} has workers of its own; leave out --workers.")
    if not checkpoint_every >= 0:
        raise ValueError(f"--checkpoint-every {checkpoint_every} is no time; use --checkpoint-every 5, for example.")
    if plot is not None:
        writable(plot)
    base = Config.for_data(
        data,
        binarise=binarise,
        baseline=baseline,
        components=components,
        prior_temperature=prior_temperature,
        latents=latents,
        classes=classes,
        hidden=hidden,
        learned_prior=learned_prior,
        optimiser=optimiser,
        learning_rate=learning_rate,
        control_learning_rate=control_learning_rate,
        batch_size=batch_size,
        epochs=epochs,
    )
    study = plan(base, estimator, term, temperature, range(seeds))
    folder = out or Path("results") / f"compare-{Path(data).name}"
    console = Console()
    for line in _left_out(study.skipped):
        console.print(line, style="dim", soft_wrap=True)
    done: list[dict[str, Any]] = []
    with watching(console, len(study.runs)) as watcher:
        running = execute(
            study,
            folder,
            command=shlex.join(["softhot", *sys.argv[1:]]),
            workers=workers,
            scheduler=scheduler,
            checkpoint_seconds=60 * checkpoint_every,
            mix_versions=mix_versions,
            watch=watcher.step,
        )
        with closing(running):
            for record in running:
                if "failed" in record:
                    console.print(f"failed {record['failed']}: {record['reason']}", style="red", soft_wrap=True)
                else:
                    done.append(record)
                watcher.end(record)
    if not done:
        raise ValueError("every run failed, so there is nothing to report.")
    about, _ = records(folder)
    write_table(folder, done)
    write_text(folder / "report.html", render(about, done))
    if plot is not None:
        save(overview(done), plot)
    arms = summarise(done)
    _print(console, arms)
    for sentence in conclude(arms):
        console.print(f"• {sentence}", highlight=False, soft_wrap=True)
    console.print(f"\n{folder / 'report.html'}  {folder / 'records.csv'}", highlight=False, soft_wrap=True)


def _left_out(skipped: Sequence[dict[str, str]]) -> list[str]:
    """A line for each reason: first the terms of an estimator together, then the estimators of the same terms."""
    terms: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        terms.setdefault((one["estimator"], one["reason"]), []).append(one["term"])
    estimators: dict[tuple[str, str], list[str]] = {}
    for (name, reason), labels in terms.items():
        estimators.setdefault((", ".join(labels), reason), []).append(name)
    return [f"skipped {', '.join(names)} with {labels}: {reason}" for (labels, reason), names in estimators.items()]


def _print(console: Console, arms: Sequence[Arm]) -> None:
    title = "Test images, nats per image, and cosines of the encoder's and decoder's gradients with the exact one"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("arm", no_wrap=True)
    for column in ("discrete ELBO", "gap", "enc", "dec"):
        table.add_column(column, justify="right", no_wrap=True)
    for arm in arms:
        deviation = f" ±{arm.elbo.deviation:.2f}" if arm.elbo.count > 1 else ""
        gradient = (arm.end.encoder.cosine, arm.end.decoder.cosine)
        numbers = (f"{value.mean:.2f}" if value.count else "–" for value in (arm.gap, *gradient))
        table.add_row(arm.label, f"{arm.elbo.mean:.2f}{deviation}", *numbers)
    console.print(table)
