"""Errors for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["unknown"]


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not one of the known ones, with the nearest that is."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {kind} {name!r};{hint} known: {', '.join(names)}")
