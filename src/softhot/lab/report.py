"""The report of a study: one HTML page that needs nothing else, not even a network.

The page is the template ``report.html`` beside this file, filled in: the conclusion in words, a table with a row for
each arm, the pictures of :mod:`softhot.lab.figures`, and what it takes to repeat the study. Its content security policy
forbids it to load anything.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from softhot.lab import figures
from softhot.lab.conclusion import conclude, tied
from softhot.lab.figures import Mark, marks
from softhot.lab.summary import Arm, Spread, summarise

__all__ = ["render"]


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
)
CAPTIONS: dict[str, tuple[str, str]] = {
    "gap": (
        "What was optimised, and what it is worth",
        "The bar is the objective, the marker the discrete ELBO of the same model. A thick line and a number mark "
        "objectives that over-state it.",
    ),
    "encoder": (
        "Encoder gradient: bias against variance",
        "Relative to the true gradient g*; lower left is better. Hollow markers have a bias within two standard "
        "errors of zero; what is zero, or next to it, is drawn at the edge. The cosine is in the hover text.",
    ),
    "decoder": (
        "Decoder gradient: bias",
        "After training. With hard samples the decoder's gradient is unbiased; with relaxed samples it is that of "
        "another model.",
    ),
    "curves": (
        "Learning curves: discrete ELBO of the validation images",
        "Means, with a band of one standard deviation over seeds. Shown is the best arm of each estimator; the legend "
        "turns the others on.",
    ),
    "cost": (
        "Discrete ELBO against the cost of training",
        "Upper left is better. Bars are standard deviations over seeds.",
    ),
}


def render(study: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """The page of a study and its records; runs may be missing."""
    from plotly.offline import get_plotlyjs

    arms = summarise(records, study.get("choices") or ())
    drawn = {name: getattr(figures, name)(arms) for name in CAPTIONS if arms and _has(name, arms)}
    data = ",".join(f'"{name}":{figure.to_json()}' for name, figure in drawn.items())
    template = resources.files("softhot.lab").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=html.escape(_title(records, arms)),
        described=_data(records),
        status=_status(study, records, arms),
        conclusion="\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in conclude(arms)),
        table=_table(arms) if arms else "<p>No run has finished yet.</p>",
        pictures="\n".join(_picture(name, arms) for name in drawn) or "<p>There is nothing to draw yet.</p>",
        setup=_setup(study, records),
        plotly=get_plotlyjs() if drawn else "",
        data=f"{{{data}}}".replace("<", "\\u003c"),
    )


def _has(name: str, arms: Sequence[Arm]) -> bool:
    """Whether there is anything to draw."""
    if name == "encoder":
        return any(part.encoder.bias.count for arm in arms for part in (arm.start, arm.end))
    if name == "decoder":
        return any(arm.end.decoder.bias.count for arm in arms)
    if name == "curves":
        return any(point.valid_elbo.count for arm in arms for point in arm.curve)
    return any(arm.elbo.count for arm in arms)


def _title(records: Sequence[Mapping[str, Any]], arms: Sequence[Arm]) -> str:
    data = ", ".join(_values(records, "config", "data"))
    return f"softhot: {len(arms)} ways to train a categorical VAE" + (f" on {data}" if data else "")


def _data(records: Sequence[Mapping[str, Any]]) -> str:
    described = "; ".join(_values(records, "data"))
    sizes = [
        f"{' or '.join(values)} {name}"
        for key, name in (("latents", "latent variables"), ("classes", "classes each"))
        if (values := _values(records, "config", key))
    ]
    parts = (f"Data: {described}" if described else "", ", ".join(sizes))
    return html.escape(" ".join(f"{part}." for part in parts if part))


def _status(study: Mapping[str, Any], records: Sequence[Mapping[str, Any]], arms: Sequence[Arm]) -> str:
    """What is unfinished, uneven or diverged."""
    remarks = []
    planned = study.get("planned")
    if isinstance(planned, int) and len(records) < planned:
        remarks.append(f"{len(records)} of {planned} planned runs have finished; the rest is missing below.")
    seeds = sorted({arm.seeds for arm in arms})
    if len(seeds) > 1:
        remarks.append(f"Arms have between {seeds[0]} and {seeds[-1]} seeds.")
    if arms and seeds[-1] == 1:
        remarks.append("With one seed, no difference between arms can be told from chance.")
    failed = sum(arm.failed for arm in arms)
    if failed:
        remarks.append(f"{failed} of {len(records)} runs diverged: they have no finite discrete ELBO.")
    if len(_values(records, "data")) > 1:
        remarks.append("The runs are of more than one data set, and an arm pools them.")
    return f"<p class='status' role='note'>{html.escape(' '.join(remarks))}</p>" if remarks else ""


def _table(arms: Sequence[Arm]) -> str:
    names, best = marks(arms), {arm.label for arm in [arms[0], *tied(arms)] if arm.elbo.count}
    headings = ["rank", "arm", "bounds", *(heading for heading, *_ in COLUMNS), "seeds"]
    head = "".join(
        f"<th scope='col' aria-sort='{'none' if i else 'ascending'}'><button type='button'>{heading}</button></th>"
        for i, heading in enumerate(headings)
    )
    rows = "\n".join(_row(rank, arm, names[arm.estimator], arm.label in best) for rank, arm in enumerate(arms, 1))
    return (
        "<p class='filter'><label for='filter'>Filter </label>"
        "<input id='filter' type='search' placeholder='gumbel exact' autocomplete='off'> "
        f"<span id='count' class='quiet' aria-live='polite'>{len(arms)} arms</span></p>\n"
        "<div class='scroll' role='region' aria-label='Table of arms' tabindex='0'><table class='ranking'>"
        "<caption>Means over seeds, in nats per image; gradients are those after training. Headings sort.</caption>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


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
    failed = f" ({arm.failed} diverged)" if arm.failed else ""
    cells.append(f"<td data-value='{arm.seeds}'>{arm.seeds}{failed}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _picture(name: str, arms: Sequence[Arm]) -> str:
    title, caption = CAPTIONS[name]
    label = html.escape(f"{title}. {caption} Drawn for {len(arms)} arms; the numbers are in the table above.")
    return (
        f"<figure aria-labelledby='{name}-title'><h3 id='{name}-title'>{html.escape(title)}</h3>"
        f"<figcaption>{html.escape(caption)}</figcaption>"
        f"<div class='plot' id='{name}' role='img' aria-label=\"{label}\"></div></figure>"
    )


def _setup(study: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    if study.get("command"):
        parts.append(f"<pre><code>{html.escape(str(study['command']))}</code></pre>")
    versions = [f"{name} {study[name]}" for name in ("torch", "python") if study.get(name)]
    written = [f"softhot {study['version']}"] if study.get("version") else []
    when = [f"created {study['created']}"] if study.get("created") else []
    parts.append(f"<p>{html.escape(', '.join([*written, *versions, *when]))}</p>")
    names = list(dict.fromkeys(name for record in records for name in record.get("config") or ()))
    values = ((html.escape(name), html.escape(", ".join(_values(records, "config", name)))) for name in names)
    settings = "\n".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in values)
    if settings:
        caption = "<caption>All values that the runs have.</caption>"
        table = f"<table class='settings'>{caption}<tbody>\n{settings}\n</tbody></table>"
        parts.append(f"<details><summary>Configuration</summary><div class='scroll'>{table}</div></details>")
    references = _values(records, "gradient", "reference")
    if references:
        draws, images = (" or ".join(_values(records, "gradient", name)) for name in ("draws", "images"))
        text = f"Gradients: {draws} draws on {images} images, against the true gradient: {'; '.join(references)}."
        parts.append(f"<p>{html.escape(text)}</p>")
    skipped: dict[str, list[str]] = {}
    for pair in study.get("skipped") or ():
        skipped.setdefault(str(pair.get("reason")), []).append(f"{pair.get('estimator')} + {pair.get('term')}")
    if skipped:
        count = sum(map(len, skipped.values()))
        reasons = _definitions((reason, ", ".join(pairs)) for reason, pairs in skipped.items())
        parts.append(f"<details><summary>{count} pairs that do not go together, and why</summary>{reasons}</details>")
    return "\n".join(parts)


def _definitions(items: Iterable[tuple[str, str]]) -> str:
    rows = "\n".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(meaning)}</dd>" for name, meaning in items)
    return f"<dl>\n{rows}\n</dl>"


def _values(records: Iterable[Mapping[str, Any]], *path: str) -> list[str]:
    """The different values at a place in the records, in order of appearance."""
    found: dict[str, None] = {}
    for record in records:
        value: Any = record
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            found[value if isinstance(value, str) else json.dumps(value)] = None
    return list(found)
