"""What a study shows, in tables: KL terms, the exact relaxed KL and its twin, estimators at equal cost, gradients.

Run: python examples/study_tables.py FOLDER [--pictures], with the folder of a study; softhot compare makes one of a
file of examples/studies/. With --pictures they are drawn into the folder, which needs a Chrome or Chromium.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from softhot.lab.figures.drawing import save
from softhot.lab.report.conclusion import conclude
from softhot.lab.report.exhibits import draw
from softhot.lab.study.archive import read
from softhot.lab.study.summary import Arm, Spread, distinct, summarise

PICTURES = ("gap", "sweep", "curves", "encoder")


def main() -> None:
    """Print the tables, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", action="store_true")
    given = parser.parse_args()
    _, records = read(given.folder)
    arms = summarise(records)
    if given.pictures:
        drawn = draw(arms)
        for name in PICTURES:
            save(drawn[name], given.folder / f"{name}.png")
    for title, rows in (
        ("Ranking", ranking(arms)),
        ("Terms", terms(arms)),
        ("Twins", twins(arms)),
        ("Equal cost", equal_cost(arms)),
        ("Gradients", gradients(arms)),
    ):
        print(f"### {title}\n", *rows, "", sep="\n")
    print("### In words\n", *(f"- {sentence}" for sentence in conclude(arms)), sep="\n")


def ranking(arms: Sequence[Arm]) -> list[str]:
    """Every arm, the best first."""
    rows = (
        (
            arm.label,
            show(arm.objective),
            show(arm.elbo),
            f"{arm.gap.mean:+.2f}",
            show(arm.iwae),
            arm.bounds or "nothing",
        )
        for arm in arms
    )
    return table(("arm", "objective", "discrete ELBO", "gap", "IWAE", "the objective bounds"), rows)


def terms(arms: Sequence[Arm]) -> list[str]:
    """The discrete ELBO and the gap of every KL term, at each setting that has several."""
    names = list(dict.fromkeys(arm.term for arm in arms))
    settings: dict[str, dict[str, Arm]] = {}
    for arm in arms:
        settings.setdefault(arm.setting, {})[arm.term] = arm
    rows = (
        (setting, *(f"{show(own[name].elbo)} ({own[name].gap.mean:+.2f})" if name in own else "" for name in names))
        for setting, own in sorted(settings.items())
        if len(own) > 1
    )
    return table(("discrete ELBO (gap)", *names), rows)


def twins(arms: Sequence[Arm]) -> list[str]:
    """The exact relaxed KL beside the same by Monte Carlo."""
    sampled = {arm.setting: arm for arm in arms if arm.term == "concrete"}
    pairs = [(arm, sampled[arm.setting]) for arm in arms if arm.term == "concrete-exact" and arm.setting in sampled]
    rows = (
        (
            exact.setting,
            f"{exact.elbo.mean - drawn.elbo.mean:+.2f}",
            "yes" if distinct(exact.elbo, drawn.elbo) else "no",
            f"{exact.end.encoder.variance.mean:.3g}",
            f"{drawn.end.encoder.variance.mean:.3g}",
            f"{exact.seconds.mean / drawn.seconds.mean:.2f}",
        )
        for exact, drawn in pairs
    )
    headings = ("exact minus Monte Carlo", "discrete ELBO", "distinguishable", "encoder variance, exact")
    return table((*headings, "encoder variance, Monte Carlo", "time, exact over Monte Carlo"), rows)


def equal_cost(arms: Sequence[Arm]) -> list[str]:
    """The validation ELBO of the best arm of each estimator when the cheapest have spent all they spend."""
    measures: dict[str, Callable[[Arm], list[float]]] = {
        "evaluations": lambda arm: [point.evaluations for point in arm.curve],
        "seconds": lambda arm: [point.seconds for point in arm.curve],
    }
    best = {arm.estimator: arm for arm in reversed(arms)}
    rows = []
    limits = {name: min(measure(arm)[-1] for arm in best.values()) for name, measure in measures.items()}
    for arm in sorted(best.values(), key=lambda arm: -at(arm, measures["evaluations"], limits["evaluations"])):
        ends = (f"{at(arm, measure, limits[name]):.2f}" for name, measure in measures.items())
        rows.append((arm.label, *ends, f"{arm.curve[-1].valid_elbo.mean:.2f}"))
    headings = (f"after {limits['evaluations']:,.0f} evaluations", f"after {limits['seconds']:.0f} s")
    return table(("validation ELBO", *headings, f"after {len(arms[0].curve)} epochs"), rows)


def at(arm: Arm, measure: Callable[[Arm], list[float]], limit: float) -> float:
    """The mean validation ELBO at a cost, on the straight line between the epochs around it; NaN before the first."""
    points = list(zip(measure(arm), (point.valid_elbo.mean for point in arm.curve), strict=True))
    before = [point for point in points if point[0] <= limit * (1 + 1e-9)]
    after = points[len(before) :]
    if not before:
        return math.nan
    (x, y), (right, up) = before[-1], after[0] if after else (math.inf, before[-1][1])
    return y + (up - y) * (limit - x) / (right - x) if after else y


def gradients(arms: Sequence[Arm]) -> list[str]:
    """How near every arm's gradients are to the true ones, with the error of one run."""
    rows = []
    for arm in sorted(arms, key=lambda arm: arm.end.encoder.bias.mean):
        start, end, decoder = arm.start.encoder, arm.end.encoder, arm.end.decoder
        rows.append(
            (
                arm.label,
                f"{start.cosine_of_mean.mean:.2f}",
                f"{end.cosine_of_mean.mean:.2f}",
                f"{end.bias.mean:.2f} ± {end.bias_se:.2f}",
                f"{end.variance.mean:.3g}",
                f"{decoder.bias.mean:.3f} ± {decoder.bias_se:.3f}",
            )
        )
    headings = ("arm", "encoder cosine of the mean, fresh", "trained", "encoder bias", "encoder variance")
    return table((*headings, "decoder bias"), rows)


def show(value: Spread) -> str:
    """A mean and its deviation over the seeds."""
    return f"{value.mean:.2f}" + (f" ± {value.deviation:.2f}" if value.count > 1 else "")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown; the first column is text, the others numbers."""
    rule = ["---", *("---:" for _ in headings[1:])]
    return [f"| {' | '.join(row)} |" for row in (headings, rule, *rows)]


if __name__ == "__main__":
    main()
