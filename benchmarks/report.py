"""docs/performance.md, written from the CSV files in benchmarks/results.

Run: python -m benchmarks.report
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from benchmarks.agreement import FALSE_ALARM
from benchmarks.contest import DISTURBED, SHAPES
from benchmarks.estimators import CLASSES, LATENTS, MOST
from benchmarks.peers import TEMPERATURE
from benchmarks.settings import RESULTS, TRIES, launch
from benchmarks.timing import OURS, Row, read_csv, shorten
from benchmarks.train_step import PARTS, STEP
from benchmarks.trainers import GUMBEL
from softhot.estimators import ESTIMATORS, Estimator
from softhot.lab.files import write_text

__all__ = ["main"]

HERE = Path(__file__).parent
TITLES = {
    "sampler": "Samples",
    "exact": "Exact values beside one draw",
    "accuracy": "Accuracy against time",
    "estimators": "Estimators of the gradient",
    "train_step": "A training step beside other libraries",
    "together": "Many seeds at once",
}
NOTES = {
    "sampler": "`soft` and `hard` are gumbel_softmax; `rsample` and `log_prob` are the distributions'.",
    "exact": "softhot's are exact. The others' are one draw of an estimate with that mean, an answer of another kind.",
    "accuracy": "One variable of ten classes, without gradients. Errors are against quadrature in extended precision\n"
    "that shares no code with softhot (`benchmarks/quadrature.py`). An estimate's error is one draw from a law whose\n"
    "standard deviation is the standard error.",
    "estimators": "The step trains the categorical VAE 784-512-256-(30 x 10)-256-512-784 with a batch of 100; Adam's\n"
    "update is part of it. The gradient is that of a cheap quadratic f, in logits of 100 x 30 x 10, by packages that\n"
    "have the same estimator. Their means are checked first; one whose mean gradient is another one is not timed.",
    "train_step": "The VAE 784-512-256-(N x K)-256-512-784 with Bernoulli pixels and the categorical divergence to a\n"
    "uniform prior, from zeroed gradients to Adam's update: by softhot's own pieces, by plain torch with\n"
    "`torch.nn.functional.gumbel_softmax` or the package `reinmax`, and by the SVI of Pyro and of NumPyro (compiled\n"
    "by `jax.jit`). All start from the same weights with the same images; losses, gradients and first updates are\n"
    "checked against softhot's. \"Fused Adam\" is torch's option `fused=True`, which softhot sets: the same update in\n"
    "one pass. softhot also looks for grey pixels at every step; the others do not. Ratios are taken within a round.",
    "together": "A training step of `softhot compare`'s default run, the categorical VAE 64-64-(4 x 4)-64-64 with a\n"
    "batch of 100, for as many seeds: as one program, and one after the other. The numbers are the same.",
}


def main(
    results: Annotated[Path, typer.Option(help="Folder of the CSV files.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="File to write.")] = HERE.parent / "docs" / "performance.md",
) -> None:
    """Write docs/performance.md."""
    files = {path: read_csv(path) for script in TITLES for path in sorted(results.glob(f"{script}-*.csv"))}
    if not files:
        raise ValueError(f"there is no CSV file in {str(results)!r}; run python -m benchmarks.sampler first.")
    template = Template((HERE / "performance.template.md").read_text(encoding="utf-8"))
    text = template.substitute(
        machines=_machines(files.values()),
        false_alarm=f"{FALSE_ALARM:g}",
        disturbed=DISTURBED,
        tries=TRIES,
        temperature=TEMPERATURE,
        sections="\n\n".join(_section(path, rows) for path, rows in files.items()),
    )
    write_text(out, text)
    print(f"wrote {out}")


def _machines(files: Iterable[Sequence[Row]]) -> str:
    """What was measured, and with which versions."""
    rows = [row for each in files for row in each]
    machines = dict.fromkeys(f"{row['machine']}, {row['device']}, {row['threads']} threads" for row in rows)
    versions = dict.fromkeys(part for row in rows for part in str(row["version"]).split(", ") if part)
    return "\n".join(f"- {line}" for line in [*machines, ", ".join(versions)])


def _section(path: Path, rows: Sequence[Row]) -> str:
    script, device = path.stem.rsplit("-", 1)
    picture = path.with_suffix(".svg")
    parts = [f"## {TITLES[script]} ({device})", NOTES[script]]
    if picture.exists():
        parts.append(f"![{TITLES[script]}](../benchmarks/results/{picture.name})")
    kinds = {"accuracy": _errors, "estimators": _estimators, "together": _seeds, "train_step": _training}
    tables = kinds.get(script, _costs)
    return "\n\n".join([*parts, *tables(rows)])


def _costs(rows: Sequence[Row]) -> Iterable[str]:
    """The range of the ratios, then a table for each task and direction: shapes by contenders."""
    shown = [row for row in rows if row["series"] == SHAPES]
    tasks = list(dict.fromkeys((row["task"], row["direction"]) for row in shown))
    names = list(dict.fromkeys(row["contender"] for row in shown if row["contender"] != OURS))
    summary = []
    for task, direction in tasks:
        own = [row for row in shown if (row["task"], row["direction"]) == (task, direction)]
        ranges = [_range(row for row in own if row["contender"] == name) for name in names]
        summary.append([f"{task}, {direction}", *ranges])
    others = max(float(row["others"]) for row in rows)
    yield f"Other processes used at most {others:.2f} cores during any case."
    yield f"Smallest and largest ratio to {OURS} over the shapes:\n\n" + _markdown(["task", *names], summary)
    for task, direction in tasks:
        own = [row for row in shown if (row["task"], row["direction"]) == (task, direction)]
        columns = list(dict.fromkeys(row["contender"] for row in own))
        lines = []
        for shape, group in groupby(own, key=lambda row: row["shape"]):
            cells = {row["contender"]: _cell(row) for row in group}
            lines.append([str(shape).replace("x", " × "), *(cells.get(name, "") for name in columns)])
        yield f"**{task}, {direction}**\n\n" + _markdown(["shape", *columns], lines)


def _range(rows: Iterable[Row]) -> str:
    ratios = [float(row["ratio"]) for row in rows]
    return f"{shorten(min(ratios))} to {shorten(max(ratios))}" if ratios else ""


def _cell(row: Row) -> str:
    time = shorten(row["ns_per_element"])
    return time if row["contender"] == OURS else f"{time} ({shorten(row['ratio'])})"


def _errors(rows: Sequence[Row]) -> Iterable[str]:
    for quantity, group in groupby(rows, key=lambda row: row["quantity"]):
        lines = [
            [
                row["contender"],
                f"{row['draws']:,}" if row["draws"] else "",
                f"{row['error']:.1e}",
                f"{row['standard_error']:.1e}" if row["draws"] else "",
                shorten(1e3 * row["seconds"]),
            ]
            for row in group
        ]
        columns = ["way", "draws", "error, nats", "standard error", "milliseconds"]
        yield f"**{quantity}**\n\n" + _markdown(columns, lines)


def _estimators(rows: Sequence[Row]) -> Iterable[str]:
    """A training step with each estimator, then the gradient of each package."""
    lines = [
        [row["estimator"], str(row["evaluations"]), shorten(row["milliseconds"]), shorten(row["ratio"])]
        for row in rows
        if row["evaluations"] != ""
    ]
    others = max(float(row["others"]) for row in rows)
    yield f"Other processes used at most {others:.2f} cores during any of the two."
    columns = ["estimator", "evaluations of f", "milliseconds", "ratio to straight-through"]
    yield "**A training step**\n\n" + _markdown(columns, lines)
    yield f"Not in the table: {_left_out({line[0] for line in lines})}."
    compared = [row for row in rows if row["evaluations"] == ""]
    names = list(dict.fromkeys(row["contender"] for row in compared))
    lines = []
    for kind in dict.fromkeys(row["estimator"] for row in compared):
        cells = {row["contender"]: _taken(row) for row in compared if row["estimator"] == kind}
        lines.append([kind, *(cells.get(name, "") for name in names)])
    yield f"**A gradient**, milliseconds (ratio to {OURS})\n\n" + _markdown(["estimator", *names], lines)


def _left_out(shown: Iterable[str]) -> str:
    """The estimators without a training step, by the reason."""
    found: dict[str, list[str]] = {}
    for name, kind in ESTIMATORS.items():
        if name not in shown:
            found.setdefault(_reason(kind), []).append(f"`{name}`")
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in found.items())


def _reason(kind: type[Estimator]) -> str:
    if kind.mixture:
        return "it needs a model whose posterior is a mixture"
    one = kind()
    if one.classes not in (None, CLASSES):
        return f"for {one.classes} classes alone"
    return f"more than {MOST} evaluations of f" if one.evaluations(LATENTS, CLASSES) > MOST else "not measured yet"


def _training(rows: Sequence[Row]) -> Iterable[str]:
    """The steps of each estimator by shape and contender, then where softhot's time goes."""
    others = max(float(row["others"]) for row in rows)
    yield f"Other processes used at most {others:.2f} cores during any case."
    steps = [row for row in rows if row["task"] == STEP]
    faster = dict.fromkeys(f"`{row['contender']}`" for row in steps if float(row["ratio"]) < 1)
    if faster:
        yield f"Faster than {OURS} in some of the rows: {'; '.join(faster)}."
    for estimator, group in groupby(steps, key=lambda row: row["estimator"]):
        own = list(group)
        names = list(dict.fromkeys(row["contender"] for row in own))
        lines = []
        for case, cases in groupby(own, key=_case):
            cells = {row["contender"]: _paired(row) for row in cases}
            lines.append([case, *(cells.get(name, "") for name in names)])
        yield (
            f"**{estimator}**, milliseconds (ratio to {OURS}, its quartiles); for {OURS} also thousands of images per "
            "second\n\n" + _markdown(["batch, N × K", *names], lines)
        )
    alone = [row for row in rows if row["task"] == PARTS]
    names = list(dict.fromkeys(row["contender"] for row in alone if row["contender"] != OURS))
    lines = []
    for case, cases in groupby(alone, key=_case):
        found = {row["contender"]: row for row in cases}
        whole, each = found.pop(OURS)["milliseconds"], [found[name]["milliseconds"] for name in names]
        rates = [shorten(1e3 * found[name]["work"] / found[name]["milliseconds"]) for name in ("networks", "Adam")]
        shares = [f"{shorten(time)} ({100 * time / whole:.0f} %)" for time in [*each, whole - sum(each)]]
        lines.append([case, shorten(whole), *shares, *rates])
    yield (
        f"**Where the time of {OURS}'s step goes** ({GUMBEL}): its parts, each timed alone forward and backward, in "
        "milliseconds and as a share. `networks` are the matrix products with the layers between them, `pixels` the "
        "likelihood and the search for grey pixels; what is left is the way from one to the next. Nothing takes less "
        "than its matrix products and one pass over what Adam keeps, in the units of the last two columns.\n\n"
        + _markdown(["batch, N × K", "step", *names, "left", "networks, GFLOP/s", "Adam, GB/s"], lines)
    )


def _case(row: Row) -> str:
    return f"{row['batch']}, {row['latents']} × {row['classes']}"


def _paired(row: Row) -> str:
    time = shorten(row["milliseconds"])
    if row["contender"] == OURS:
        return f"{time}; {shorten(row['examples_per_second'] / 1e3)}"
    return f"{time} ({shorten(row['ratio'])}, {shorten(row['ratio_low'])} to {shorten(row['ratio_high'])})"


def _seeds(rows: Sequence[Row]) -> Iterable[str]:
    """A table for each estimator: the time of a step, and how many times that of one seed it is."""
    yield f"Other processes used at most {max(float(row['others']) for row in rows):.2f} cores meanwhile."
    for name, group in groupby(rows, key=lambda row: row["estimator"]):
        cells: dict[tuple[int, str], str] = {}
        for row in group:
            cells[row["seeds"], row["contender"]] = f"{shorten(row['milliseconds'])} ({shorten(row['ratio'])})"
        ways = list(dict.fromkeys(way for _, way in cells))
        lines = [
            [str(count), *(cells.get((count, way), "") for way in ways)] for count in dict.fromkeys(n for n, _ in cells)
        ]
        yield f"**{name}**, milliseconds (ratio to one seed)\n\n" + _markdown(["seeds", *ways], lines)


def _taken(row: Row) -> str:
    if row["milliseconds"] == "":
        return "another gradient"
    time = shorten(row["milliseconds"])
    return time if row["contender"] == OURS else f"{time} ({shorten(row['ratio'])})"


def _markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *lines))


if __name__ == "__main__":
    launch(main)
