"""Commands whose options take several values, and --help in panels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

__all__ = ["Several"]

_NUMBER = re.compile(r"-(\d|\.\d|inf$)")
_OPEN = "softhot.open"  # in a context: the list option that a value more would belong to


class Several(TyperCommand):
    """A command whose list options take several values: ``--seed 1 2`` is ``--seed 1 --seed 2``.

    Arguments:
        panels: of --help, and which options stand in each; the others stand in its own.
    """

    context_class = typer.Context

    def __init__(self, *args: Any, panels: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        panel_of = {name: panel for panel, names in (panels or {}).items() for name in names}
        for one in self.params:
            if isinstance(one, TyperOption) and one.name in panel_of:
                one.rich_help_panel = panel_of[one.name]

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
        rest = super().parse_args(ctx, spread)
        ctx.meta[_OPEN] = current
        return rest

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters; where a word is completed after a list option, no arguments, as it cannot be one."""
        parameters = super().get_params(ctx)
        inside = ctx.resilient_parsing and ctx.meta.get(_OPEN)
        return [one for one in parameters if isinstance(one, TyperOption)] if inside else parameters

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """As any command; but a list option that has values already goes on with more of them."""
        opened = next((one for one in self.params if ctx.meta.get(_OPEN) in one.opts), None)
        if opened is None or incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return opened.shell_complete(ctx, incomplete)
