"""The table of a report: a row for each arm, best first, which the page's script sorts and filters."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from softhot.lab.figures.marks import Mark, marks
from softhot.lab.report.conclusion import tied
from softhot.lab.study.spread import Spread
from softhot.lab.study.summary import Arm

__all__ = ["ranking"]

# the headings of the columns of numbers, which the template explains; where the numbers are; how they are written
COLUMNS: tuple[tuple[str, Callable[[Arm], Spread], str], ...] = (
    ("objective", lambda arm: arm.objective, "z.2f"),
    ("discrete ELBO", lambda arm: arm.elbo, "z.2f"),
    ("IWAE", lambda arm: arm.iwae, "z.2f"),
    ("log-likelihood", lambda arm: arm.log_likelihood, "z.2f"),
    ("gap", lambda arm: arm.gap, "+z.2f"),
    ("encoder cosine", lambda arm: arm.end.encoder.cosine, "z.2f"),
    ("encoder bias", lambda arm: arm.end.encoder.bias, ".3f"),
    ("encoder variance", lambda arm: arm.end.encoder.variance, ".3g"),
    ("decoder cosine", lambda arm: arm.end.decoder.cosine, "z.2f"),
    ("decoder bias", lambda arm: arm.end.decoder.bias, ".3f"),
    ("decoder variance", lambda arm: arm.end.decoder.variance, ".3g"),
    ("seconds", lambda arm: arm.seconds, ".1f"),
    ("evaluations", lambda arm: arm.evaluations, ",.0f"),
    ("per gradient", lambda arm: arm.cost, ",.0f"),
)


def ranking(arms: Sequence[Arm]) -> str:
    """The table, below what filters it."""
    names, best = marks(arms), {arm.label for arm in [arms[0], *tied(arms)] if arm.elbo.count}
    headings = ["rank", "arm", "bounds", *(heading for heading, *_ in COLUMNS), "seeds"]
    head = "".join(
        f"<th scope='col' aria-sort='{'none' if i else 'ascending'}'><button type='button'>{heading}</button></th>"
        for i, heading in enumerate(headings)
    )
    rows = "\n".join(_row(rank, arm, names[arm.estimator], arm.label in best) for rank, arm in enumerate(arms, 1))
    return (
        f"{_filters(arms)}\n"
        "<div class='scroll tall' role='region' aria-label='Table of arms' tabindex='0'><table class='ranking'>"
        "<caption>Means over seeds, in nats per image; gradients are those after training. Headings sort.</caption>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _filters(arms: Sequence[Arm]) -> str:
    chips = _chips("estimator", "Estimators", [arm.estimator for arm in arms])
    chips += _chips("term", "KL terms", [arm.term for arm in arms])
    return (
        "<div class='filters' role='search' aria-label='Arms'><p><label for='filter'>Filter </label>"
        "<input id='filter' type='search' placeholder='gumbel exact' autocomplete='off'> "
        "<button id='all' type='button'>Show all</button> "
        f"<span id='count' class='quiet' role='status'>{len(arms)} arms</span></p>{chips}</div>"
    )


def _chips(kind: str, legend: str, values: Sequence[str]) -> str:
    """A box to tick for each value; none ticked is all of them."""
    different = sorted({html.escape(value) for value in values})
    if len(different) < 2:
        return ""
    boxes = " ".join(
        f"<label><input type='checkbox' name='{kind}' value='{value}'> {value}</label>" for value in different
    )
    return f"\n<fieldset class='chips'><legend>{legend}</legend>{boxes}</fieldset>"


def _row(rank: int, arm: Arm, mark: Mark, best: bool) -> str:
    glyph = f"<span aria-hidden='true' style='color:{mark.colour}'>{mark.glyph}</span>"
    cells = [
        f"<td data-value='{rank}'>{rank}</td>",
        f"<th scope='row'>{glyph} {html.escape(arm.label)}</th>",
        f"<td class='bounds'>{html.escape(arm.bounds or 'bounds nothing')}</td>",
    ]
    for heading, number, form in COLUMNS:
        value, note = number(arm), ""
        if heading == "discrete ELBO":
            note = f" <span class='sd'>± {value.deviation:.2f}</span>" if value.count > 1 else ""
            note += " ≈" if best else ""
        elif heading == "gap" and arm.overstates:
            note = " ▲"
        text = format(value.mean, form) + note if value.count else "–"
        cells.append(f"<td data-value='{value.mean if value.count else ''}'>{text}</td>")
    remarks = {"diverged": arm.failed, "not scored": arm.unscored}
    noted = ", ".join(f"{count} {remark}" for remark, count in remarks.items() if count)
    cells.append(f"<td data-value='{arm.seeds}'>{arm.seeds}{f' ({noted})' if noted else ''}</td>")
    data = {"arm": arm.label, "estimator": arm.estimator, "term": arm.term}
    attributes = " ".join(f"data-{name}='{html.escape(value)}'" for name, value in data.items())
    return f"<tr {attributes}>{''.join(cells)}</tr>"
