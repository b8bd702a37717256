"""Pictures of measured gradients: bias against variance and cosines at one place, or both along a run."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from softhot.lab.figures.drawing import Figure, floor, lines, logarithmic, panels
from softhot.lab.figures.marks import marks_of
from softhot.lab.gradients.diagnosis import Diagnosis
from softhot.lab.gradients.quality import Quality

__all__ = ["along_figure", "gradient_figure"]


def gradient_figure(found: Sequence[Diagnosis]) -> Figure:
    """The bias of every estimator against its variance, before the sample; its cosines, before and after the sample.

    Bars are two standard errors of the bias, and the middle 90% of the cosines of single draws. A hollow marker on the
    left is a bias that is not told from noise.
    """
    figure = panels("encoder: bias against variance", "cosine of a draw: encoder filled, decoder hollow", 520)
    marks = marks_of(one.estimator for one in found)
    low, least = floor(one.encoder.bias for one in found), floor(one.encoder.variance for one in found)
    for row, one in enumerate(found):
        mark, name, here = marks[one.estimator], html.escape(one.estimator), one.encoder
        hollow = {"color": mark.colour, "size": 11, "line": {"width": 2, "color": mark.colour}}
        common = {"name": name, "legendgroup": name, "mode": "markers", "hoverinfo": "text"}
        figure.add_scatter(
            x=[max(here.bias, low)],
            y=[max(here.variance, least)],
            error_x={"array": [2 * here.bias_se], "thickness": 1, "width": 3},
            marker={**hollow, "symbol": mark.symbol + "-open" * (here.bias_z <= 2)},
            hovertext=[_words(one, here)],
            **common,
        )
        for part, quality in one.parts.items():
            symbol, lift = (mark.symbol, -0.14) if part == "encoder" else (f"{mark.symbol}-open", 0.14)
            figure.add_scatter(
                x=[quality.cosine],
                y=[row + lift],
                error_x={
                    "array": [quality.cosine_high - quality.cosine],
                    "arrayminus": [quality.cosine - quality.cosine_low],
                    "thickness": 1,
                    "width": 3,
                },
                marker={**hollow, "symbol": symbol},
                hovertext=[f"{part}: {_words(one, quality)}"],
                showlegend=False,
                xaxis="x2",
                yaxis="y2",
                **common,
            )
    rows = {"tickvals": [*range(len(found))], "ticktext": [html.escape(one.estimator) for one in found]}
    figure.update_layout(
        xaxis={"title_text": "bias / |g*|", **logarithmic(max(one.encoder.bias, low) for one in found)},
        yaxis={"title_text": "variance / |g*|²", **logarithmic(max(one.encoder.variance, least) for one in found)},
        xaxis2={"title_text": "cosine with g*", "range": [-1.02, 1.02]},
        yaxis2={**rows, "range": [len(found) - 0.5, -0.5], "showticklabels": True, "side": "right"},
    )
    return figure


def along_figure(found: Sequence[tuple[int, Diagnosis]]) -> Figure:
    """Variance and squared bias, and the cosine, by epoch; before the sample."""
    figure = panels("encoder: variance, and squared bias (dots)", "encoder: mean cosine of a draw", 480)
    low = floor(value for _, one in found for value in (one.encoder.variance, one.encoder.bias**2))
    names = list(dict.fromkeys(one.estimator for _, one in found))
    marks = marks_of(names)
    for label in names:
        own = [(epoch, one.encoder) for epoch, one in found if one.estimator == label]
        epochs, mark, name = [epoch for epoch, _ in own], marks[label], html.escape(label)
        line = {"color": mark.colour, "width": 2}
        common = {"x": epochs, "name": name, "legendgroup": name, "marker": {"symbol": mark.symbol, "size": 8}}
        figure.add_scatter(
            y=[max(one.variance, low) for _, one in own],
            error_y={"array": [2 * one.variance_se for _, one in own], "thickness": 1, "width": 3},
            mode="lines+markers",
            line=line,
            **common,
        )
        figure.add_scatter(
            y=[max(one.bias**2, low) for _, one in own],
            mode="lines+markers",
            line={**line, "dash": "dot"},
            showlegend=False,
            **common,
        )
        figure.add_scatter(
            y=[one.cosine for _, one in own],
            error_y={"array": [2 * one.cosine_se for _, one in own], "thickness": 1, "width": 3},
            mode="lines+markers",
            line=line,
            showlegend=False,
            xaxis="x2",
            yaxis="y2",
            **common,
        )
    figure.update_layout(
        xaxis={"title_text": "epoch"},
        yaxis={"title_text": "relative to |g*|²", "type": "log", "dtick": 1, "exponentformat": "power"},
        xaxis2={"title_text": "epoch"},
        yaxis2={"showticklabels": True, "side": "right"},
    )
    return figure


def _words(one: Diagnosis, quality: Quality) -> str:
    of_mean = "lost in noise" if math.isnan(quality.cosine_of_mean) else f"{quality.cosine_of_mean:.2f}"
    return lines(
        one.estimator,
        f"bias {quality.bias:.3f} ± {quality.bias_se:.3f}, variance {quality.variance:.3g} ± {quality.variance_se:.2g}",
        f"cosine {quality.cosine:.2f}, of the mean {of_mean}",
        f"{one.evaluations} evaluations, {1000 * one.seconds:.2g} ms",
    )
