"""The command line: it parses, calls the lab and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_INTERRUPTED = 130
_AGAIN = {"compare": "again", "infer": "again", "optimise": "again", "train": "again with --resume"}
_EXTRA = "the command line needs more than the library: pip install 'softhot[lab]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. Bad input prints one line and gives 2, Ctrl-C one and 130."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _run(given)
    except KeyboardInterrupt:  # while it was imported; later typer returns that status
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        again = _AGAIN.get(next((word for word in given if not word.startswith("-")), ""))
        kept = f"; what is finished is kept: run the command {again} to go on" if again else ""
        print(f"softhot: stopped{kept}", file=sys.stderr)
    return status


def _run(given: list[str]) -> int:
    try:
        import typer

        from softhot.cli import completion

        if completion.ASKED in os.environ:
            return completion.complete()

        from softhot.cli.app import app
    except ModuleNotFoundError as error:
        print(f"softhot: {_EXTRA} (no module {error.name!r})", file=sys.stderr)
        return 2
    if "--install-completion" in given:
        completion.kept()  # the first word need not wait
    try:
        return int(app(args=given or ["--help"], prog_name="softhot", standalone_mode=False) or 0)
    except typer.TyperException as error:
        return _refuse(error.format_message())
    except ValueError as error:
        return _refuse(str(error))


def _refuse(reason: str) -> int:
    print(f"softhot: {' '.join(reason.split())}", file=sys.stderr)
    return 2
