"""The command line: it parses, calls the lab and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_INTERRUPTED = 130
_STOPPED = "stopped; what is finished is kept: run the command again to go on (train: with --resume)"
_EXTRA = "the command line needs more than the library: pip install 'softhot[lab]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. Bad input prints one line and gives 2."""
    try:
        import typer

        from softhot.cli import completion

        if completion.ASKED in os.environ:
            return completion.complete()

        from softhot.cli.app import app
    except ModuleNotFoundError as error:
        print(f"softhot: {_EXTRA} (no module {error.name!r})", file=sys.stderr)
        return 2
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--install-completion" in given:
        completion.kept()  # the first word need not wait
    try:
        status = app(args=given or ["--help"], prog_name="softhot", standalone_mode=False)
    except typer.TyperException as error:
        return _refuse(error.format_message())
    except ValueError as error:
        return _refuse(str(error))
    if status == _INTERRUPTED:  # typer's word for Ctrl-C
        print(f"softhot: {_STOPPED}", file=sys.stderr)
    return int(status or 0)


def _refuse(reason: str) -> int:
    print(f"softhot: {' '.join(reason.split())}", file=sys.stderr)
    return 2
