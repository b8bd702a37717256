"""The pictures of a study.

An estimator has one colour and one marker in all of them; what is known of an arm beyond that is in the hover text.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softhot.lab.drawing import GRID, INK, Figure, blank, panels, title
from softhot.lab.summary import Arm, Gradient, Spread, summarise

__all__ = [
    "COLOURS",
    "DASHES",
    "Mark",
    "band",
    "cost",
    "curves",
    "decoder",
    "encoder",
    "gap",
    "logarithmic",
    "marks",
    "marks_of",
    "overview",
]

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
ROW = 26  # pixels per arm


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


def gap(arms: Sequence[Arm]) -> Figure:
    """What was optimised beside the discrete ELBO of the same model, arm by arm."""
    shown = [arm for arm in arms if arm.elbo.count]
    figure = _by_row(_labels(shown), "nats per image")
    _dumbbells(figure, shown, marks(arms))
    return figure


def encoder(arms: Sequence[Arm]) -> Figure:
    """The bias of the encoder's gradient against its variance, before and after training."""
    figure = panels("fresh weights, shared by the arms", "after training", 460)
    stages = [
        [(arm, part.encoder) for arm in arms if (part := getattr(arm, stage)).encoder.bias.count] for stage in _STAGES
    ]
    gradients = [gradient for stage in stages for _, gradient in stage]
    low = floor(gradient.bias.mean for gradient in gradients), floor(gradient.variance.mean for gradient in gradients)
    for name, mark in marks(arms).items():
        for axis, stage in zip(("", "2"), stages, strict=True):
            own = [(arm, gradient) for arm, gradient in stage if arm.estimator == name]
            points = _points(name, mark, axis, legend=not axis)
            symbols = [mark.symbol + "-open" * gradient.unbiased for _, gradient in own]
            points["marker"] |= {"symbol": symbols, "line": {"width": 1.5, "color": mark.colour}}
            figure.add_scatter(
                x=[_short(max(gradient.bias.mean, low[0])) for _, gradient in own],
                y=[_short(max(gradient.variance.mean, low[1])) for _, gradient in own],
                hovertext=[_lines(arm.label, *_quality(gradient)) for arm, gradient in own],
                **points,
            )
    biases = logarithmic(max(gradient.bias.mean, low[0]) for gradient in gradients)
    variances = logarithmic(max(gradient.variance.mean, low[1]) for gradient in gradients)
    figure.update_xaxes(title_text="bias / |g*|", exponentformat="none", **biases)
    figure.update_yaxes(exponentformat="none", matches="y", **variances)
    figure.update_layout(yaxis_title_text="variance / |g*|²")
    return figure


def decoder(arms: Sequence[Arm]) -> Figure:
    """The bias of the decoder's gradient after training: of arms with hard samples, then of those with relaxed ones."""
    known = sorted((arm for arm in arms if arm.end.decoder.bias.count), key=lambda arm: arm.end.decoder.bias.mean)
    lines: dict[str, Arm | None] = {}
    for sample, name in (("hard", "hard"), ("soft", "relaxed")):
        group = {html.escape(arm.label): arm for arm in known if arm.sample == sample}
        lines |= {f"<b>{name} samples</b>": None, **group} if group else {}
    ends = [arm.end.decoder.bias.mean + side * arm.end.decoder.bias_se for arm in known for side in (-2, 2)]
    figure = _by_row([*lines], "bias / |g*|, ± 2 standard errors")
    figure.update_xaxes(range=_range(ends))
    for name, mark in marks(arms).items():
        own = [(row, arm) for row, arm in enumerate(lines.values()) if arm and arm.estimator == name]
        figure.add_scatter(
            x=[_short(arm.end.decoder.bias.mean) for _, arm in own],
            y=[row for row, _ in own],
            error_x={"array": [_short(2 * arm.end.decoder.bias_se) for _, arm in own], "thickness": 1.5, "width": 4},
            hovertext=[_lines(arm.label, *_quality(arm.end.decoder)) for _, arm in own],
            **_points(name, mark),
        )
    return figure


def curves(arms: Sequence[Arm]) -> Figure:
    """The discrete ELBO of the validation images by epoch: of the best arm of each estimator, others on request."""
    shown = [arm for arm in arms if any(point.valid_elbo.count for point in arm.curve)]
    wide = {"legend.orientation": "v", "legend.x": 1.01, "legend.y": 1, "legend.yanchor": "top", "height": 480}
    below = {"legend.orientation": "h", "legend.x": 0, "legend.y": -0.18, "legend.yanchor": "top"}
    narrow = {**below, "height": min(420 + 20 * len(shown), 1000)}
    figure = blank(
        480, xaxis={"title": "epoch"}, yaxis={"title": "nats per image"}, meta={"wide": wide, "narrow": narrow}
    )
    figure.update_layout(legend_yanchor="top", legend_x=1.01, legend_y=1, legend_orientation="v")
    names = marks(arms)
    seen: dict[str, int] = {}
    for arm in shown:
        mark, order = names[arm.estimator], seen.setdefault(arm.estimator, 0)
        seen[arm.estimator] += 1
        points = [point for point in arm.curve if point.valid_elbo.count]
        common = {"legendgroup": arm.label, "visible": True if order == 0 else "legendonly"}
        if any(point.valid_elbo.count > 1 for point in points):
            spreads = [(point.epoch, point.valid_elbo.mean, point.valid_elbo.deviation) for point in points]
            known = [(epoch, mean - sd, mean + sd) for epoch, mean, sd in spreads if math.isfinite(sd)]
            figure.add_scatter(**band(known, mark.colour), **common)
        figure.add_scatter(
            x=[point.epoch for point in points],
            y=[_short(point.valid_elbo.mean) for point in points],
            name=html.escape(arm.label),
            line={"color": mark.colour, "width": 2, "dash": DASHES[order % len(DASHES)]},
            hovertemplate="%{y:.2f} at epoch %{x}<extra>%{fullData.name}</extra>",
            mode="lines" if len(points) > 1 else "markers",
            **common,
        )
    late = (point.valid_elbo.mean for arm in shown for point in arm.curve[len(arm.curve) // 4 :])
    figure.update_yaxes(range=_range(late))
    return figure


def cost(arms: Sequence[Arm]) -> Figure:
    """The discrete ELBO against what training cost."""
    figure = panels("by decoder evaluations", "by time", 420)
    measures: dict[str, Callable[[Arm], Spread]] = {"": lambda arm: arm.evaluations, "2": lambda arm: arm.seconds}
    for name, mark in marks(arms).items():
        for axis, measure in measures.items():
            own = [arm for arm in arms if arm.estimator == name and arm.elbo.count and measure(arm).mean > 0]
            figure.add_scatter(
                x=[_short(measure(arm).mean) for arm in own],
                y=[_short(arm.elbo.mean) for arm in own],
                error_y={"array": [_short(arm.elbo.deviation) for arm in own], "thickness": 1, "width": 3},
                hovertext=[
                    _lines(
                        arm.label, *_scores(arm), f"{arm.evaluations.mean:,.0f} evaluations, {arm.seconds.mean:.1f} s"
                    )
                    for arm in own
                ],
                **_points(name, mark, axis, legend=not axis),
            )
    evaluations = logarithmic(arm.evaluations.mean for arm in arms if arm.elbo.count)
    seconds = logarithmic(arm.seconds.mean for arm in arms if arm.elbo.count)
    figure.update_yaxes(matches="y")
    figure.update_layout(yaxis_title_text="discrete ELBO, nats")
    figure.update_layout(xaxis={"title_text": "decoder evaluations", "exponentformat": "SI", **evaluations})
    figure.update_layout(xaxis2={"title_text": "seconds", **seconds})
    return figure


def overview(records: Sequence[Mapping[str, Any]], *, most: int = 16) -> Figure:
    """One picture of a study: the gap of the best arms, and the cosine of every estimator's gradient.

    Arguments:
        records: of a study.
        most: the number of arms in the left panel.
    """
    arms = summarise(records)
    shown, names = [arm for arm in arms if arm.elbo.count][:most], marks(arms)
    finished = "" if len(shown) == len(arms) else f", best {len(shown)} of {len(arms)} arms"
    cosines = {arm.estimator for arm in arms for stage in _STAGES if getattr(arm, stage).encoder.cosine.count}
    measured = [name for name in names if name in cosines]  # a mixture of flows has no gradient to be held against
    figure = blank(
        600,
        width=1200,
        title={"text": "What is optimised, what it is worth, and how good its gradient is", "x": 0.5, "y": 0.97},
        margin={"l": 10, "r": 20, "t": 80, "b": 130},
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": 0.01, "yanchor": "bottom", "yref": "container"},
        xaxis={"title": "nats per image", "domain": [0, 0.54]},
        yaxis=_rows(_labels(shown)),
        xaxis2={"title": "mean cosine with the true gradient", "domain": [0.73, 1], "anchor": "y2", "gridcolor": GRID},
        yaxis2={**_rows([html.escape(name) for name in measured]), "anchor": "x2"},
    )
    title(figure, f"objective and discrete ELBO{finished}", "")
    title(figure, "encoder: fresh ○, trained ●", "2")
    _dumbbells(figure, shown, names, legend=False)
    for row, name in enumerate(measured):
        own, mark = [arm for arm in arms if arm.estimator == name], names[name]
        for stage, suffix, shift in zip(_STAGES, ("-open", ""), (-0.15, 0.15), strict=True):
            values = [getattr(arm, stage).encoder.cosine.mean for arm in own]
            look = _points(name, Mark(mark.colour, mark.symbol + suffix, mark.glyph), "2", legend=not suffix)
            labels = [_lines(arm.label, f"cosine {value:.2f}") for arm, value in zip(own, values, strict=True)]
            figure.add_scatter(x=[*map(_short, values)], y=[row + shift] * len(own), hovertext=labels, **look)
    return figure


_STAGES = ("start", "end")


def _rows(names: Sequence[str]) -> dict[str, Any]:
    """An axis with a row for each name, the first on top."""
    return {
        "tickvals": [*range(len(names))],
        "ticktext": [*names],
        "range": [len(names) - 0.5, -0.5],
        "zeroline": False,
        "automargin": True,
        "gridcolor": GRID,
    }


def _by_row(names: Sequence[str], title: str) -> Figure:
    """A picture with a row for each name; on a narrow screen the names stand above the rows, inside the picture."""
    height = 150 + ROW * len(names)
    place = {"x": 0, "xref": "x domain", "xanchor": "left", "yshift": 15, "showarrow": False}
    inside = [{"text": name, "y": row, **place} for row, name in enumerate(names)]
    wide = {"yaxis.showticklabels": True, "annotations": [], "height": height, "margin.r": 10}
    narrow = {**wide, "yaxis.showticklabels": False, "annotations": inside, "height": height + 50 + 14 * len(names)}
    narrow |= {"yaxis.range": [len(names) - 0.5, -1], "margin.r": 30}
    wide |= {"yaxis.range": [len(names) - 0.5, -0.5]}
    return blank(height, yaxis=_rows(names), xaxis={"title": title}, meta={"wide": wide, "narrow": narrow})


def _range(values: Iterable[float], right: float = 0.05) -> list[float | None] | None:
    """From the least to the greatest finite value, with a margin."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    size = max(finite) - min(finite) or 1.0
    return [_short(min(finite) - 0.05 * size), _short(max(finite) + right * size)]


def logarithmic(values: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis for the positive values, with at least one number on it."""
    positive = [value for value in values if 0 < value < math.inf]
    if not positive:
        return {"type": "log"}
    low, high = math.log10(min(positive) / 1.6), math.log10(max(positive) * 1.6)
    steps = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high)) for step in steps]
    return {"type": "log", "range": [_short(low), _short(high)], "tickvals": ticks}


def _dumbbells(figure: Figure, arms: Sequence[Arm], names: Mapping[str, Mark], *, legend: bool = True) -> None:
    rows = {arm.label: row for row, arm in enumerate(arms)}
    for over, line in ((True, {"width": 4}), (False, {"width": 1.5, "dash": "dot"})):
        for name, mark in names.items():
            own = [arm for arm in arms if arm.estimator == name and arm.gap.count and arm.overstates is over]
            figure.add_scatter(
                x=[x for arm in own for x in (_short(arm.elbo.mean), _short(arm.objective.mean), None)],
                y=[y for arm in own for y in (rows[arm.label], rows[arm.label], None)],
                **{"mode": "lines", "line": {"color": mark.colour, **line}, "legendgroup": name},
                **{"showlegend": False, "hoverinfo": "skip"},
            )
    for name, mark in names.items():
        own = [arm for arm in arms if arm.estimator == name]
        common = {"y": [rows[arm.label] for arm in own], "hovertext": [_lines(arm.label, *_scores(arm)) for arm in own]}
        text = [f" +{arm.gap.mean:.2f}" if arm.overstates else "" for arm in own]
        points = _points(name, Mark(mark.colour, "line-ns-open", ""), legend=False)
        points |= {"mode": "markers+text", "text": text, "textposition": "middle right", "cliponaxis": False}
        figure.add_scatter(x=[_short(arm.objective.mean) for arm in own], **common, **points)
        figure.add_scatter(x=[_short(arm.elbo.mean) for arm in own], **common, **_points(name, mark, legend=legend))
    bar = {"symbol": "line-ns-open", "color": INK, "size": 14, "line": {"width": 3, "color": INK}}
    for name, key in (("objective", {"marker": bar}), ("discrete ELBO", {"marker": {"color": INK, "size": 10}})):
        figure.add_scatter(x=[None], y=[None], name=name, mode="markers", **key)
    figure.add_scatter(x=[None], y=[None], name="over-states", mode="lines", line={"color": INK, "width": 4})
    figure.update_layout(
        xaxis_range=_range([end.mean for arm in arms for end in (arm.objective, arm.elbo)], right=0.14)
    )


def _points(name: str, mark: Mark, axis: str = "", *, legend: bool = True) -> dict[str, Any]:
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


def band(points: Sequence[tuple[float, float, float]], colour: str) -> dict[str, Any]:
    """The area between two curves, given as points of x, low and high."""
    back = points[::-1]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return {
        "x": [x for x, *_ in [*points, *back]],
        "y": [_short(high) for *_, high in points] + [_short(low) for _, low, _ in back],
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},0.18)",
        "line": {"width": 0},
        "mode": "lines",
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _scores(arm: Arm) -> list[str]:
    bounds = f"bounds {arm.bounds}" if arm.bounds else "bounds nothing"
    elbo = f"discrete ELBO {_plus_minus(arm.elbo)}, {arm.elbo.count} seed(s)"
    return [elbo, f"objective {_plus_minus(arm.objective)}, gap {arm.gap.mean:+.2f}", bounds]


def _quality(gradient: Gradient) -> list[str]:
    return [
        f"bias {gradient.bias.mean:.3f} ± {gradient.bias_se:.3f}, variance {gradient.variance.mean:.3g}",
        f"cosine {gradient.cosine.mean:.2f}, of the mean {gradient.cosine_of_mean.mean:.2f}",
    ]


def _plus_minus(value: Spread) -> str:
    return f"{value.mean:.2f}" + (f" ± {value.deviation:.2f}" if value.count > 1 else "")


def _labels(arms: Iterable[Arm]) -> list[str]:
    return [html.escape(arm.label) for arm in arms]


def _lines(*lines: str) -> str:
    return "<br>".join(html.escape(line) for line in lines)


def floor(values: Iterable[float]) -> float:
    """Where what is zero, or next to it, is drawn on a logarithmic axis: half of the power of ten below the rest."""
    return 0.5 * 10.0 ** math.floor(math.log10(min((value for value in values if value > 1e-4), default=1.0)))


def _short(value: float) -> float | None:
    """Five digits: nobody sees more, and pages stay small."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
