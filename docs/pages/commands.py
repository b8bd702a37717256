"""A page of the command line, from the commands themselves."""

from __future__ import annotations

from typing import Any

import typer

from pages.docstrings import converted
from pages.markup import heading, table
from softhot.cli.app import app

__all__ = ["commands"]


def commands() -> dict[str, str]:
    """The text of the page by its name."""
    group: Any = typer.main.get_command(app)
    parts = [heading("Command line"), group.help, "", "Without a command there are\n", *_options(group)]
    for name, command in group.commands.items():
        parts += [heading(f"softhot {name}", "-"), converted(command.help), "", *_options(command)]
    return {"commands": "\n".join(parts)}


def _options(command: Any) -> list[str]:
    rows = [(_names(one), _literal_stars(one.help), _default(one)) for one in command.params if one.name != "help"]
    return [table(("option", "what it is", "default"), rows)] if rows else []


def _names(parameter: Any) -> str:
    names = [name for name in parameter.opts if name.startswith("-")] or [parameter.name.upper()]
    return ", ".join(f"``{name}``" for name in names)


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or parameter.param_type_name == "argument" or isinstance(value, bool):
        return ""
    return f"``{' '.join(map(str, value)) if isinstance(value, list | tuple) else value}``"


def _literal_stars(text: str | None) -> str:
    return (text or "").replace("\\", "\\\\").replace("*", "\\*")
