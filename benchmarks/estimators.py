"""Estimators: a training step of a categorical VAE with each, and a gradient beside other packages' that have it too.

The step is that of the VAE 784-512-256-(30 x 10)-256-512-784 with a batch of 100, from zeroed gradients to Adam's
update, and to that of what the estimator learns; of every estimator that evaluates f at most twelve times. A package's
gradient is checked before it is timed.
Run: python -m benchmarks.estimators
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.calls import ending
from benchmarks.contest import undisturbed
from benchmarks.estimator_peers import PEERS, Library, ours, quadratic, wrong
from benchmarks.settings import RESULTS, Device, Out, Quick, Settings, Threads, console, launch
from benchmarks.timing import OURS, Call, Row, plain, quartiles, shorten
from softhot.estimators import ESTIMATORS, Estimator, GumbelRao
from softhot.lab.config import Config
from softhot.lab.files import write_csv
from softhot.lab.training.learner import Learner
from softhot.problems.vae import CategoricalVAE

__all__ = ["BASE", "MOST", "main"]

BASE = "straight-through"
MOST = 12  # evaluations of f
BATCH, LATENTS, CLASSES = 100, 30, 10
STEP, GRADIENT = "training step", "gradient"


def main(quick: Quick = False, threads: Threads = None, device: Device = "cpu", out: Out = RESULTS) -> None:
    """Time training steps and gradients."""
    settings, terminal = Settings.of(quick, threads, device, out, "html"), console()
    terminal.print(f"{settings.machine}, {settings.device}, {settings.threads} threads")
    torch.manual_seed(0)
    batch, hidden = (10, (32,)) if quick else (BATCH, (512, 256))
    rows = _rows(STEP, "", steps(_chosen(), hidden, batch, device), BASE, settings, dict.fromkeys(ESTIMATORS, ""))
    warnings.simplefilter("ignore")  # what packages say to their own use of torch
    libraries, notes = [ours()], []
    for maker in PEERS:
        try:
            libraries.append(maker())
        except ImportError as error:
            terminal.print(f"{maker.__name__} is skipped: {error}")
    for name in libraries[0].gradients:
        able = {library.name: library for library in libraries if name in library.gradients}
        for library in list(able.values()):
            if (why := wrong(library, name, settings.draws // 5)) is not None:
                if library.name == OURS:
                    raise AssertionError(f"{OURS}, {name}: {why}")
                terminal.print(f"{library.name} is not timed for {name}, as it gives another gradient: {why}")
                notes.append(_blank(name, able.pop(library.name)))
        if len(able) == 1:
            continue
        logits = torch.randn(batch, LATENTS, CLASSES, device=device)
        calls = gradients(name, able, logits)
        rows += _rows(GRADIENT, name, calls, OURS, settings, {each.name: each.version for each in able.values()})
    rows += [note | _about(settings) for note in notes]
    for row in rows:
        terminal.print(" ".join(str(row[key]) for key in ("task", "estimator", "contender", "evaluations")), end=": ")
        terminal.print("another gradient" if row["milliseconds"] == "" else f"{_show(row)}")
    write_csv(settings.file("estimators", "csv"), plain(rows))


def _chosen() -> dict[str, Estimator]:
    """Estimators by name, with their defaults, where that is not too much work."""
    kinds = {name: kind for name, kind in ESTIMATORS.items() if not kind.mixture}  # of whose q the model is not
    made = {
        name: GumbelRao(draws=100) if kind is GumbelRao else kind.of_size(LATENTS, CLASSES)
        for name, kind in kinds.items()
    }
    return {
        name: each
        for name, each in made.items()
        if each.classes in (None, CLASSES) and each.evaluations(LATENTS, CLASSES) <= MOST
    }


def steps(made: Mapping[str, Estimator], hidden: tuple[int, ...], batch: int, device: str) -> dict[str, Call]:
    """A training step with each estimator, of a model of its own."""
    x = (torch.rand(batch, 784, device=device) < 0.3).float()
    return {name: _step(each, hidden, x) for name, each in made.items()}


def _step(estimator: Estimator, hidden: tuple[int, ...], x: Tensor) -> Call:
    model = CategoricalVAE(784, LATENTS, CLASSES, hidden).to(x.device)
    optimiser = torch.optim.Adam(model.parameters())
    learner = Learner(estimator, Config().control_learning_rate)
    learner.control.to(x.device)

    def run() -> None:
        optimiser.zero_grad()
        (-estimator.learn(model.log_likelihood(x), model.posterior(x)).mean()).backward()
        optimiser.step()
        learner.step()

    return Call(run, *ending(x))


def gradients(name: str, libraries: Mapping[str, Library], logits: Tensor) -> dict[str, Call]:
    """A gradient of each package."""
    f = quadratic(*logits.shape[-2:])
    leaf = logits.requires_grad_()
    return {
        each.name: Call(lambda each=each: each.gradients[name](f, leaf), *ending(logits))  # type: ignore[misc]
        for each in libraries.values()
    }


def _rows(
    task: str, estimator: str, calls: Mapping[str, Call], base: str, settings: Settings, versions: Mapping[str, str]
) -> list[Row]:
    pace = replace(settings.pace, budget=len(calls) * settings.pace.budget / 3)  # for so many
    others, seconds = undisturbed(calls, settings, pace)
    unit = statistics.median(seconds[base])
    rows = []
    for name, each in seconds.items():
        low, middle, high = (1e3 * value for value in quartiles(each))
        kind = estimator or name
        rows.append(
            {
                "task": task,
                "estimator": kind,
                "contender": name if estimator else OURS,
                "evaluations": "" if estimator else ESTIMATORS[name]().evaluations(LATENTS, CLASSES),
                "milliseconds": middle,
                "lower_quartile": low,
                "upper_quartile": high,
                "ratio": statistics.median(each) / unit,
                "rounds": len(each),
                "others": max(others, 0.0),
                "version": versions[name],
            }
            | _about(settings)
        )
    return rows


def _blank(estimator: str, library: Library) -> Row:
    """The row of a package that gives another gradient."""
    empty = dict.fromkeys(("evaluations", "milliseconds", "lower_quartile", "upper_quartile", "ratio", "rounds"), "")
    given = {"task": GRADIENT, "estimator": estimator, "contender": library.name}
    return {**given, **empty, "others": 0.0, "version": library.version}


def _about(settings: Settings) -> Row:
    return {"machine": settings.machine, "device": settings.device, "threads": settings.threads}


def _show(row: Row) -> str:
    return f"{shorten(row['milliseconds'])} ms, ratio {shorten(row['ratio'])}"


if __name__ == "__main__":
    launch(main)
