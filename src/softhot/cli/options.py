"""Options shared by the commands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

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
    "Several",
    "Temperature",
    "estimator_names",
    "panelled",
    "term_names",
]

estimator_names = ", ".join(ESTIMATORS)
term_names = ", ".join([*TERMS, *ALIASES])

_DIGITS = Config()


def _sized(text: str, setting: str) -> str:
    digits, other = getattr(_DIGITS, setting), LARGER[setting]
    return f"{text} (digits: {_plain(digits)}; other data: {_plain(other)})"


def _plain(value: float | tuple[int, ...]) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


Data = Annotated[str, typer.Option(help=f"Data set ({', '.join(DATA)}), or the path of your own images.")]
Baseline = Annotated[
    str | None,
    typer.Option(help=f"Baseline of the score function: {', '.join(BASELINES)}. (the estimator's own if not given)"),
]
Binarise = Annotated[str, typer.Option(help=f"How grey pixels become binary: {', '.join(MODES)}.")]
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
Optimiser = Annotated[str, typer.Option(help=f"Optimiser: {', '.join(OPTIMISERS)}.")]
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
    str, typer.Option(help=f"Of the networks' products, half of it faster on a GPU: {', '.join(PRECISIONS)}.")
]
Out = Annotated[Path | None, typer.Option(help="Folder to write to.")]

_NUMBER = re.compile(r"-(\d|\.\d|inf$)")


class Several(TyperCommand):
    """A command whose list options take several values: ``--seed 1 2`` is ``--seed 1 --seed 2``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the name of a list option before each of its values."""
        lists = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        spread: list[str] = []
        current: str | None = None
        first = False
        for argument in args:
            if argument.startswith("-") and not _NUMBER.match(argument):
                current, first = (argument, True) if argument in lists else (None, False)
                spread.append(argument)
                continue
            if current and not first:
                spread.append(current)
            first = False
            spread.append(argument)
        return super().parse_args(ctx, spread)


def panelled(panels: Mapping[str, Sequence[str]]) -> type[Several]:
    """A command like :class:`Several` whose --help shows these parameters in panels of these names."""
    panel_of = {name: panel for panel, names in panels.items() for name in names}

    class Panelled(Several):
        context_class = typer.Context

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for one in self.params:
                if isinstance(one, TyperOption):
                    one.rich_help_panel = panel_of.get(str(one.name))

    return Panelled
