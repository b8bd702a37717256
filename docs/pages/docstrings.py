"""Docstrings as reStructuredText.

They are written for readers of the source: references and attributes are lines, the star of ``*batch`` stands as it
is, and sections are indented. Here lines become lists, stars are escaped, and sections get their markup.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

__all__ = ["converted", "prepared", "setup"]

_STAR = re.compile(r"(?<![\\*\w])\*(?=[a-z_]+[ ,)])")  # of a dimension; emphasis ends with a star
_LITERAL = re.compile(r"(``[^`]+``|`[^`]+`)")
_TITLE = re.compile(r"(Reference|Attribute)s?:$")
_NAMES = re.compile(r"([\w, ]+):")


def prepared(lines: list[str]) -> list[str]:
    """The lines of a docstring, with stars escaped, and with references and attributes as lists.

    Example:
        >>> prepared(["Of shape (*batch, K).", "", "Reference:", "    Maddison (2017),", "    eq. 10."])
        ['Of shape (\\\\*batch, K).', '', '.. rubric:: References', '', '* Maddison (2017),', '  eq. 10.']
    """
    found, section, fresh = [], "", True
    for line in map(_escaped, lines):
        title = _TITLE.match(line)
        if title:
            section, fresh = title[1], True
            found += [f".. rubric:: {section}s", ""]
            continue
        if line and not line.startswith("    "):
            section = ""
        if section and line:
            text = line[4:]
            if section == "Attribute":
                fresh = not text.startswith(" ")
                text = _NAMES.sub(r"**\1**:", text, count=1) if fresh else text.lstrip()
            line = f"{'*' if fresh else ' '} {text}"
            fresh = line.endswith(".")  # a reference is one sentence
        found.append(line)
    return found


def converted(docstring: str) -> str:
    """A whole docstring as reStructuredText."""
    return str(GoogleDocstring(prepared(docstring.splitlines())))


def _escaped(line: str) -> str:
    parts = _LITERAL.split(line)  # what is between backticks stays
    return "".join(part if place % 2 else _STAR.sub(r"\\*", part) for place, part in enumerate(parts))


def _prepare(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    # behind an empty comment a property's first line is not taken for its type, though it may have a colon
    lines[:] = [*(["..", ""] if what == "property" else []), *prepared(lines)]


def _sign(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> Any:
    return signature and signature.replace("<factory>", "..."), returned  # which is no Python


def setup(app: Sphinx) -> dict[str, bool]:
    """Prepare docstrings before their sections are read, and signatures."""
    app.connect("autodoc-process-docstring", _prepare, priority=400)
    app.connect("autodoc-process-signature", _sign)
    return {"parallel_read_safe": True}
