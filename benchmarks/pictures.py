"""Pictures of what things cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import OURS, Row
from softhot.lab.figures.drawing import Figure, panels, save
from softhot.lab.figures.marks import COLOURS, MARKERS

__all__ = ["costs", "errors", "save_picture", "steps"]


def costs(rows: Sequence[Row]) -> Figure:
    """Nanoseconds per element of every contender, against the number of classes and against the number of rows."""
    swept = [row for row in rows if row["series"] != "shapes"]
    fixed = {row["series"]: row for row in swept}
    left = f"{fixed['classes']['rows']} rows, by classes"
    right = f"{fixed['rows']['classes']} classes, by rows"
    figure = panels(left, right, 460)
    for name, mark in _marks(row["contender"] for row in swept).items():
        for axis, series in (("", "classes"), ("2", "rows")):
            own = [row for row in swept if row["contender"] == name and row["series"] == series]
            points = [(row[series], row["ns_per_element"]) for row in own]
            figure.add_scatter(**_line(points, axis), **mark, showlegend=not axis)
    figure.update_yaxes(type="log", dtick=1, matches="y", exponentformat="SI")
    figure.update_xaxes(type="log", dtick=1, exponentformat="SI")
    task = f"{swept[0]['task']}, {swept[0]['direction']}"
    figure.update_layout(yaxis_title_text=f"ns per element: {task}", xaxis_title_text="classes")
    figure.update_layout(xaxis2_title_text="rows")
    return figure


def errors(rows: Sequence[Row]) -> Figure:
    """The error of every way to a value, against the time that it takes."""
    left, right = dict.fromkeys(row["quantity"] for row in rows)
    figure = panels(left, right, 460)
    for name, mark in _marks(row["contender"] for row in rows).items():
        for axis, quantity in (("", left), ("2", right)):
            own = [row for row in rows if row["contender"] == name and row["quantity"] == quantity]
            points = [(row["seconds"], row["standard_error"] or row["error"]) for row in own]
            figure.add_scatter(**_line(points, axis), **mark, showlegend=not axis)
    figure.update_xaxes(type="log", dtick=1, title_text="seconds", exponentformat="none")
    figure.update_yaxes(type="log", dtick=2, matches="y", exponentformat="e")
    figure.update_layout(yaxis_title_text="error in nats; Monte Carlo: standard error")
    return figure


def steps(rows: Sequence[Row]) -> Figure:
    """The time of every contender's training step, in that of softhot, with its quartiles; an estimator in a panel."""
    left, right = dict.fromkeys(row["estimator"] for row in rows)
    shown = [row for row in rows if row["task"] != "parts" and row["contender"] != OURS]
    figure = panels(left, right, 460)
    for name, mark in _marks(row["contender"] for row in shown).items():
        for axis, estimator in (("", left), ("2", right)):
            own = [row for row in shown if row["contender"] == name and row["estimator"] == estimator]
            points = [(f"{row['batch']}<br>{row['latents']} × {row['classes']}", row["ratio"]) for row in own]
            spread = {
                "array": [row["ratio_high"] - row["ratio"] for row in own],
                "arrayminus": [row["ratio"] - row["ratio_low"] for row in own],
            }
            figure.add_scatter(**_line(points, axis), **mark, showlegend=bool(own), error_y=spread)
    figure.update_xaxes(title_text="batch, latent variables × classes", type="category")
    figure.update_yaxes(matches="y", rangemode="tozero")
    figure.update_layout(yaxis_title_text=f"time of a step, in that of {OURS}")
    return figure


def save_picture(figure: Figure, path: Path) -> str:
    """Write a figure, as a page if there is no browser that makes pictures; returns what there is to say."""
    try:
        save(figure, path)
    except ValueError as error:
        if path.suffix == ".html":
            raise
        page = path.with_suffix(".html")
        save(figure, page)
        return f"{error}\nwrote {page}"
    return f"wrote {path}"


def _marks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    cycle = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False)
    return {
        name: {"name": name, "legendgroup": name, "line_color": colour, "marker": {"symbol": symbol, "size": 8}}
        for name, (colour, symbol) in zip(dict.fromkeys(names), cycle, strict=False)
    }


def _line(points: Sequence[tuple[str | float, float]], axis: str) -> dict[str, Any]:
    x, y = zip(*points, strict=True) if points else ((), ())
    return {"x": x, "y": y, "mode": "lines+markers", "xaxis": f"x{axis}", "yaxis": f"y{axis}"}
