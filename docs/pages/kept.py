"""Results that take a while, kept in a folder until the code that they come from changes.

Docstrings and comments do not count: they change no result.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import softhot

__all__ = ["FOLDER", "digest", "kept"]

FOLDER = Path(__file__).parent.parent.parent / "build" / "pages"


def kept(name: str, make: Callable[[], Any], *files: Path, folder: Path = FOLDER) -> Any:
    """What `make` returns, which JSON can hold; from the folder if softhot and the files are as they were then.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> [kept("answer", make, folder=folder) for make in (lambda: 42, lambda: 43)]
        [42, 42]
    """
    place = folder / f"{name}-{digest(*files)}.json"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(make())
        partial = place.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(place)
    return json.loads(place.read_text())


def digest(*files: Path) -> str:
    """A name for the code of softhot, of the files and for the version of torch."""
    found = hashlib.sha256(torch.__version__.encode())
    for file in (*sorted(Path(softhot.__file__).parent.rglob("*.py")), *files):
        found.update(_code(file.read_text()).encode())
    return found.hexdigest()[:16]


class _Undocumented(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


def _code(source: str) -> str:
    return ast.dump(_Undocumented().visit(ast.parse(source)))
