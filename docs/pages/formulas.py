"""Formulas as MathML, which browsers draw by themselves: no script and no font is fetched."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

__all__ = ["mathml", "setup"]

_LOG = getLogger(__name__)
# what the converter does not know, in words that it knows
_SPELT = ((r"\\arg\\max", r"\\operatorname{arg\\,max}"), (r"\\operatorname\{([^}]*\\,[^}]*)\}", r"\\mathrm{\1}"))
_SPACE = '<mspace width="0.167em"/>'
_FUNCTION = re.compile(r"(?<!<msub>)(?<!<msup>)(?<!<munder>)(<mi>(?:log|exp)</mi>)(?=<m(?!o))")  # log x, not logx


def mathml(latex: str, display: str) -> str:
    """A formula, drawn "inline" or as a "block".

    Raises:
        ValueError: If it has a command that is not known.

    Example:
        >>> mathml("x^2", "inline").count("msup")
        2
    """
    for written, known in _SPELT:
        latex = re.sub(written, known, latex)
    found = _FUNCTION.sub(rf"\1{_SPACE}", convert(latex, display=display))
    unknown = re.search(r">[^<]*(\\\w+)[^<]*<", found)
    if unknown:
        raise ValueError(f"{unknown[1]} of {latex!r} is not known; write it with other commands.")
    return found


def _drawn(node: nodes.math | nodes.math_block, display: str) -> str:
    try:
        return mathml(node.astext(), display)
    except ValueError as error:
        _LOG.warning("%s", error, location=node)
        return ""


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(_drawn(node, "inline"))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{_drawn(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Give Sphinx a renderer of formulas by the name of mathml."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True}
