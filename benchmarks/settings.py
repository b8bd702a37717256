"""Options of the scripts, and what they mean."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.timing import Pace
from softhot.lab.figures.drawing import SUFFIXES
from softhot.lab.files import make_folder

__all__ = ["RESULTS", "TRIES", "Device", "Out", "Picture", "Quick", "Settings", "Threads", "console", "launch"]

TRIES = 2
RESULTS = Path(__file__).parent / "results"

Quick = Annotated[bool, typer.Option("--quick", help="Small shapes, few rounds and draws; torch compiles nothing.")]
Threads = Annotated[int | None, typer.Option(help="Cores to use; all if not given.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Out = Annotated[Path, typer.Option(help="Folder for the CSV file and the picture.")]
Picture = Annotated[str, typer.Option(help="Kind of the picture: html, svg, png or pdf.")]


@dataclass(frozen=True)
class Settings:
    """The options of one run, checked; the process is bound to the cores that it may use.

    Raises:
        ValueError: If an option cannot be had on this machine.
    """

    quick: bool
    threads: int
    device: str
    out: Path
    picture: str

    @classmethod
    def of(cls, quick: bool, threads: int | None, device: str, out: Path, picture: str) -> Settings:
        """From the options as given."""
        if device not in ("cpu", "cuda"):
            raise ValueError(f"--device {device} is neither cpu nor cuda.")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda: torch finds no CUDA device; use --device cpu.")
        if f".{picture}" not in (".html", *SUFFIXES):
            raise ValueError(f"--picture {picture} is not html, svg, png or pdf.")
        return cls(quick, machine.restrict(threads), device, make_folder(out), picture)

    @property
    def machine(self) -> str:
        """The name of what is measured."""
        return machine.name(self.device)

    @property
    def pace(self) -> Pace:
        """How long each case is measured."""
        return Pace(rounds=3, fewest=2, budget=0.2, shortest=0.001) if self.quick else Pace()

    @property
    def tries(self) -> int:
        """How often a case is measured at most, while other processes disturb it."""
        return 1 if self.quick else TRIES

    @property
    def draws(self) -> int:
        """How many draws are held against exact values."""
        return 10_000 if self.quick else 100_000

    def file(self, script: str, suffix: str) -> Path:
        """Where a script writes a file."""
        return self.out / f"{script}-{self.device}.{suffix}"


def console() -> Console:
    """Where to print: as wide as the terminal, and wide enough for the tables if there is none."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def launch(main: Callable[..., None]) -> None:
    """Run a script; bad options print one line and give status 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
