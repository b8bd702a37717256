"""The picture of descents: the exact loss against steps, and against evaluations of f."""

from __future__ import annotations

from collections.abc import Sequence

from softhot.lab.experiments.optimise import Descent
from softhot.lab.figures.drawing import Figure, band, logarithmic, panels, short
from softhot.lab.figures.marks import COLOURS, DASHES, marks_of
from softhot.problems import problem

__all__ = ["optimise_figure"]


def optimise_figure(name: str, descents: Sequence[Descent]) -> Figure:
    """Means over the seeds as lines, and from the least to the greatest of them as a band.

    Where the least possible loss is known, what is above it is drawn, on a logarithmic axis.

    Arguments:
        name: of the problem.
        descents: what is drawn.
    """
    minimum, seeds = problem(name).minimum(), len(descents[0].losses[0])
    spread = "" if seeds == 1 else f", means and range of {seeds} seeds"
    figure = panels(f"{name}, by steps{spread}", "by evaluations of f", 520)
    marks, base = marks_of(one.estimator for one in descents), minimum or 0.0
    cycles = {name: i // len(COLOURS) for i, name in enumerate(marks)}
    for one in descents:
        colour, dash = marks[one.estimator].colour, DASHES[cycles[one.estimator] % len(DASHES)]
        for axis, xs in (("", one.steps), ("2", one.evaluations or [])):
            place = {"legendgroup": one.estimator, "xaxis": f"x{axis}", "yaxis": f"y{axis}"}
            points = [
                (x, min(losses) - base, mean - base, max(losses) - base)
                for x, losses, mean in zip(xs, one.losses, one.mean, strict=bool(xs))
                if (minimum is None or min(losses) > minimum) and (x > 0 or not axis)
            ]
            if seeds > 1:
                figure.add_scatter(**band([(x, low, high) for x, low, _, high in points], colour), **place)
            figure.add_scatter(
                x=[x for x, *_ in points],
                y=[short(mean) for _, _, mean, _ in points],
                name=one.estimator,
                mode="lines",
                line={"color": colour, "width": 2, "dash": dash},
                showlegend=not axis,
                hovertemplate="%{y:.4g} at %{x:,}<extra>%{fullData.name}</extra>",
                **place,
            )
    label = "exact loss" if minimum is None else f"exact loss above {minimum:.6g}, the least possible"
    figure.update_layout(yaxis_title_text=label, xaxis_title_text="steps", xaxis2_title_text="evaluations of f")
    figure.update_xaxes(exponentformat="SI")
    figure.update_layout(xaxis2=logarithmic(x for one in descents for x in (one.evaluations or [])[1:]))
    figure.update_layout(yaxis2_matches="y")
    figure.update_yaxes(exponentformat="power")
    if minimum is not None:
        figure.update_yaxes(**logarithmic(mean - minimum for one in descents for mean in one.mean))
    return figure
