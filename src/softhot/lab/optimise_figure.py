"""The picture of descents: the exact loss against steps, and against evaluations of f."""

from __future__ import annotations

from collections.abc import Sequence

from softhot.lab.drawing import Figure, panels
from softhot.lab.figures import band, marks_of
from softhot.lab.optimise import Descent

__all__ = ["optimise_figure"]


def optimise_figure(descents: Sequence[Descent], minimum: float | None) -> Figure:
    """Means over the seeds as lines, and from the least to the greatest of them as a band.

    Arguments:
        descents: what is drawn.
        minimum: of the problem; where it is known, what is above it is drawn, on a logarithmic axis.
    """
    figure = panels("by steps", "by evaluations of f", 480)
    marks, base = marks_of(one.estimator for one in descents), minimum or 0.0
    for one in descents:
        colour = marks[one.estimator].colour
        for axis, xs in (("", one.steps), ("2", one.evaluations or [])):
            place = {"legendgroup": one.estimator, "xaxis": f"x{axis}", "yaxis": f"y{axis}"}
            points = [
                (x, min(losses) - base, mean - base, max(losses) - base)
                for x, losses, mean in zip(xs, one.losses, one.mean, strict=bool(xs))
                if minimum is None or min(losses) > minimum
            ]
            if len(one.losses[0]) > 1:
                figure.add_scatter(**band([(x, low, high) for x, low, _, high in points], colour), **place)
            figure.add_scatter(
                x=[x for x, *_ in points],
                y=[mean for _, _, mean, _ in points],
                name=one.estimator,
                mode="lines",
                line={"color": colour, "width": 2},
                showlegend=not axis,
                hovertemplate="%{y:.4g} at %{x}<extra>%{fullData.name}</extra>",
                **place,
            )
    label = "exact loss" if minimum is None else f"exact loss above {minimum:.6g}, the infimum"
    figure.update_layout(yaxis_title_text=label, xaxis_title_text="steps", xaxis2_title_text="evaluations of f")
    figure.update_xaxes(exponentformat="SI")
    figure.update_yaxes(matches="y", exponentformat="power", type="linear" if minimum is None else "log")
    return figure
