"""Commands whose options take several values, and --help in panels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

__all__ = ["Several", "panelled"]

_NUMBER = re.compile(r"-(\d|\.\d|inf$)")
_OPEN = "softhot.open"  # in a context: the list option that a value more would belong to


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
