"""``softhot train``: one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from softhot.cli import options
from softhot.lab.config import Config
from softhot.lab.single import Session
from softhot.lab.training import Epoch

__all__ = ["train"]


def train(
    data: options.Data = "digits",
    binarise: options.Binarise = "threshold",
    estimator: Annotated[str, typer.Option(help=f"Gradient estimator: {options.estimator_names}.")] = "gumbel-softmax",
    samples: Annotated[int | None, typer.Option(help="Draws per gradient. (the estimator's own if not given)")] = None,
    baseline: options.Baseline = None,
    components: options.Components = 8,
    term: Annotated[str, typer.Option(help=f"KL term: {options.term_names}.")] = "categorical",
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
    seed: Annotated[int, typer.Option(help="Seed of weights, order and noise.")] = 0,
    out: options.Out = None,
    keep_every: Annotated[
        int | None, typer.Option(help="Epochs between checkpoints that are kept, for softhot gradients --run.")
    ] = None,
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
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
    )
    if keep_every is not None and keep_every < 1:
        raise ValueError(f"--keep-every {keep_every} keeps nothing; use --keep-every 1 or more, or leave it out.")
    folder = out or Path("results") / f"train-{Path(data).name}-{config.estimator}-{config.term}-{seed}"
    session = Session.start(config, folder, resume=resume)
    console = Console()
    bounds = config.objective(config.temperature).bounds
    console.print(f"{config.arm}: the objective bounds {bounds or 'nothing'}", highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=config.epochs, completed=session.run.epoch)

        def watch(epoch: Epoch) -> None:
            text = f"objective {epoch.objective:8.3f}  discrete ELBO (valid) {epoch.valid_elbo:8.3f}"
            progress.update(bar, completed=epoch.epoch, description=text)

        scores = session.train(watch, keep_every=keep_every)
    exact = "" if scores.log_likelihood is None else f", exact log-likelihood {scores.log_likelihood:.3f}"
    console.print(
        f"test, nats per image: objective {scores.objective:.3f}, discrete ELBO {scores.elbo:.3f}, "
        f"IWAE-{scores.iwae_samples} {scores.iwae:.3f}{exact}",
        highlight=False,
        soft_wrap=True,
    )
    grey = "; grey pixels have no log-likelihood: these are cross-entropies" if session.run.model.grey else ""
    console.print(f"data {data}, binarised by {binarise!r}{grey}; written to {folder}", highlight=False, soft_wrap=True)
