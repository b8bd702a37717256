"""The pictures of a study; those of its gradients are in :mod:`softhot.lab.figures.quality`.

An estimator has one colour and one marker in all of them; what is known of an arm beyond that is in the hover text. A
trace of one arm names it in its ``meta``, so that the report can show those that are asked for. Each picture is drawn
of some arms, best first, with the marks of all.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from softhot.lab.figures.drawing import (
    GRID,
    INK,
    Figure,
    band,
    blank,
    by_row,
    lines,
    listed,
    logarithmic,
    panels,
    rows,
    short,
    span,
    there_and_back,
    title,
)
from softhot.lab.figures.marks import DASHES, Mark, marks, points
from softhot.lab.study.spread import Spread
from softhot.lab.study.summary import Arm, Point, summarise

__all__ = ["cost", "curves", "gap", "leading", "overview", "sweep", "sweeps"]

_ACROSS = {"epochs": "epochs", "evaluations": "decoder evaluations", "seconds": "seconds of training"}


def leading(arms: Sequence[Arm], most: int = 36) -> list[Arm]:
    """The best arm of each estimator, and the best of the others up to so many, in their order.

    Arguments:
        arms: best first.
        most: how many, unless there are more estimators.
    """
    first = {arm.estimator: arm for arm in reversed(arms)}
    others = [arm for arm in arms if first[arm.estimator] is not arm]
    kept = {arm.label for arm in [*first.values(), *others[: max(most - len(first), 0)]]}
    return [arm for arm in arms if arm.label in kept]


def gap(arms: Sequence[Arm], names: Mapping[str, Mark]) -> Figure:
    """What was optimised beside the discrete ELBO of the same model, arm by arm."""
    shown = [arm for arm in arms if arm.elbo.count]
    figure = by_row([html.escape(arm.label) for arm in shown], "nats per image")
    _dumbbells(figure, shown, names)
    return figure


def curves(arms: Sequence[Arm], names: Mapping[str, Mark]) -> Figure:
    """The discrete ELBO of the validation images in the course of training.

    The best arm of each estimator is drawn, and the others on request; against epochs, evaluations of the decoder, or
    seconds.
    """
    shown = [arm for arm in arms if any(point.valid_elbo.count for point in arm.curve)]
    figure = blank(480, xaxis={"title": "epochs"}, yaxis={"title": "nats per image"})
    whole = max(1, max((len(arm.curve) for arm in shown), default=1) // 8)  # epochs from tick to tick
    choices = {
        name: {"xaxis.title.text": text, "xaxis.tickmode": "auto", "xaxis.autorange": True}
        for name, text in _ACROSS.items()
    }
    choices["epochs"] |= {"xaxis.tickmode": "linear", "xaxis.dtick": whole}
    listed(figure, len(shown), choices=choices)
    seen = dict.fromkeys(names, 0)
    for arm in shown:
        mark, order = names[arm.estimator], seen[arm.estimator]
        seen[arm.estimator] += 1
        curve = [point for point in arm.curve if point.valid_elbo.count]
        common = {"legendgroup": arm.label, "visible": True if order == 0 else "legendonly"}
        if known := [point for point in curve if point.valid_elbo.count > 1]:
            spreads = [(point.epoch, point.valid_elbo.mean, point.valid_elbo.deviation) for point in known]
            area = band([(epoch, mean - sd, mean + sd) for epoch, mean, sd in spreads], mark.colour)
            figure.add_scatter(**area, **common, meta=_across(arm, known, there_and_back))
        figure.add_scatter(
            x=[point.epoch for point in curve],
            y=[short(point.valid_elbo.mean) for point in curve],
            name=html.escape(arm.label),
            line={"color": mark.colour, "width": 2, "dash": DASHES[order % len(DASHES)]},
            hovertemplate="%{y:.2f} at %{x:,} %{xaxis.title.text}<extra>%{fullData.name}</extra>",
            mode="lines" if len(curve) > 1 else "markers",
            meta=_across(arm, curve, lambda values: [*map(short, values)]),
            **common,
        )
    late = (point.valid_elbo.mean for arm in shown for point in arm.curve[len(arm.curve) // 4 :])
    figure.update_yaxes(range=span(late))
    return figure


def sweeps(arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    """The arms that differ in their temperature alone, by what they share; those of a single temperature are left out.

    Arguments:
        arms: best first; so are the groups, by their best arm.
    """
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        if arm.temperature is not None and arm.elbo.count:
            groups.setdefault(re.sub(" t=[^ ]+", "", arm.label), []).append(arm)
    return {name: group for name, group in groups.items() if len({arm.temperature for arm in group}) > 1}


def sweep(arms: Sequence[Arm], names: Mapping[str, Mark]) -> Figure:
    """The discrete ELBO, and the objective, against the temperature."""
    found, seen = sweeps(arms), dict.fromkeys(names, 0)
    figure = panels("discrete ELBO", "objective", 460)
    listed(figure, len(found))
    measures: dict[str, Callable[[Arm], Spread]] = {"": lambda arm: arm.elbo, "2": lambda arm: arm.objective}
    for name, group in found.items():
        estimator, ascending = group[0].estimator, sorted(group, key=lambda arm: (arm.temperature or 0.0, arm.label))
        order = seen[estimator]
        seen[estimator] += 1
        for axis, measure in measures.items():
            spreads = [measure(arm) for arm in ascending]
            look = points(name, names[estimator], axis, legend=not axis) | {"mode": "lines+markers"}
            figure.add_scatter(
                x=[arm.temperature for arm in ascending],
                y=[short(spread.mean) for spread in spreads],
                error_y={"array": [short(spread.deviation) for spread in spreads], "thickness": 1, "width": 3},
                line={"color": names[estimator].colour, "width": 1.5, "dash": DASHES[order % len(DASHES)]},
                hovertext=[lines(arm.label, *_scores(arm)) for arm in ascending],
                visible=True if order == 0 else "legendonly",
                meta={"arms": [arm.label for arm in ascending]},
                **look,
            )
    heats = sorted({arm.temperature for group in found.values() for arm in group if arm.temperature is not None})
    figure.update_xaxes(title_text="temperature", type="log", tickvals=heats, ticktext=[f"{heat:g}" for heat in heats])
    figure.update_layout(yaxis2_matches="y")
    figure.update_layout(yaxis_title_text="nats per image")
    return figure


def cost(arms: Sequence[Arm], names: Mapping[str, Mark]) -> Figure:
    """The discrete ELBO against what training cost."""
    figure = panels("by decoder evaluations", "by time", 420)
    measures: dict[str, Callable[[Arm], Spread]] = {"": lambda arm: arm.evaluations, "2": lambda arm: arm.seconds}
    for name, mark in names.items():
        for axis, measure in measures.items():
            own = [arm for arm in arms if arm.estimator == name and arm.elbo.count and measure(arm).mean > 0]
            figure.add_scatter(
                x=[short(measure(arm).mean) for arm in own],
                y=[short(arm.elbo.mean) for arm in own],
                error_y={"array": [short(arm.elbo.deviation) for arm in own], "thickness": 1, "width": 3},
                hovertext=[
                    lines(
                        arm.label, *_scores(arm), f"{arm.evaluations.mean:,.0f} evaluations, {arm.seconds.mean:.1f} s"
                    )
                    for arm in own
                ],
                **points(name, mark, axis, legend=not axis),
            )
    evaluations = logarithmic(arm.evaluations.mean for arm in arms if arm.elbo.count)
    seconds = logarithmic(arm.seconds.mean for arm in arms if arm.elbo.count)
    figure.update_layout(yaxis2_matches="y")
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
    arms, stages = summarise(records), ("start", "end")
    shown, names = [arm for arm in arms if arm.elbo.count][:most], marks(arms)
    finished = "" if len(shown) == len(arms) else f", best {len(shown)} of {len(arms)} arms"
    cosines = {arm.estimator for arm in arms for stage in stages if getattr(arm, stage).encoder.cosine.count}
    measured = [name for name in names if name in cosines]  # a mixture of flows has no gradient to be held against
    figure = blank(
        600,
        width=1200,
        title={"text": "What is optimised, what it is worth, and how good its gradient is", "x": 0.5, "y": 0.97},
        margin={"l": 10, "r": 20, "t": 80, "b": 130},
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": 0.01, "yanchor": "bottom", "yref": "container"},
        xaxis={"title": "nats per image", "domain": [0, 0.54]},
        yaxis=rows([html.escape(arm.label) for arm in shown]),
        xaxis2={"title": "mean cosine with the true gradient", "domain": [0.73, 1], "anchor": "y2", "gridcolor": GRID},
        yaxis2={**rows([html.escape(name) for name in measured]), "anchor": "x2"},
    )
    title(figure, f"objective and discrete ELBO{finished}", "")
    title(figure, "encoder: fresh ○, trained ●", "2")
    _dumbbells(figure, shown, names, elsewhere=measured)
    for row, name in enumerate(measured):
        own, mark = [arm for arm in arms if arm.estimator == name], names[name]
        for stage, suffix, shift in zip(stages, ("-open", ""), (-0.15, 0.15), strict=True):
            values = [getattr(arm, stage).encoder.cosine.mean for arm in own]
            look = points(name, Mark(mark.colour, mark.symbol + suffix, mark.glyph), "2", legend=not suffix)
            labels = [lines(arm.label, f"cosine {value:.2f}") for arm, value in zip(own, values, strict=True)]
            figure.add_scatter(x=[*map(short, values)], y=[row + shift] * len(own), hovertext=labels, **look)
    return figure


def _across(arm: Arm, curve: Sequence[Point], drawn: Callable[[Sequence[float]], list[float | None]]) -> dict[str, Any]:
    """What a learning curve can be drawn against: a choice that the report offers."""
    columns = zip(*((float(point.epoch), point.evaluations, point.seconds) for point in curve), strict=True)
    return {"arms": [arm.label], "choices": {name: {"x": drawn(x)} for name, x in zip(_ACROSS, columns, strict=True)}}


def _dumbbells(
    figure: Figure, arms: Sequence[Arm], names: Mapping[str, Mark], *, elsewhere: Sequence[str] = ()
) -> None:
    """The gaps of arms; the legend has some of the names from elsewhere."""
    place = {arm.label: row for row, arm in enumerate(arms)}
    for over, line in ((True, {"width": 4}), (False, {"width": 1.5, "dash": "dot"})):
        for name, mark in names.items():
            own = [arm for arm in arms if arm.estimator == name and arm.gap.count and arm.overstates is over]
            figure.add_scatter(
                x=[x for arm in own for x in (short(arm.elbo.mean), short(arm.objective.mean), None)],
                y=[y for arm in own for y in (place[arm.label], place[arm.label], None)],
                **{"mode": "lines", "line": {"color": mark.colour, **line}, "legendgroup": name},
                **{"showlegend": False, "hoverinfo": "skip"},
            )
    for name, mark in names.items():
        own = [arm for arm in arms if arm.estimator == name]
        common = {"y": [place[arm.label] for arm in own], "hovertext": [lines(arm.label, *_scores(arm)) for arm in own]}
        text = [f" +{arm.gap.mean:.2f}" if arm.overstates else "" for arm in own]
        ends = points(name, Mark(mark.colour, "line-ns-open", ""), legend=False)
        ends |= {"mode": "markers+text", "text": text, "textposition": "middle right", "cliponaxis": False}
        figure.add_scatter(x=[short(arm.objective.mean) for arm in own], **common, **ends)
        middle = points(name, mark, legend=name not in elsewhere)
        figure.add_scatter(x=[short(arm.elbo.mean) for arm in own], **common, **middle)
    bar = {"symbol": "line-ns-open", "color": INK, "size": 14, "line": {"width": 3, "color": INK}}
    for name, key in (("objective", {"marker": bar}), ("discrete ELBO", {"marker": {"color": INK, "size": 10}})):
        figure.add_scatter(x=[None], y=[None], name=name, mode="markers", **key)
    figure.add_scatter(x=[None], y=[None], name="over-states", mode="lines", line={"color": INK, "width": 4})
    figure.update_layout(xaxis_range=span([end.mean for arm in arms for end in (arm.objective, arm.elbo)], right=0.14))


def _scores(arm: Arm) -> list[str]:
    bounds = f"bounds {arm.bounds}" if arm.bounds else "bounds nothing"
    elbo = f"discrete ELBO {_plus_minus(arm.elbo)}, {arm.elbo.count} seed(s)"
    return [elbo, f"objective {_plus_minus(arm.objective)}, gap {arm.gap.mean:+.2f}", bounds]


def _plus_minus(value: Spread) -> str:
    return f"{value.mean:.2f}" + (f" ± {value.deviation:.2f}" if value.count > 1 else "")
