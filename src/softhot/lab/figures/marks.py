"""Marks: an estimator has one colour and one marker in all pictures of the same arms."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from softhot.lab.study.summary import Arm

__all__ = ["COLOURS", "DASHES", "MARKERS", "Mark", "marks", "marks_of", "points"]

# apart for normal vision and for the three kinds of colour blindness, and visible on white and on black
COLOURS = ("#855cb7", "#ea9113", "#2db6c4", "#ce3820", "#5159fd", "#92a566", "#a55771")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = {
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "triangle-up": "▲",
    "triangle-down": "▼",
    "cross": "✚",
    "x": "✖",
    "star": "★",
    "pentagon": "⬟",
}


@dataclass(frozen=True)
class Mark:
    """How an estimator is drawn: a colour, Plotly's name of a marker, and a character that looks like it."""

    colour: str
    symbol: str
    glyph: str


def marks(arms: Iterable[Arm]) -> dict[str, Mark]:
    """The mark of every estimator, the same in all pictures of the same arms."""
    return marks_of(arm.estimator for arm in arms)


def marks_of(estimators: Iterable[str]) -> dict[str, Mark]:
    """The mark of every name."""
    names = sorted(set(estimators))
    cycle = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS.items()), strict=False)
    return {name: Mark(colour, *marker) for name, (colour, marker) in zip(names, cycle, strict=False)}


def points(name: str, mark: Mark, axis: str = "", *, legend: bool = True) -> dict[str, Any]:
    """The look of the points of an estimator, for Plotly's scatter, on the axes "" or "2"; bars are larger."""
    bar = mark.symbol.startswith("line")
    outline = {"width": 3 if bar else 1.5, "color": mark.colour} if "open" in mark.symbol else {"width": 0}
    return {
        "name": html.escape(name),
        "legendgroup": name,
        "showlegend": legend,
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
        "mode": "markers",
        "marker": {"color": mark.colour, "symbol": mark.symbol, "size": 14 if bar else 10, "line": outline},
        "hoverinfo": "text",
    }
