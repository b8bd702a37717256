"""Options shared by the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from softhot.estimators import BASELINES, ESTIMATORS
from softhot.kl import ALIASES, TERMS
from softhot.lab.config import LARGER, OPTIMISERS, PRECISIONS, Config
from softhot.problems.data import DATA, MODES

__all__ = [
    "Baseline",
    "BatchSize",
    "Binarise",
    "BudgetEvaluations",
    "BudgetSeconds",
    "Classes",
    "Components",
    "ControlLearningRate",
    "Data",
    "Epochs",
    "Hidden",
    "Latents",
    "LearnedPrior",
    "LearningRate",
    "Optimiser",
    "Out",
    "Precision",
    "PriorTemperature",
    "Samples",
    "Temperature",
    "among",
    "estimator_names",
    "estimators",
    "term_names",
    "terms",
]

estimator_names = ", ".join(ESTIMATORS)
term_names = ", ".join([*TERMS, *ALIASES])

_DIGITS = Config()


def among(known: Iterable[str]) -> Callable[[], list[str]]:
    """What completes one of these names in the shell."""
    names = list(known)
    return lambda: names


estimators, terms = among(ESTIMATORS), among([*TERMS, *ALIASES])


def _sized(text: str, setting: str) -> str:
    digits, other = getattr(_DIGITS, setting), LARGER[setting]
    return f"{text} (digits: {_plain(digits)}; other data: {_plain(other)})"


def _plain(value: float | tuple[int, ...]) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


Data = Annotated[
    str, typer.Option(help=f"Data set ({', '.join(DATA)}), or the path of your own images.", autocompletion=among(DATA))
]
Baseline = Annotated[
    str | None,
    typer.Option(
        help=f"Baseline of the score function: {', '.join(BASELINES)}. (the estimator's own if not given)",
        autocompletion=among(BASELINES),
    ),
]
Binarise = Annotated[
    str, typer.Option(help=f"How grey pixels become binary: {', '.join(MODES)}.", autocompletion=among(MODES))
]
Latents = Annotated[int | None, typer.Option(help=_sized("Number of latent variables.", "latents"))]
Classes = Annotated[int | None, typer.Option(help=_sized("Classes of each.", "classes"))]
Hidden = Annotated[list[int] | None, typer.Option(help=_sized("Widths of the hidden layers.", "hidden"))]
LearnedPrior = Annotated[bool, typer.Option("--learned-prior", help="Learn the prior; it is uniform otherwise.")]
Samples = Annotated[int | None, typer.Option(help="Draws per gradient. (the estimator's own if not given)")]
Temperature = Annotated[float | None, typer.Option(help="Temperature. (the estimator's own if not given)")]
Components = Annotated[int, typer.Option(help="Flows of a mixture of discrete flows.")]
PriorTemperature = Annotated[
    float | None, typer.Option(help="Temperature of the relaxed prior. (the posterior's if not given)")
]
Optimiser = Annotated[str, typer.Option(help=f"Optimiser: {', '.join(OPTIMISERS)}.", autocompletion=among(OPTIMISERS))]
LearningRate = Annotated[float | None, typer.Option(help=_sized("Learning rate.", "learning_rate"))]
ControlLearningRate = Annotated[
    float, typer.Option(help="Learning rate of what an estimator learns: a baseline, a control variate.")
]
BatchSize = Annotated[int, typer.Option(help="Images per step.")]
Epochs = Annotated[int | None, typer.Option(help=_sized("Passes through the training images.", "epochs"))]
BudgetEvaluations = Annotated[
    float | None,
    typer.Option(help="In place of epochs: evaluations of the decoder that a run may take, of one image each."),
]
BudgetSeconds = Annotated[
    float | None, typer.Option(help="In place of epochs: seconds of training; the numbers depend on the machine.")
]
Precision = Annotated[
    str,
    typer.Option(
        help=f"Of the networks' products, half of it faster on a GPU: {', '.join(PRECISIONS)}.",
        autocompletion=among(PRECISIONS),
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder to write to.")]
