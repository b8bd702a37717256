"""Descents of problems with known truth: what they do, what they count, and how they go on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softhot.estimators import ESTIMATORS, Exact, Rebar
from softhot.lab.experiments.optimise import Descent, Plan, execute, records
from softhot.lab.figures.optimise import optimise_figure
from softhot.lab.files import read_json
from softhot.problems import PROBLEMS, Polynomial, Quadratic, problem

SHORT = {"steps": 4, "batch_size": 3, "seeds": 2}
TOYS = ["rebar", "shared-logit", "quadratic-programme"]


def unsuited(name: str, toy: str) -> bool:
    return name in ("vimco", "mixture-of-discrete-flows") or (name == "disarm" and problem(toy).classes != 2)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_descends_or_is_refused(tmp_path: Path, name: str) -> None:
    for toy in TOYS:
        if unsuited(name, toy):
            with pytest.raises(ValueError, match=f"estimator '{name}' and problem '{toy}' do not go together"):
                Plan(toy, (name,))
            continue
        (one,) = execute(Plan(toy, (name,), **SHORT), tmp_path / toy)
        assert (one.estimator, one.steps) == (name, [0, 1, 2, 3, 4])
        losses = torch.tensor(one.losses)
        assert losses.shape == (5, 2)
        assert losses.isfinite().all()
        assert (losses[1:] != losses[0]).any()


def test_the_exact_descent_is_that_of_the_exact_gradient(tmp_path: Path) -> None:
    (one,) = execute(Plan("polynomial-four", ("exact",), steps=7, learning_rate=0.1, seeds=2, every=3), tmp_path)
    toy = problem("polynomial-four")
    leaf = toy.start(1).requires_grad_()
    optimiser = torch.optim.Adam([leaf], lr=0.1)
    expected = [toy.value(leaf).item()]
    for _ in range(7):
        leaf.grad = toy.gradient(leaf)
        optimiser.step()
        expected.append(toy.value(leaf).item())
    assert one.steps == [0, 3, 6, 7]
    assert one.evaluations is None
    assert [each[1] for each in one.losses] == pytest.approx([expected[step] for step in one.steps], abs=1e-6)


@pytest.mark.parametrize("toy", ["rebar", "shared-logit", "polynomial-3"])
def test_a_gradient_without_noise_or_bias_leads_where_the_exact_one_does(tmp_path: Path, toy: str) -> None:
    """Where f is a sum over variables, local expectation has no noise."""
    plan = Plan(toy, ("exact", "local-expectation", "straight-through"), steps=20, batch_size=2, seeds=2)
    exact, local, biased = (torch.tensor(one.losses) for one in execute(plan, tmp_path))
    torch.testing.assert_close(local, exact)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(biased, exact)


@pytest.mark.parametrize("name", ["straight-through", "leave-one-out", "local-expectation", "rodeo", "exact"])
def test_evaluations_are_those_that_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plan = Plan("polynomial", (name,), **SHORT)
    seen: list[int] = []
    cost = Polynomial.f

    def counted(self: Polynomial, z: Tensor) -> Tensor:
        seen.append(z.numel() // (128 * 2))
        return cost(self, z)

    monkeypatch.setattr(Polynomial, "f", counted)
    (one,) = execute(plan, tmp_path)
    made = sum(seen) / plan.seeds
    assert (one.evaluations or [0])[-1] == made
    assert (made == 0) == (name == "exact")


def test_a_control_is_learned_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rebar = Rebar()
    before = [parameter.clone() for parameter in rebar.relaxation.parameters()]
    monkeypatch.setattr(Plan, "estimator", lambda self, name: rebar)
    list(execute(Plan("rebar", ("rebar",), **SHORT), tmp_path))
    assert all(not torch.equal(a, b) for a, b in zip(before, rebar.relaxation.parameters(), strict=True))


# going on


def test_what_the_folder_holds_is_not_made_again(tmp_path: Path) -> None:
    plan = Plan("rebar", ("exact", "zgr", "reinmax"), **SHORT)
    whole = list(execute(plan, tmp_path / "whole"))
    stopped = execute(plan, tmp_path / "stopped")
    assert [next(stopped), next(stopped)][1].losses == whole[1].losses
    stopped.close()
    calls: list[tuple[str, int]] = []
    again = list(execute(plan, tmp_path / "stopped", lambda name, steps: calls.append((name, steps))))
    assert [one.losses for one in again] == [one.losses for one in whole]
    assert calls == [("exact", 4), ("zgr", 4), *[("reinmax", 1)] * 4]
    assert read_json(tmp_path / "stopped/losses.json") == json.loads(json.dumps(records(plan, again)))
    # the same whatever stands beside it, and other settings are other descents
    (alone,) = execute(replace(plan, estimators=("zgr",)), tmp_path / "alone")
    assert alone.losses == whole[1].losses
    (other,) = execute(replace(plan, estimators=("zgr",), learning_rate=0.1), tmp_path / "alone")
    assert other.losses != alone.losses


def test_seeds_have_starts_and_noise_of_their_own(tmp_path: Path) -> None:
    polynomial, shared = (
        next(iter(execute(Plan(toy, ("reinmax",), **SHORT), tmp_path / toy))) for toy in ("polynomial", "shared-logit")
    )
    assert polynomial.losses[0][0] != polynomial.losses[0][1]
    assert shared.losses[0][0] == shared.losses[0][1]
    assert shared.losses[-1][0] != shared.losses[-1][1]
    assert polynomial.deviation[-1] == pytest.approx(
        torch.tensor(polynomial.losses[-1], dtype=torch.float64).std().item()
    )


# the picture


def descent(name: str, evaluations: list[int] | None, *losses: list[float]) -> Descent:
    return Descent(name, [0, 5, 10], evaluations, list(losses), 1.0)


def test_the_picture_shows_what_is_above_the_minimum() -> None:
    least = PROBLEMS["rebar"].minimum() or 0.0
    exact = descent("exact", None, [least + 0.04], [least + 0.02], [least + 0.01])
    noisy = descent("zgr", [0, 50, 100], [least + 0.04], [least + 0.03], [least])  # what is not above cannot be drawn
    figure = optimise_figure("rebar", [exact, noisy])
    lines = {(each.name, each.xaxis): each for each in figure.data}
    assert [*lines[("exact", "x")].y] == pytest.approx([0.04, 0.02, 0.01])
    assert [*lines[("zgr", "x2")].x] == [50]
    assert [*lines[("exact", "x2")].x] == []
    assert figure.layout.yaxis.type == figure.layout.xaxis2.type == "log"
    assert figure.layout.xaxis.type is None


def test_the_picture_has_a_band_over_seeds_and_a_linear_axis_where_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PROBLEMS, "large", Quadratic(latents=9))
    figure = optimise_figure("large", [descent("zgr", [0, 5, 10], [1.0, 3.0], [-1.0, 0.0], [-2.0, 0.0])])
    band, line = (each for each in figure.data if each.xaxis == "x")
    assert [*band.y] == [3.0, 0.0, 0.0, -2.0, -1.0, 1.0]
    assert [*line.y] == [2.0, -0.5, -1.0]
    assert figure.layout.yaxis.type is None


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: Plan("rebar", ()), "no estimator is given"),
    (lambda: Plan("reber", ("zgr",)), "did you mean 'rebar'"),
    (lambda: Plan("rebar", ("zg",)), "did you mean 'zgr'"),
    (lambda: Plan("rebar", ("zgr",), optimiser="sgd"), "unknown optimiser 'sgd'"),
    (lambda: Plan("rebar", ("zgr",), seeds=0), "seeds=0 leaves nothing to do"),
    (lambda: Plan("rebar", ("zgr",), every=0), "every=0 leaves nothing to do"),
    (lambda: Plan("rebar", ("zgr",), learning_rate=math.nan), "learning_rate=nan is not a positive"),
    (lambda: Plan("rebar", ("gumbel-rao",), temperature=-1.0), "temperature=-1.0 is not a positive"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_divergence_is_told_and_broken_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("softhot.lab.experiments.optimise._losses", lambda toy, parameters: [1.0, math.nan])
        with pytest.raises(ValueError, match="zgr diverged by step 2; use a smaller learning rate"):
            list(execute(Plan("rebar", ("zgr",), every=2), tmp_path))
    (tmp_path / "losses.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        list(execute(Plan("rebar", ("zgr",), **SHORT), tmp_path))


def test_exact_takes_the_problem_beyond_enumeration() -> None:
    assert isinstance(Plan("polynomial", ("exact",)).estimator("exact"), Exact)
