"""Completion in the shell, of commands, options and the names that they take.

The commands import torch, which takes longer than a person waits for a word. What they take is therefore kept in a
file, from which commands that only complete are made; it is written anew where the library has changed since.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import typer

import softhot
from softhot.cli.several import Several

__all__ = ["ASKED", "complete", "kept", "table"]

ASKED = "_SOFTHOT_COMPLETE"  # what a shell sets where it asks
_PYTHON: dict[str, Any] = {"flag": bool, "one": str, "many": list[str]}
_TYPER = ("install_completion", "show_completion", "help")  # what every Typer has by itself


def complete() -> int:
    """Answer the shell, which asks by environment variables."""
    app = typer.Typer()
    for name, command in kept().items():
        function = _function(command)
        if name:
            app.command(name, cls=Several)(function)
        else:
            app.callback()(function)
    return int(app(args=[], prog_name="softhot", standalone_mode=False) or 0)


def kept() -> dict[str, Any]:
    """The table that is kept in the user's cache, or a new one."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softhot"
    path, version = folder / "completion.json", _version()
    try:
        found = json.loads(path.read_text())
        if found["version"] == version:
            return dict(found["commands"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or something else is there
    made = table()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = path.with_suffix(f".{os.getpid()}")
        own.write_text(json.dumps({"version": version, "commands": made}))
        own.replace(path)
    except OSError:
        pass  # nothing can be kept here: the next answer takes as long
    return made


def table() -> dict[str, Any]:
    """The commands by name, with their options; those of no command under the empty name."""
    from softhot.cli.app import app

    group: Any = typer.main.get_command(app)
    return {name: _described(command) for name, command in [("", group), *group.commands.items()]}


def _described(command: Any) -> dict[str, Any]:
    context = command.make_context(command.name, [], resilient_parsing=True)
    return {
        "help": inspect.getdoc(command.callback) or "",
        "parameters": [
            {
                "name": one.name,
                "flags": [] if one.param_type_name == "argument" else [*one.opts, *one.secondary_opts],
                "takes": "flag" if getattr(one, "is_flag", False) else "many" if _several(one) else "one",
                "help": one.help or "",
                "values": [item.value for item in one.shell_complete(context, "")],
            }
            for one in command.params
            if one.name not in _TYPER
        ],
    }


def _several(parameter: Any) -> bool:
    return bool(getattr(parameter, "multiple", False)) or parameter.nargs == -1


def _function(command: dict[str, Any]) -> Callable[..., None]:
    """A function that has the parameters of a command, and does nothing."""

    def nothing(**given: Any) -> None:
        pass

    parameters = [
        inspect.Parameter(one["name"], inspect.Parameter.KEYWORD_ONLY, default=_parameter(one), annotation=annotation)
        for one in command["parameters"]
        for annotation in [_PYTHON[one["takes"]]]
    ]
    nothing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    nothing.__annotations__ = {one.name: one.annotation for one in parameters}
    nothing.__doc__ = command["help"]
    return nothing


def _parameter(one: dict[str, Any]) -> Any:
    def values() -> list[str]:
        return list(one["values"])

    if not one["flags"]:
        return typer.Argument(None, help=one["help"], autocompletion=values)
    return typer.Option(None, *one["flags"], help=one["help"], autocompletion=values)


def _version() -> str:
    """What changes with the library's files."""
    files = sorted(Path(softhot.__file__).parent.rglob("*.py"))
    return sha256(repr([(str(path), path.stat().st_mtime_ns) for path in files]).encode()).hexdigest()
