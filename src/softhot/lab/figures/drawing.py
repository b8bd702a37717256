"""Blank Plotly figures in one look, their axes and areas, and how to write a figure to a file.

Backgrounds are transparent, and the ink is visible on white and on black. What changes on a narrow screen is in the
layout's ``meta``, under "narrow" and "wide", as changes that the report's script makes; what can be drawn instead is
there under "choices", and in the ``meta`` of each trace.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from softhot.lab.files import replace, write_text

__all__ = [
    "CLEAR",
    "GRID",
    "INK",
    "Figure",
    "band",
    "blank",
    "by_row",
    "floor",
    "lines",
    "listed",
    "logarithmic",
    "panels",
    "rows",
    "save",
    "short",
    "span",
    "there_and_back",
    "title",
    "writable",
]

Figure = Any  # plotly.graph_objects.Figure, which is imported late

INK, GRID, CLEAR = "#767b84", "rgba(128,128,128,0.25)", "rgba(0,0,0,0)"
SUFFIXES = (".png", ".svg", ".pdf")  # of pictures
ROW = 26  # pixels per row


def blank(height: int, **layout: Any) -> Figure:
    from plotly.graph_objects import Figure as PlotlyFigure

    figure = PlotlyFigure(
        layout={
            "template": "none",
            "height": height,
            "paper_bgcolor": CLEAR,
            "plot_bgcolor": CLEAR,
            "font": {"family": "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif", "size": 13, "color": INK},
            "margin": {"l": 10, "r": 10, "t": 20, "b": 10},
            "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "bgcolor": CLEAR},
            "hoverlabel": {"align": "left"},
            "meta": {"wide": {}, "narrow": {}},
            **layout,
        }
    )
    look = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True, "title_font_size": 13}
    figure.update_xaxes(tickangle=0, **look)
    figure.update_yaxes(**look)
    return figure


def panels(left: str, right: str, height: int) -> Figure:
    """Two panels side by side, one above the other on a narrow screen."""
    side = {"xaxis.domain": [0, 0.47], "xaxis2.domain": [0.53, 1], "yaxis.domain": [0, 1], "yaxis2.domain": [0, 1]}
    stack = {"xaxis.domain": [0, 1], "xaxis2.domain": [0, 1], "yaxis.domain": [0.58, 1], "yaxis2.domain": [0, 0.42]}
    figure = blank(
        height,
        legend={"orientation": "h", "x": 0, "y": 1.07, "yanchor": "bottom", "bgcolor": CLEAR},
        xaxis={"domain": [0, 0.47]},
        xaxis2={"domain": [0.53, 1], "anchor": "y2"},
        yaxis={},
        yaxis2={"anchor": "x2", "showticklabels": False},
        meta={
            "wide": {**side, "height": height, "legend.y": 1.07, "yaxis2.showticklabels": False},
            "narrow": {**stack, "height": 2 * height, "legend.y": 1.04, "yaxis2.showticklabels": True},
        },
    )
    title(figure, left, "")
    title(figure, right, "2")
    return figure


def listed(figure: Figure, count: int, **meta: Any) -> None:
    """Put the legend beside a picture of many lines, and below it on a narrow screen.

    Arguments:
        figure: blank, or blank panels.
        count: how many lines.
        meta: more for the layout's ``meta``.
    """
    height, old = figure.layout.height, figure.layout.meta
    tall = old["narrow"].get("height", height)
    beside = {"legend.orientation": "v", "legend.x": 1.01, "legend.y": 1, "legend.yanchor": "top"}
    below = {"legend.orientation": "h", "legend.x": 0, "legend.y": -0.18 * height / tall, "legend.yanchor": "top"}
    narrow = {**old["narrow"], **below, "height": tall + min(20 * count, 500)}
    figure.layout.meta = {"wide": {**old["wide"], "height": height, **beside}, "narrow": narrow, **meta}
    figure.update_layout(**{key.replace(".", "_"): value for key, value in beside.items()})


def title(figure: Figure, text: str, axis: str) -> None:
    place = {"x": 0.5, "xref": f"x{axis} domain", "y": 1, "yref": f"y{axis} domain", "yanchor": "bottom"}
    figure.add_annotation(text=f"<b>{text}</b>", showarrow=False, **place)


def band(points: Sequence[tuple[float, float, float]], colour: str) -> dict[str, Any]:
    """The area between two curves, given as points of x, low and high."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return {
        "x": there_and_back([x for x, *_ in points]),
        "y": [short(high) for *_, high in points] + [short(low) for _, low, _ in points[::-1]],
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},0.18)",
        "line": {"width": 0},
        "mode": "lines",
        "showlegend": False,
        "hoverinfo": "skip",
    }


def there_and_back(values: Sequence[float]) -> list[float | None]:
    """The x of the outline of a band."""
    return [short(value) for value in (*values, *values[::-1])]


def logarithmic(values: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis for the positive values, with at least one number on it."""
    positive = [value for value in values if 0 < value < math.inf]
    if not positive:
        return {"type": "log"}
    low, high = math.log10(min(positive) / 1.6), math.log10(max(positive) * 1.6)
    steps = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high)) for step in steps]
    return {"type": "log", "range": [short(low), short(high)], "tickvals": ticks}


def floor(values: Iterable[float]) -> float:
    """Where what is zero, or next to it, is drawn on a logarithmic axis: half of the power of ten below the rest."""
    return 0.5 * 10.0 ** math.floor(math.log10(min((value for value in values if value > 1e-4), default=1.0)))


def span(values: Iterable[float], right: float = 0.05) -> list[float | None] | None:
    """From the least to the greatest finite value, with a margin."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    size = max(finite) - min(finite) or 1.0
    return [short(min(finite) - 0.05 * size), short(max(finite) + right * size)]


def rows(names: Sequence[str]) -> dict[str, Any]:
    """An axis with a row for each name, the first on top."""
    return {
        "tickvals": [*range(len(names))],
        "ticktext": [*names],
        "range": [len(names) - 0.5, -0.5],
        "zeroline": False,
        "automargin": True,
        "gridcolor": GRID,
    }


def by_row(names: Sequence[str], title: str) -> Figure:
    """A picture with a row for each name; on a narrow screen the names stand above the rows, inside the picture."""
    height = 150 + ROW * len(names)
    place = {"x": 0, "xref": "x domain", "xanchor": "left", "yshift": 15, "showarrow": False}
    inside = [{"text": name, "y": row, **place} for row, name in enumerate(names)]
    wide = {"yaxis.showticklabels": True, "annotations": [], "height": height, "margin.r": 10}
    narrow = {**wide, "yaxis.showticklabels": False, "annotations": inside, "height": height + 50 + 14 * len(names)}
    narrow |= {"yaxis.range": [len(names) - 0.5, -1], "margin.r": 30}
    wide |= {"yaxis.range": [len(names) - 0.5, -0.5]}
    return blank(height, yaxis=rows(names), xaxis={"title": title}, meta={"wide": wide, "narrow": narrow})


def lines(*texts: str) -> str:
    """Plain texts, one below the other, as Plotly reads them."""
    return "<br>".join(html.escape(text) for text in texts)


def short(value: float) -> float | None:
    """Five digits: nobody sees more, and pages stay small."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure: a page that needs no network (.html), or a picture (.png, .svg, .pdf; these need kaleido).

    Raises:
        ValueError: If the suffix is another, kaleido or its browser is missing or fails, or the file cannot be written.
    """
    path = writable(Path(path))
    if path.suffix == ".html":
        write_text(path, figure.to_html(include_plotlyjs=True))
        return
    picture = _picture(figure, path)

    def write(beside: Path) -> None:
        beside.write_bytes(picture)

    replace(path, write)


def writable(path: Path) -> Path:
    """The path, if a figure can be written to it.

    Raises:
        ValueError: If its suffix is not one of a picture, or its folder does not exist.
    """
    if path.suffix != ".html" and path.suffix not in SUFFIXES:
        raise ValueError(f"cannot write a picture as {path.suffix or path.name!r}; use .html, {', '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")
    return path


def _picture(figure: Figure, path: Path) -> bytes:
    try:
        picture: bytes = figure.to_image(path.suffix[1:], width=figure.layout.width or 1000, scale=2)
    except Exception as error:  # whatever kaleido and the browser that it starts have to say
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"cannot write {path.name!r}: {reason}; pictures need kaleido and a Chrome or Chromium: "
            f"write {path.with_suffix('.html').name} instead."
        ) from error
    return picture
