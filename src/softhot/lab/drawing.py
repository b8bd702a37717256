"""Blank Plotly figures in one look, and how to write a figure to a file.

Backgrounds are transparent, and the ink is visible on white and on black. What changes on a narrow screen is in the
layout's ``meta``, under "narrow" and "wide", as changes that the report's script makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softhot.lab.files import replace, write_text

__all__ = ["CLEAR", "GRID", "INK", "Figure", "blank", "panels", "save", "title", "writable"]

Figure = Any  # plotly.graph_objects.Figure, which is imported late

INK, GRID, CLEAR = "#767b84", "rgba(128,128,128,0.25)", "rgba(0,0,0,0)"
PICTURES = (".png", ".svg", ".pdf")


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


def title(figure: Figure, text: str, axis: str) -> None:
    place = {"x": 0.5, "xref": f"x{axis} domain", "y": 1, "yref": f"y{axis} domain", "yanchor": "bottom"}
    figure.add_annotation(text=f"<b>{text}</b>", showarrow=False, **place)


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
    if path.suffix != ".html" and path.suffix not in PICTURES:
        raise ValueError(f"cannot write a picture as {path.suffix or path.name!r}; use .html, {', '.join(PICTURES)}.")
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
