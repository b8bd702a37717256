"""The commands, and options that take several values."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from softhot import __version__
from softhot.cli.certify import certificates
from softhot.cli.compare import PANELS, compare
from softhot.cli.entropy import entropy
from softhot.cli.gradients import gradients
from softhot.cli.infer import infer
from softhot.cli.listing import listing
from softhot.cli.optimise import optimise
from softhot.cli.report import report
from softhot.cli.several import Several
from softhot.cli.train import train

__all__ = ["app"]

app = typer.Typer(
    help="Categorical latent variables: what each KL term and gradient estimator really optimises, and which to use.",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"softhot {__version__}")
        raise typer.Exit
    return wanted


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def _every(version: Version = False) -> None:
    pass


app.command(cls=Several)(entropy)
app.command(cls=Several)(train)
app.command(cls=partial(Several, panels=PANELS))(compare)  # type: ignore[arg-type]  # which is only called
app.command(cls=Several)(gradients)
app.command(cls=Several)(optimise)
app.command(cls=Several)(infer)
app.command(cls=Several)(report)
app.command("certify", cls=Several)(certificates)
app.command("list")(listing)
