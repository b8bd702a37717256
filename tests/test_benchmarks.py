"""The benchmarks run where only torch is installed, write what they say, and refuse a contender that is wrong."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import (
    accuracy,
    estimator_peers,
    estimators,
    exact,
    machine,
    quadrature,
    report,
    sampler,
    together,
    train_step,
)
from benchmarks import trainers as training
from benchmarks.agreement import agree
from benchmarks.estimator_peers import TWINS, wrong
from benchmarks.peers import ours, torch_eager
from benchmarks.settings import Settings, launch
from benchmarks.timing import OURS, Call, Pace, measure, read_csv, summary
from softhot.estimators import StraightThrough
from softhot.functional import gumbel_softmax
from softhot.lab.training.learner import control_of

ROOT = Path(__file__).parent.parent
ALONE = """
import runpy, sys
sys.modules.update(jax=None, numpyro=None, pyro=None, tensorflow_probability=None)
sys.modules.update(pydrobert=None, reinmax=None, relaxit=None, storch=None)
for script in ("sampler", "exact", "accuracy", "train_step", "estimators", "together"):
    if script == "estimators":  # which draws nothing
        place = sys.argv.index("--picture")
        del sys.argv[place : place + 2]
    try:
        runpy.run_module(f"benchmarks.{script}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
"""
COSTS = {"task", "direction", "series", "shape", "rows", "classes", "contender", "ns_per_element", "ratio", "others"}
ERRORS = {"quantity", "contender", "draws", "estimate", "error", "standard_error", "seconds"}
COMMON = {"lower_quartile", "upper_quartile", "rounds", "machine", "device", "threads", "version"}


def test_the_scripts_write_their_files(tmp_path):
    options = ["--quick", "--threads", "1", "--picture", "html", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", ALONE, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peers = {"pyro": "pyro", "jax_jit": "jax", "tfp": "jax", "reinmax": "reinmax", "storchastic": "storch"}
    peers["numpyro"] = "jax"
    for peer, missing in peers.items():
        assert re.search(f"^{peer} is skipped: .*{missing}", done.stdout, re.MULTILINE)
    report.main(tmp_path, tmp_path / "performance.md")
    written = (tmp_path / "performance.md").read_text()
    for script, columns in (("sampler", COSTS), ("exact", COSTS), ("accuracy", ERRORS)):
        rows = read_csv(tmp_path / f"{script}-cpu.csv")
        assert set(rows[0]) == columns | COMMON
        assert all(row["threads"] == 1 and row["device"] == "cpu" for row in rows)
        assert "plotly" in (tmp_path / f"{script}-cpu.html").read_text()
        assert f"## {report.TITLES[script]} (cpu)" in written
    steps = read_csv(tmp_path / "estimators-cpu.csv")
    assert {"straight-through", "gumbel-rao"} <= {row["estimator"] for row in steps if row["task"] == estimators.STEP}
    assert "| straight-through | 1 |" in written
    taken = read_csv(tmp_path / "train_step-cpu.csv")
    assert {row["contender"] for row in taken if row["task"] == train_step.STEP} == {OURS, "torch", "torch, fused Adam"}
    assert {"networks", "Adam", "pixels"} <= {row["contender"] for row in taken if row["task"] == train_step.PARTS}
    assert "| 1000, 8 × 4 |" in written
    seeds = read_csv(tmp_path / "together-cpu.csv")
    assert {row["seeds"]: row["contender"] for row in seeds} == {1: together.ALONE, 4: together.TOGETHER}
    assert f"| seeds | {together.ALONE} | {together.TOGETHER} |" in written


@pytest.mark.parametrize("option", [{"threads": 0}, {"device": "tpu"}, {"picture": "gif"}])
def test_a_bad_option_is_refused(option, tmp_path):
    given = {"quick": True, "threads": None, "device": "cpu", "out": tmp_path, "picture": "svg"} | option
    with pytest.raises(ValueError, match=f"--{next(iter(option))} {next(iter(option.values()))} is n"):
        Settings.of(**given)


def test_a_refusal_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["accuracy", "--device", "tpu"])
    with pytest.raises(SystemExit, match="2"):
        launch(accuracy.main)
    assert capsys.readouterr().err == "--device tpu is neither cpu nor cuda.\n"


def too_warm(logits: Any, prior: Any, key: Any) -> Any:
    return gumbel_softmax(logits, tau=0.55)


def another_noise(logits: Any, prior: Any, key: Any) -> Any:
    return ((logits + torch.randn_like(logits)) / 0.5).softmax(-1)


def no_gradient_to_logits(logits: Any, prior: Any, key: Any) -> Any:
    return gumbel_softmax(logits.detach(), tau=0.5) + 0 * logits


def not_normalised(logits: Any, prior: Any, key: Any) -> Any:
    sample = gumbel_softmax(logits, tau=0.5)
    return sample + 1e-3 * torch.randn_like(sample)


@pytest.mark.parametrize("wrong", [too_warm, another_noise, no_gradient_to_logits, not_normalised])
def test_a_wrong_sampler_is_found(wrong):
    task = next(task for task in sampler.TASKS if task.name == "soft")
    assert agree([torch_eager("cpu")], [task], 100_000) == 2
    with pytest.raises(AssertionError, match="wrong, soft: "):
        agree([replace(ours("cpu"), name="wrong", functions={"soft": wrong})], [task], 100_000)


@pytest.mark.parametrize("name", ["KL", "KL, equal temperatures", "entropy"])
def test_a_wrong_exact_value_is_found(name):
    task = next(task for task in exact.TASKS if task.name == name)
    right = ours("cpu").functions[name]
    wrong = replace(ours("cpu"), name="wrong", functions={name: lambda *given: 1.0001 * right(*given)})
    with pytest.raises(AssertionError, match=f"wrong, {name}: "):
        agree([wrong], [task], 100)
    untrue = replace(task, mean=lambda *given: 1.1 * task.mean(*given))
    with pytest.raises(AssertionError, match=f"torch, {name}: "):
        agree([torch_eager("cpu")], [untrue], 10_000)


@pytest.mark.parametrize("name", TWINS)
def test_a_wrong_gradient_is_found(name):
    right = estimator_peers.ours()
    assert wrong(right, name, 2000) is None
    doubled = {name: lambda f, logits: 1.5 * right.gradients[name](f, logits)}
    assert "standard errors" in wrong(replace(right, gradients=doubled), name, 10_000)


def test_a_package_that_is_wrong_is_named_and_not_timed(monkeypatch, tmp_path, capsys):
    right = estimator_peers.ours()
    biased = {"reinmax": lambda f, logits: 2 * right.gradients["reinmax"](f, logits)}
    monkeypatch.setattr(machine, "restrict", lambda threads: 1)  # leave this process its cores
    monkeypatch.setattr(estimators, "PEERS", (lambda: replace(right, name="Other", gradients=biased),))
    monkeypatch.setattr(estimators, "ESTIMATORS", {estimators.BASE: StraightThrough})
    estimators.main(quick=True, threads=1, out=tmp_path)
    assert "Other is not timed for reinmax, as it gives another gradient: component" in capsys.readouterr().out
    last = read_csv(tmp_path / "estimators-cpu.csv")[-1]
    assert (last["contender"], last["milliseconds"]) == ("Other", "")
    report.main(tmp_path, tmp_path / "performance.md")
    assert "another gradient" in (tmp_path / "performance.md").read_text()


def test_a_timed_step_moves_what_the_estimator_learns():
    torch.manual_seed(0)
    learned = {}
    for name, each in estimators._chosen().items():
        before = [weight.detach().clone() for weight in control_of(each).parameters()]
        estimators.steps({name: each}, (8,), 4, "cpu")[name].run()
        if before:
            after = control_of(each).parameters()
            learned[name] = any((one != other).any() for one, other in zip(before, after, strict=True))
    assert learned == {"rebar": True, "relax": True, "rodeo": True}


def two_updates(trainer: training.Trainer) -> training.Trainer:
    return replace(trainer, step=Call(lambda: [trainer.step.run() for _ in range(2)], lambda _: None))


def test_a_wrong_training_step_is_found(tmp_path):
    settings = Settings(quick=True, threads=1, device="cpu", out=tmp_path, picture="svg")
    right, torch_plain = training.ours("cpu"), training.plain("cpu")

    def found(begin: Any) -> str | None:
        return train_step.wrong(replace(torch_plain, begin=begin), right, training.GUMBEL, settings)

    assert found(torch_plain.begin) is None
    assert "standard errors" in found(lambda problem: torch_plain.begin(replace(problem, x=1 - problem.x)))
    assert "standard errors" in found(lambda problem: right.begin(replace(problem, estimator=training.REINMAX)))
    assert "first update is 0.002" in found(lambda problem: two_updates(torch_plain.begin(problem)))


@pytest.mark.parametrize("quantity", accuracy.QUANTITIES, ids=lambda quantity: quantity.name)
def test_a_wrong_truth_is_found(quantity):
    truth = quantity.truth()
    draws = torch.full((100,), truth)
    accuracy.check(quantity, truth, draws)
    with pytest.raises(AssertionError):
        accuracy.check(quantity, truth * (1 + 1e-12), draws)
    with pytest.raises(AssertionError, match="standard errors"):
        accuracy.check(quantity, truth, draws + 1.0 + 0.1 * torch.randn(100))


def test_quadrature_knows_closed_forms():
    uniform = quadrature.entropy([0.0, 0.0], 1.0)  # of two classes at temperature 1: a uniform variable
    assert uniform == pytest.approx(0.0, abs=1e-14)
    assert quadrature.kl([0.3, -1.0, 0.2], 0.7, [0.3, -1.0, 0.2], 0.7) == pytest.approx(0.0, abs=1e-14)


def test_contenders_take_turns():
    order: list[str] = []
    calls = {name: Call(lambda name=name: order.append(name), lambda _: None) for name in ("softhot", "other")}
    seconds = measure(calls, Pace(rounds=4, fewest=4, budget=0.0, shortest=0.0))
    assert order[4:] == ["softhot", "other", "other", "softhot"] * 2
    assert [row["rounds"] for row in summary(seconds, 1)] == [4, 4]


@pytest.mark.parametrize(
    ("said", "results", "tasks"),
    [
        (r"takes ([\d.]+) to ([\d.]+) times as long", "exact", ("KL", "entropy")),
        (r"gumbel_softmax` ([\d.]+) to ([\d.]+) times as long as", "sampler", ("soft", "hard")),
    ],
)
def test_the_pages_say_what_was_measured(said, results, tasks):
    home = Path(__file__).parents[1]
    with (home / "benchmarks" / "results" / f"{results}-cpu.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["contender"] == "torch" and row["series"] == "shapes"]
    ratios = [float(row["ratio"]) for row in rows if row["task"].startswith(tasks)]
    found = [match for name in ("README.md", "CHANGELOG.md") for match in re.findall(said, (home / name).read_text())]
    assert found
    assert set(found) == {tuple(f"{bound:.2g}" for bound in (min(ratios), max(ratios)))}
