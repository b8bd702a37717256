"""``softhot train``: one model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from softhot.cli import options
from softhot.cli.destination import basename, destination
from softhot.lab.config import Config
from softhot.lab.training.devices import ACCELERATORS, Devices, Process
from softhot.lab.training.loop import Epoch
from softhot.lab.training.single import MINUTES, Session
from softhot.lab.training.tensorboard import Events

__all__ = ["train"]


def train(
    data: options.Data = "digits",
    binarise: options.Binarise = "threshold",
    estimator: Annotated[
        str, typer.Option(help=f"Gradient estimator: {options.estimator_names}.", autocompletion=options.estimators)
    ] = "gumbel-softmax",
    samples: options.Samples = None,
    baseline: options.Baseline = None,
    components: options.Components = 8,
    term: Annotated[
        str, typer.Option(help=f"KL term: {options.term_names}.", autocompletion=options.terms)
    ] = "categorical",
    temperature: Annotated[float, typer.Option(help="Temperature of the relaxed variable.")] = 1.0,
    final_temperature: Annotated[
        float | None, typer.Option(help="What it is annealed to. (constant if not given)")
    ] = None,
    schedule: Annotated[str, typer.Option(help="How it is annealed: exponential, linear.")] = "exponential",
    prior_temperature: options.PriorTemperature = None,
    latents: options.Latents = None,
    classes: options.Classes = None,
    hidden: options.Hidden = None,
    learned_prior: options.LearnedPrior = False,
    optimiser: options.Optimiser = "adam",
    learning_rate: options.LearningRate = None,
    control_learning_rate: options.ControlLearningRate = 3e-2,
    batch_size: options.BatchSize = 100,
    epochs: options.Epochs = None,
    precision: options.Precision = "32",
    devices: Annotated[int, typer.Option(help="Devices, each with its share of every batch.")] = 1,
    accelerator: Annotated[
        str,
        typer.Option(help=f"What a device is: {', '.join(ACCELERATORS)}.", autocompletion=options.among(ACCELERATORS)),
    ] = "cpu",
    accumulate: Annotated[int, typer.Option(help="Parts that a device computes its share in, to save memory.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and noise.")] = 0,
    out: options.Out = None,
    keep_every: Annotated[
        int | None, typer.Option(help="Epochs between checkpoints that are kept, for softhot gradients --run.")
    ] = None,
    checkpoint_every: Annotated[
        float, typer.Option(help="Minutes between checkpoints within an epoch; every epoch ends with one.")
    ] = MINUTES,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's event file of curves and pictures as well.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Train one categorical VAE, and write its metrics, checkpoint and pictures."""
    config = Config.for_data(
        data,
        binarise=binarise,
        estimator=estimator,
        samples=samples,
        baseline=baseline,
        components=components,
        term=term,
        temperature=temperature,
        final_temperature=final_temperature,
        schedule=schedule,
        prior_temperature=prior_temperature,
        latents=latents,
        classes=classes,
        hidden=hidden,
        learned_prior=learned_prior,
        optimiser=optimiser,
        learning_rate=learning_rate,
        control_learning_rate=control_learning_rate,
        precision=precision,
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
    )
    if keep_every is not None and keep_every < 1:
        raise ValueError(f"--keep-every {keep_every} keeps nothing; use --keep-every 1 or more, or leave it out.")
    if not checkpoint_every >= 0:
        raise ValueError(f"--checkpoint-every {checkpoint_every:g} is no time; use --checkpoint-every 5, for example.")
    work = partial(
        _fit,
        config,
        destination(out, "train", basename(data), config.estimator, config.term, seed),
        resume=resume,
        keep_every=keep_every,
        checkpoint_every=checkpoint_every,
        tensorboard=tensorboard,
    )
    chosen = Devices(devices, accelerator, accumulate)
    if chosen == Devices():
        work(None)
    else:
        chosen.launch(work)


def _fit(
    config: Config,
    folder: Path,
    process: Process | None,
    *,
    resume: bool,
    keep_every: int | None,
    checkpoint_every: float,
    tensorboard: bool,
) -> None:
    events = Events(folder) if tensorboard else None
    session = Session.start(config, folder, resume=resume, process=process)
    if process is not None and not process.leads:
        return process.follow(session.run)
    console = Console()
    bounds = config.objective(config.temperature).bounds
    console.print(f"{config.arm}: the objective bounds {bounds or 'nothing'}", highlight=False)
    if events is not None:
        events.start(session.rows)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=session.run.steps, completed=session.run.step)

        def pause() -> None:
            progress.update(bar, completed=session.run.step)

        def watch(epoch: Epoch) -> None:
            text = f"epoch {epoch.epoch}: objective {epoch.objective:.3f}, discrete ELBO (valid) {epoch.valid_elbo:.3f}"
            progress.update(bar, completed=session.run.step, description=text)
            if events is not None:
                events.add(epoch)

        scores = session.train(watch, pause=pause, keep_every=keep_every, checkpoint_every=checkpoint_every)
    if events is not None:
        events.finish()
    exact = "" if scores.log_likelihood is None else f", exact log-likelihood {scores.log_likelihood:.3f}"
    console.print(
        f"test, nats per image: objective {scores.objective:.3f}, discrete ELBO {scores.elbo:.3f}, "
        f"IWAE-{scores.iwae_samples} {scores.iwae:.3f}{exact}",
        highlight=False,
        soft_wrap=True,
    )
    grey = "; grey pixels have no log-likelihood: these are cross-entropies" if session.run.model.grey else ""
    console.print(
        f"data {config.data}, binarised by {config.binarise!r}{grey}; written to {folder}",
        highlight=False,
        soft_wrap=True,
    )
