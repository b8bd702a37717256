"""The pictures of a study's gradients: their bias and variance, and what these cost.

A hollow marker has a bias within two standard errors of zero; what is zero, or next to it, is drawn at the edge of a
logarithmic axis. The cost of a gradient is the number of evaluations of the decoder that it takes, for one image.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softhot.lab.figures.drawing import Figure, by_row, floor, lines, listed, logarithmic, panels, short, span
from softhot.lab.figures.marks import DASHES, Mark, points
from softhot.lab.study.summary import Arm, Gradient

__all__ = ["budget", "decoder", "encoder", "price", "priced"]

_PARTS: dict[str, Callable[[Arm], Gradient]] = {
    "encoder": lambda arm: arm.end.encoder,
    "decoder": lambda arm: arm.end.decoder,
}
_MEASURES: dict[str, Callable[[Gradient], float]] = {
    "": lambda gradient: gradient.bias.mean,
    "2": lambda gradient: gradient.variance.mean,
}
_STEPS = 24  # of a curve


@dataclass(frozen=True)
class _Scale:
    """A logarithmic axis with a place for zero.

    Arguments:
        low: where what is zero, or next to it, is drawn.
        axis: the settings of Plotly's axis.
    """

    low: float
    axis: dict[str, Any]

    @classmethod
    def of(cls, values: Iterable[float]) -> _Scale:
        known = [value for value in values if math.isfinite(value)]
        low = floor(known)
        return cls(low, logarithmic(max(value, low) for value in known))

    def place(self, value: float) -> float | None:
        return short(max(value, self.low))


def encoder(arms: Sequence[Arm], names: Mapping[str, Mark]) -> Figure:
    """The bias of the encoder's gradient against its variance, before and after training."""
    figure = panels("fresh weights, shared by the arms", "after training", 460)
    stages = {"": [(arm, arm.start.encoder) for arm in arms], "2": [(arm, arm.end.encoder) for arm in arms]}
    stages = {axis: [pair for pair in stage if pair[1].bias.count] for axis, stage in stages.items()}
    gradients = [gradient for stage in stages.values() for _, gradient in stage]
    biases, variances = (_Scale.of(map(measure, gradients)) for measure in _MEASURES.values())
    for name, mark in names.items():
        for axis, stage in stages.items():
            own = [(arm, gradient) for arm, gradient in stage if arm.estimator == name]
            figure.add_scatter(
                x=[biases.place(gradient.bias.mean) for _, gradient in own],
                y=[variances.place(gradient.variance.mean) for _, gradient in own],
                hovertext=[lines(arm.label, *_quality(gradient)) for arm, gradient in own],
                **_hollow(name, mark, axis, [gradient for _, gradient in own]),
            )
    figure.update_xaxes(title_text="bias / |g*|", exponentformat="none", **biases.axis)
    figure.update_layout(yaxis2_matches="y")
    figure.update_yaxes(exponentformat="none", **variances.axis)
    figure.update_layout(yaxis_title_text="variance / |g*|²")
    return figure


def decoder(arms: Sequence[Arm], names: Mapping[str, Mark]) -> Figure:
    """The bias of the decoder's gradient after training: of arms with hard samples, then of those with relaxed ones."""
    known = sorted((arm for arm in arms if arm.end.decoder.bias.count), key=lambda arm: arm.end.decoder.bias.mean)
    places: dict[str, Arm | None] = {}
    for sample, name in (("hard", "hard"), ("soft", "relaxed")):
        group = {html.escape(arm.label): arm for arm in known if arm.sample == sample}
        places |= {f"<b>{name} samples</b>": None, **group} if group else {}
    ends = [arm.end.decoder.bias.mean + side * arm.end.decoder.bias_se for arm in known for side in (-2, 2)]
    figure = by_row([*places], "bias / |g*|, ± 2 standard errors")
    figure.update_xaxes(range=span(ends))
    for name, mark in names.items():
        own = [(row, arm) for row, arm in enumerate(places.values()) if arm and arm.estimator == name]
        figure.add_scatter(
            x=[short(arm.end.decoder.bias.mean) for _, arm in own],
            y=[row for row, _ in own],
            error_x={"array": [short(2 * arm.end.decoder.bias_se) for _, arm in own], "thickness": 1.5, "width": 4},
            hovertext=[lines(arm.label, *_quality(arm.end.decoder)) for _, arm in own],
            **points(name, mark),
        )
    return figure


def price(arms: Sequence[Arm], names: Mapping[str, Mark]) -> Figure:
    """The bias and the variance of the gradient after training against its cost: of the encoder, or of the decoder."""
    figure = panels("bias / |g*|", "variance / |g*|²", 460)
    own = {part: [(arm, gradient(arm)) for arm in arms if priced(arm)] for part, gradient in _PARTS.items()}
    scales = {
        part: {axis: _Scale.of(measure(gradient) for _, gradient in pairs) for axis, measure in _MEASURES.items()}
        for part, pairs in own.items()
    }
    axes = {
        part: {f"yaxis{axis}.{key}": value for axis, scale in each.items() for key, value in scale.axis.items()}
        for part, each in scales.items()
    }
    for part in _PARTS:
        for name, mark in names.items():
            pairs = [pair for pair in own[part] if pair[0].estimator == name]
            for axis, measure in _MEASURES.items():
                figure.add_scatter(
                    x=[short(arm.cost.mean) for arm, _ in pairs],
                    y=[scales[part][axis].place(measure(gradient)) for _, gradient in pairs],
                    hovertext=[lines(f"{arm.label}, {part}", *_costs(arm, gradient)) for arm, gradient in pairs],
                    visible=part == "encoder",
                    meta={"choices": {other: {"visible": other == part} for other in _PARTS}},
                    **_hollow(name, mark, axis, [gradient for _, gradient in pairs]),
                )
    costs = logarithmic(arm.cost.mean for arm, _ in own["encoder"])
    figure.update_xaxes(title_text="decoder evaluations per gradient", exponentformat="none", **costs)
    figure.update_yaxes(exponentformat="none", showticklabels=True)
    figure.update_layout(**{key.replace(".", "_"): value for key, value in axes["encoder"].items()})
    figure.layout.meta = {
        "wide": {**figure.layout.meta["wide"], "yaxis2.showticklabels": True},
        "narrow": figure.layout.meta["narrow"],
        "choices": axes,
    }
    return figure


def budget(arms: Sequence[Arm], names: Mapping[str, Mark]) -> Figure:
    """The error of a gradient that is the mean of as many draws as a number of decoder evaluations pays for.

    Its square is that of the bias, where it is told from zero, and the variance over the number of draws.
    """
    known = [arm for arm in arms if priced(arm)]
    figure = panels("encoder", "decoder", 460)
    listed(figure, len(known))
    noisy = [arm.cost.mean for arm in known if arm.end.encoder.variance.mean > 0 or arm.end.decoder.variance.mean > 0]
    end = max([arm.cost.mean for arm in known] + [100 * max(noisy, default=1.0)])
    found = {(arm.label, part): _errors(arm, gradient(arm), end) for arm in known for part, gradient in _PARTS.items()}
    scale = _Scale.of(error for errors in found.values() for _, error in errors)
    seen = dict.fromkeys(names, 0)
    for arm in known:
        mark, order = names[arm.estimator], seen[arm.estimator]
        seen[arm.estimator] += 1
        for axis, part in zip(_MEASURES, _PARTS, strict=True):
            errors = found[arm.label, part]
            look = points(arm.label, mark, axis, legend=not axis)
            look["marker"] |= {"size": [10] + [0] * (len(errors) - 1), "opacity": 1}
            figure.add_scatter(
                x=[short(spent) for spent, _ in errors],
                y=[scale.place(error) for _, error in errors],
                hovertext=[
                    lines(arm.label, f"error {error:.3g} with {spent:,.0f} evaluations") for spent, error in errors
                ],
                visible=True if order == 0 else "legendonly",
                line={"color": mark.colour, "width": 1.5, "dash": DASHES[order % len(DASHES)]},
                meta={"arms": [arm.label]},
                **{**look, "mode": "lines+markers"},
            )
    spends = logarithmic(spent for errors in found.values() for spent, _ in errors)
    figure.update_xaxes(title_text="decoder evaluations spent on it", exponentformat="none", **spends)
    figure.update_layout(yaxis2_matches="y")
    figure.update_yaxes(exponentformat="none", **scale.axis)
    figure.update_layout(yaxis_title_text="root mean squared error / |g*|")
    return figure


def priced(arm: Arm) -> bool:
    """Whether its gradients were measured and have a cost."""
    return min(arm.cost.count, arm.end.encoder.bias.count, arm.end.decoder.bias.count) > 0


def _errors(arm: Arm, gradient: Gradient, end: float) -> list[tuple[float, float]]:
    """The evaluations spent, and the error then: from one draw up to the end."""
    bias = 0.0 if gradient.unbiased else gradient.bias.mean
    draws = [(end / arm.cost.mean) ** (step / _STEPS) for step in range(_STEPS + 1)]
    return [(arm.cost.mean * count, math.sqrt(bias**2 + gradient.variance.mean / count)) for count in draws]


def _hollow(name: str, mark: Mark, axis: str, gradients: Sequence[Gradient]) -> dict[str, Any]:
    """The look of the points of an estimator, hollow where a bias is not told from zero."""
    look = points(name, mark, axis, legend=not axis)
    symbols = [mark.symbol + "-open" * gradient.unbiased for gradient in gradients]
    look["marker"] |= {"symbol": symbols, "line": {"width": 1.5, "color": mark.colour}}
    return look


def _costs(arm: Arm, gradient: Gradient) -> list[str]:
    return [f"{arm.cost.mean:,.0f} evaluation(s) per gradient", *_quality(gradient)]


def _quality(gradient: Gradient) -> list[str]:
    return [
        f"bias {gradient.bias.mean:.3f} ± {gradient.bias_se:.3f}, variance {gradient.variance.mean:.3g}",
        f"cosine {gradient.cosine.mean:.2f}, of the mean {gradient.cosine_of_mean.mean:.2f}",
    ]
