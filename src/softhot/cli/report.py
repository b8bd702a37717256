"""``softhot report``: the page of a study or a run, made again from what its folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from softhot.lab.files import write_text
from softhot.lab.report.page import render
from softhot.lab.study.archive import read

__all__ = ["report"]


def report(
    folder: Annotated[Path, typer.Argument(help="What softhot compare or softhot train wrote to.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="File to write. (report.html in the folder if not given)")] = None,
) -> None:
    """Render the report of a study, finished or half finished, or of a single run."""
    study, records = read(folder)
    console = Console()
    if study.get("damaged"):
        console.print(f"left out, broken: {', '.join(study['damaged'])}", style="red", highlight=False, soft_wrap=True)
    path = out or folder / "report.html"
    write_text(path, render(study, records))
    console.print(f"{len(records)} run(s): {path}", highlight=False, soft_wrap=True)
