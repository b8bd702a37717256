"""Pieces of reStructuredText."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import indent

__all__ = ["heading", "listed", "literal", "table"]


def heading(text: str, rule: str = "=") -> str:
    """A heading over a line of a character, which says how deep it is: ``=``, then ``-``.

    Example:
        >>> print(heading("Cost", "-"))
        Cost
        ----
        <BLANKLINE>
    """
    return f"{text}\n{rule * len(text)}\n"


def literal(text: str) -> str:
    """Text as it is, in a box."""
    return f".. code-block:: text\n\n{indent(text, '   ')}\n"


def listed(pages: Iterable[str], caption: str = "") -> str:
    """A table of contents that only the sidebar shows."""
    options = ["   :hidden:", *([f"   :caption: {caption}"] if caption else [])]
    return "\n".join([".. toctree::", *options, "", *(f"   {page}" for page in pages), ""])


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, whose cells are markup; without a head if all headings are empty.

    Example:
        >>> print(table(["name", "cost"], [["``exact``", "27"]]))
        .. list-table::
           :header-rows: 1
        <BLANKLINE>
           * - name
             - cost
           * - ``exact``
             - 27
        <BLANKLINE>
    """
    head = any(headings)
    lines = [".. list-table::", *(["   :header-rows: 1"] if head else []), ""]
    for row in [headings, *rows] if head else rows:
        lines += [f"   {'* -' if not place else '  -'} {cell}".rstrip() for place, cell in enumerate(row)]
    return "\n".join([*lines, ""])
