"""The report of a study: one HTML page that needs nothing else, not even a network.

The page is the template ``page.html`` beside this file, filled in: the conclusion in words, a table with a row for each
arm, the pictures of :mod:`softhot.lab.report.exhibits`, what the models draw, and what it takes to repeat the study.
Its content security policy forbids it to load anything. Plotly, which draws the pictures, is in it compressed, and is
unpacked when the first of them comes into sight.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from string import Template
from typing import Any

from softhot.lab.report.conclusion import conclude
from softhot.lab.report.exhibits import draw, exhibit
from softhot.lab.report.gallery import gallery
from softhot.lab.report.ranking import ranking
from softhot.lab.study.summary import Arm, summarise

__all__ = ["render"]


def render(study: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """The page of a study and its records; runs may be missing.

    Arguments:
        study: as :func:`softhot.lab.study.archive.describe` gives it.
        records: of its runs.
    """
    arms = summarise(records, study.get("choices") or ())
    drawn = draw(arms)
    data = ",".join(f'"{name}":{figure.to_json()}' for name, figure in drawn.items())
    pictures = [exhibit(name, figure, arms) for name, figure in drawn.items()]
    return Template(_part("page.html")).substitute(
        title=html.escape(study.get("title") or _title(records, arms)),
        described=_data(records),
        status=_status(study, records, arms),
        conclusion="\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in conclude(arms)),
        table=ranking(arms) if arms else "<p>No run has finished yet.</p>",
        pictures="\n".join([*pictures, gallery(arms, records)]) if arms else "<p>There is nothing to draw yet.</p>",
        setup=_setup(study, records),
        plotly=_plotly() if drawn else "",
        data=f"{{{data}}}".replace("<", "\\u003c"),
        script=_part("page.js"),
    )


def _part(name: str) -> str:
    return resources.files("softhot.lab.report").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii")


def _title(records: Sequence[Mapping[str, Any]], arms: Sequence[Arm]) -> str:
    data = ", ".join(_values(records, "config", "data"))
    what = arms[0].label if len(arms) == 1 else f"{len(arms)} ways to train a categorical VAE"
    return f"softhot: {what}" + (f" on {data}" if data else "")


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
    """What is unfinished, uneven, diverged or broken."""
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
    unscored = sum(arm.unscored for arm in arms)
    if unscored:
        remarks.append(f"{unscored} of {len(records)} runs have no scores on the test images.")
    if study.get("damaged"):
        remarks.append(f"Left out, as they are broken: {', '.join(study['damaged'])}.")
    if len(_values(records, "data")) > 1:
        remarks.append("The runs are of more than one data set, and an arm pools them.")
    return f"<p class='status' role='note'>{html.escape(' '.join(remarks))}</p>" if remarks else ""


def _setup(study: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    made = {"The command": study.get("command"), "The study, study.toml": study.get("toml")}
    parts = [_code(name, str(text)) for name, text in made.items() if text]
    versions = [f"{name} {study[name]}" for name in ("torch", "python") if study.get(name)]
    written = [f"softhot {study['version']}"] if study.get("version") else []
    if known := [*written, *versions]:
        parts.append(f"<p>{html.escape(', '.join(known))}</p>")
    names = list(dict.fromkeys(name for record in records for name in record.get("config") or ()))
    values = ((html.escape(name), html.escape(", ".join(_values(records, "config", name)))) for name in names)
    settings = "\n".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in values)
    if settings:
        caption = "<caption>All values that the runs have.</caption>"
        table = f"<table class='settings'>{caption}<tbody>\n{settings}\n</tbody></table>"
        parts.append(f"<details><summary>Configuration</summary>{table}</details>")
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


def _code(name: str, text: str) -> str:
    return f"<p>{name}:</p><pre><code>{html.escape(text.strip())}</code></pre>"


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
