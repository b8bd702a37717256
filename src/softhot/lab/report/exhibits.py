"""The exhibits of a report: which pictures are drawn of a study, each with a title and a caption."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from softhot.lab.figures import outcomes, quality
from softhot.lab.figures.drawing import Figure
from softhot.lab.figures.marks import Mark, marks
from softhot.lab.figures.outcomes import leading
from softhot.lab.study.summary import Arm

__all__ = ["draw", "exhibit"]


@dataclass(frozen=True)
class _Exhibit:
    """A picture of a study.

    Arguments:
        title: its heading.
        caption: what is to be seen.
        figure: what draws it.
        shows: whether there is anything to draw of an arm.
        rows: whether it has a row for each arm, so that not all of many are drawn.
        choices: what the picture's choices are called.
    """

    title: str
    caption: str
    figure: Callable[[Sequence[Arm], Mapping[str, Mark]], Figure]
    shows: Callable[[Arm], bool]
    rows: bool = False
    choices: str = ""


_LISTED = (
    "Shown is the best arm of each estimator; the legend turns others on, and while the table is filtered its first "
    "twelve arms are shown."
)
_EXHIBITS = {
    "gap": _Exhibit(
        "What was optimised, and what it is worth",
        "The bar is the objective, the marker the discrete ELBO of the same model. A thick line and a number mark "
        "objectives that over-state it.",
        outcomes.gap,
        lambda arm: arm.elbo.count > 0,
        rows=True,
    ),
    "sweep": _Exhibit(
        "Temperature: what it does to the discrete ELBO and to the objective",
        f"A line for each estimator and KL term at more than one temperature. {_LISTED}",
        outcomes.sweep,
        lambda arm: arm.elbo.count > 0 and arm.temperature is not None,
    ),
    "encoder": _Exhibit(
        "Encoder gradient: bias against variance",
        "Relative to the true gradient g*; lower left is better. Hollow markers have a bias within two standard "
        "errors of zero; what is zero, or next to it, is drawn at the edge. The cosine is in the hover text.",
        quality.encoder,
        lambda arm: arm.start.encoder.bias.count + arm.end.encoder.bias.count > 0,
    ),
    "decoder": _Exhibit(
        "Decoder gradient: bias",
        "After training. With hard samples the decoder's gradient is unbiased; with relaxed samples it is that of "
        "another model.",
        quality.decoder,
        lambda arm: arm.end.decoder.bias.count > 0,
        rows=True,
    ),
    "price": _Exhibit(
        "Bias and variance of a gradient against its cost",
        "After training, relative to g*; lower left is better. The cost is in evaluations of the decoder for one "
        "gradient of one image. Hollow markers have a bias within two standard errors of zero.",
        quality.price,
        quality.priced,
        choices="Gradient of the",
    ),
    "budget": _Exhibit(
        "Error of a gradient at equal cost",
        "The root mean squared error, relative to the length of g*, of the mean of as many draws as the evaluations "
        "pay for: it falls until the bias is left. A line starts with a marker at the cost of one draw; a bias within "
        f"two standard errors of zero counts as none. {_LISTED}",
        quality.budget,
        quality.priced,
    ),
    "curves": _Exhibit(
        "Learning curves: discrete ELBO of the validation images",
        f"Means, with a band of one standard deviation over seeds. {_LISTED}",
        outcomes.curves,
        lambda arm: any(point.valid_elbo.count for point in arm.curve),
        choices="Drawn against",
    ),
    "cost": _Exhibit(
        "Discrete ELBO against the cost of training",
        "Upper left is better. Bars are standard deviations over seeds.",
        outcomes.cost,
        lambda arm: arm.elbo.count > 0,
    ),
}


def draw(arms: Sequence[Arm]) -> dict[str, Figure]:
    """The pictures that there is anything to see in, by their names."""
    found = {name: _shown(name, arms) for name in _EXHIBITS if name != "sweep" or outcomes.sweeps(arms)}
    return {name: _EXHIBITS[name].figure(shown, marks(arms)) for name, shown in found.items() if shown}


def exhibit(name: str, figure: Figure, arms: Sequence[Arm]) -> str:
    """The place of a picture in the page: its heading, its caption and its choices."""
    one, shown = _EXHIBITS[name], len(_shown(name, arms))
    known = sum(map(one.shows, arms))
    few = f" Drawn are {shown} of {known} arms, the best of each estimator among them." if shown < known else ""
    label = html.escape(f"{one.title}. {one.caption}{few} The numbers of the {known} arms are in the table above.")
    meta = figure.layout.meta
    heights = [meta[width].get("height", figure.layout.height) for width in ("wide", "narrow")]
    return (
        f"<figure><h3>{html.escape(one.title)}</h3><figcaption>{html.escape(one.caption + few)}</figcaption>"
        f"{_choices(name, one.choices, meta.get('choices', {}))}"
        f"<div class='plot' id='{name}' role='img' aria-label=\"{label}\""
        f" style='--wide:{heights[0]}px;--narrow:{heights[1]}px'></div></figure>"
    )


def _shown(name: str, arms: Sequence[Arm]) -> list[Arm]:
    """The arms that a picture is of; of many, not all where each has a row."""
    one = _EXHIBITS[name]
    known = [arm for arm in arms if one.shows(arm)]
    return leading(known) if one.rows else known


def _choices(name: str, legend: str, options: Mapping[str, object]) -> str:
    """A switch for each of the choices that the figure has, the first on."""
    if not options:
        return ""
    boxes = " ".join(
        f"<label><input type='radio' name='{name}-choice' value='{option}'{' checked' * (not i)}> {option}</label>"
        for i, option in enumerate(options)
    )
    return f"<fieldset class='chips' data-plot='{name}'><legend>{legend}</legend>{boxes}</fieldset>"
