"""Blocks of code without the empty line that a doctest in Markdown ends with."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx

__all__ = ["setup"]


def _trim(app: Sphinx, doctree: nodes.document) -> None:
    for node in doctree.findall(nodes.literal_block):
        node.rawsource = node.astext().rstrip()
        node[:] = [nodes.Text(node.rawsource)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Trim the blocks of every page."""
    app.connect("doctree-read", _trim)
    return {"parallel_read_safe": True}
