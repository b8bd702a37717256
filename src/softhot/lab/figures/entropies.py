"""The picture of every entropy term against temperature."""

from __future__ import annotations

from typing import Any

from softhot.lab.figures.drawing import Figure, panels

__all__ = ["LABELS", "entropy_figure"]

LABELS = {"discretised": "discretised", "maddison21": "eq. 21 (mass)", "concrete": "eq. 20 (density)"}
COLOURS = {"discretised": "#2db6c4", "maddison21": "#ea9113", "concrete": "#855cb7"}


def entropy_figure(found: dict[str, Any], exact: dict[str, Any]) -> Figure:
    """Exact terms as curves, the discrete value as a line, Monte Carlo estimates as points with two standard errors.

    Arguments:
        found: of :func:`softhot.lab.experiments.entropies.entropies`.
        exact: of :func:`softhot.lab.experiments.entropies.curves`.
    """
    figure = panels("E[log q] of a mass", "E[log q] of a density", 480)
    heats, discrete = exact["temperatures"], found["discrete"]["log_q"]["exact"]
    for axis in ("", "2"):
        figure.add_scatter(
            x=[heats[0], heats[-1]],
            y=[discrete, discrete],
            mode="lines",
            line={"color": "#ce3820", "dash": "dash"},
            name=f"discrete, {discrete:.4f}",
            showlegend=not axis,
            xaxis=f"x{axis}",
            yaxis=f"y{axis}",
        )
    for name, label in LABELS.items():
        axes = {"xaxis": "x2", "yaxis": "y2"} if name == "concrete" else {}
        if name != "discretised":  # its exact value is the discrete one at every temperature
            line = {"color": COLOURS[name]}
            figure.add_scatter(x=heats, y=exact[name], mode="lines", line=line, name=f"{label}, exact", **axes)
        points = [one["log_q"][name] for one in found["temperatures"]]
        figure.add_scatter(
            x=[one["temperature"] for one in found["temperatures"]],
            y=[point["estimate"] for point in points],
            error_y={"type": "data", "array": [2 * point["standard_error"] for point in points]},
            mode="markers",
            marker={"color": COLOURS[name], "size": 8},
            name=f"{label}, {found['samples']:,} draws",
            **axes,
        )
    figure.update_xaxes(type="log", dtick=1, title_text="temperature")
    figure.update_layout(yaxis_title_text="nats", yaxis2_showticklabels=True)
    return figure
