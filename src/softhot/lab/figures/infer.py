"""The picture of posteriors: KL(q||p) of each method between its bounds, and its marginals against the exact ones."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from softhot.lab.experiments.infer import Approximation, marginals
from softhot.lab.experiments.posteriors import BOUNDS, Plan
from softhot.lab.figures.drawing import INK, Figure, panels
from softhot.lab.figures.marks import marks_of

__all__ = ["infer_figure"]


def infer_figure(plan: Plan, done: Sequence[Approximation]) -> Figure:
    """A row for each method on the left, a point for each state of each variable on the right.

    Arguments:
        plan: what is inferred.
        done: the posteriors that are there.
    """
    figure = panels("KL(q||p), exact, in nats", "probability of each state", 520)
    methods, marks = [one.method for one in done], marks_of(one.method for one in done)
    finite = [one.kl_q_p for one in done if one.kl_q_p < math.inf]
    right = 1.15 * max([*finite, 1e-3])
    for one in done:
        if one.method in BOUNDS and one.kl_q_p < math.inf:
            dash = {"color": marks[one.method].colour, "width": 1.5, "dash": "dash"}
            figure.add_scatter(
                x=[one.kl_q_p] * 2,
                y=[-0.5, len(done) - 0.5],
                mode="lines",
                line=dash,
                legendgroup=one.method,
                showlegend=False,
                hoverinfo="skip",
            )
    rows = marginals(plan, list(done))
    names = [html.escape(f"{row['variable']}={row['state']}") for row in rows]
    for row, one in enumerate(done):
        mark = marks[one.method]
        look = {"mode": "markers", "marker": {"color": mark.colour, "symbol": mark.symbol, "size": 10}}
        look |= {"name": one.method, "legendgroup": one.method}
        text = f" {one.kl_q_p:.4f}" if one.kl_q_p < math.inf else " infinite"
        figure.add_scatter(
            x=[min(one.kl_q_p, right)],
            y=[row],
            hovertext=f"{one.method}: {text.strip()}<br>{html.escape(one.note)}",
            hoverinfo="text",
            **look | {"mode": "markers+text", "text": [text], "textposition": "middle right", "cliponaxis": False},
        )
        figure.add_scatter(
            x=[state["posterior"] for state in rows],
            y=[state[one.method] for state in rows],
            customdata=names,
            hovertemplate="%{customdata}: %{y:.4f}, exact %{x:.4f}<extra>%{fullData.name}</extra>",
            **look | {"xaxis": "x2", "yaxis": "y2", "showlegend": False, "opacity": 0.7},
        )
    line = {"mode": "lines", "line": {"color": INK, "width": 1}, "showlegend": False, "hoverinfo": "skip"}
    figure.add_scatter(x=[0, 1], y=[0, 1], xaxis="x2", yaxis="y2", **line)
    figure.update_layout(
        xaxis={"title": {"text": "nats"}, "range": [0, 1.25 * right]},
        yaxis={"tickvals": [*range(len(done))], "ticktext": methods, "range": [len(done) - 0.5, -0.5]},
        xaxis2={"title": {"text": "exact"}, "range": [-0.02, 1.02]},
        yaxis2={"title": {"text": "of the method"}, "range": [-0.02, 1.02], "showticklabels": True},
    )
    return figure
