"""The commands, and options that take several values."""

from __future__ import annotations

import typer

from softhot.cli.certify import certificates
from softhot.cli.compare import PANELS, compare
from softhot.cli.entropy import entropy
from softhot.cli.gradients import gradients
from softhot.cli.infer import infer
from softhot.cli.optimise import optimise
from softhot.cli.options import Several, panelled
from softhot.cli.train import train

__all__ = ["app"]

app = typer.Typer(
    help="Categorical latent variables: what each KL term and gradient estimator really optimises, and which to use.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(cls=Several)(entropy)
app.command(cls=Several)(train)
app.command(cls=panelled(PANELS))(compare)
app.command(cls=Several)(gradients)
app.command(cls=Several)(optimise)
app.command(cls=Several)(infer)
app.command("certify", cls=Several)(certificates)
