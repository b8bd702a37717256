"""softhot infer: every method is scored exactly, what is kept is not made again, and bad input is one line."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softhot.cli import main
from softhot.lab.experiments import infer, posteriors
from softhot.lab.experiments.infer import Approximation, execute, marginals, records
from softhot.lab.experiments.posteriors import METHODS, Plan
from softhot.lab.figures.infer import infer_figure
from tests.test_networks import HOUSE, divergence, every, house

INF = math.inf
SHORT = {"steps": 4, "batch_size": 2, "restarts": 2, "components": 8}

# two states each, and nothing impossible
PAIR = """
variable A { type discrete [ 2 ] { yes, no }; }
variable B { type discrete [ 2 ] { yes, no }; }
variable C { type discrete [ 2 ] { yes, no }; }
probability ( A ) { table 0.4, 0.6; }
probability ( B | A ) { (yes) 0.8, 0.2; (no) 0.1, 0.9; }
probability ( C | A, B ) { default 0.5, 0.5; (yes, yes) 0.7, 0.3; }
"""


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SOFTHOT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("house.bif").write_text(HOUSE)
    Path("pair.bif").write_text(PAIR)


def scores(name: str, probs: Tensor, evidence: dict[str, str]) -> tuple[float, float]:
    """KL(q||p) and KL(p||q) by enumeration, of the product of probabilities of each variable."""
    network = house(evidence)
    z, joint = every(network)
    p, q = joint / joint.sum(), (z * probs[None]).sum(-1).prod(-1)
    inside = p > 0
    backward = torch.where(inside, p * (p.log() - q.log()), 0.0).sum().item()
    return divergence(network, probs.log()), backward


def padded(rows: list[list[float]], classes: int) -> Tensor:
    return torch.tensor([[*row, *[0.0] * (classes - len(row))] for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("evidence", [{}, {"Guard": "awake"}], ids=["none", "Guard"])
def test_scores_are_those_of_enumeration(tmp_path: Path, evidence: dict[str, str]) -> None:
    given = tuple(f"{name}={state}" for name, state in evidence.items())
    plan = Plan("house.bif", given, ("leave-one-out", "exact", "mdnf-weighted"), **SHORT)
    network = plan.model
    z, joint = every(network)
    p = joint / joint.sum()
    exact = (p[:, None, None] * z).sum(0)
    for one in execute(plan, tmp_path / "out"):
        probs = padded(one.marginals, 4)
        assert one.error == pytest.approx((probs - exact).abs().max().item(), abs=1e-12)
        if one.method.startswith("mdnf"):
            assert one.kl_p_q == INF
            best = joint.sort(descending=True).values[:8].sum().log().item()
            if one.method == "mdnf-weighted":
                assert one.kl_q_p == pytest.approx(joint.sum().log().item() - best, abs=1e-12)
            continue
        forward, backward = scores("house", probs, evidence)
        assert one.kl_q_p == pytest.approx(forward, abs=1e-10)
        assert one.kl_p_q == pytest.approx(backward, abs=1e-10)
        assert (one.evaluations is None) == (one.method == "exact")


def test_a_mixture_on_all_that_is_possible_has_both_divergences(tmp_path: Path) -> None:
    plan = Plan("house.bif", ("Guard=awake",), ("mdnf-weighted",), **SHORT | {"components": 500})
    _, mixture, weighted = execute(plan, tmp_path / "out")
    assert weighted.kl_q_p == pytest.approx(0.0, abs=1e-12)
    assert weighted.kl_p_q == pytest.approx(0.0, abs=1e-12)
    assert weighted.error < 1e-12
    assert 0 < mixture.kl_q_p < 0.05
    assert mixture.note == "the best mixture of 500 configurations"


def test_a_divergence_of_zero_has_no_sign(tmp_path: Path) -> None:
    Path("sure.bif").write_text(PAIR.replace("0.4, 0.6", "1.0, 0.0"))
    plan = Plan("sure.bif", ("B=yes", "C=yes"), (), **SHORT)  # A has no doubt left
    for one in execute(plan, tmp_path / "out"):
        assert (f"{one.kl_q_p:.5f}", f"{one.kl_p_q:.5f}") == ("0.00000", "0.00000")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["house.bif", "pair.bif"])
def test_every_method_infers_or_is_refused(tmp_path: Path, network: str, method: str) -> None:
    if method == "disarm" and network == "house.bif":
        with pytest.raises(ValueError, match=r"method 'disarm' and network 'house.bif' do not go together"):
            Plan(network, (), (method,), **SHORT)
        return
    evidence = ("Weather=storm",) if network == "house.bif" else ("C=yes",)
    plan = Plan(network, evidence, (method,), **SHORT)
    *_, one = execute(plan, tmp_path / "out")
    assert 0 <= one.kl_q_p < INF or "no mass" in one.note
    for row in one.marginals:
        assert sum(row) == pytest.approx(1.0)
    assert 0 <= one.error <= 1


def test_the_gradient_without_noise_comes_to_the_best_product(tmp_path: Path) -> None:
    plan = Plan("house.bif", ("Guard=awake",), ("exact", "leave-one-out"), steps=400, restarts=8)
    found = {one.method: one for one in execute(plan, tmp_path / "out")}
    best = found["mean-field"].kl_q_p
    assert best - 1e-9 < found["exact"].kl_q_p < best + 0.01
    assert best - 1e-9 < found["leave-one-out"].kl_q_p < best + 0.05
    assert "classes left out, with" in found["exact"].note
    assert found["mdnf"].kl_q_p < best


def test_what_the_folder_holds_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan("house.bif", ("Guard=awake",), ("reinmax",), **SHORT)
    first = list(execute(plan, tmp_path / "out"))
    made = []
    original = infer._infer

    def counted(plan: Plan, method: str, watch: posteriors.Watch) -> Approximation:
        made.append(method)
        return original(plan, method, watch)

    monkeypatch.setattr(infer, "_infer", counted)
    assert list(execute(plan, tmp_path / "out")) == first
    assert first[1].kl_p_q == INF
    again = list(execute(dataclasses.replace(plan, methods=("zgr", "reinmax")), tmp_path / "out"))
    assert made == ["zgr"]
    assert again[-1] == first[-1]
    list(execute(dataclasses.replace(plan, seed=1), tmp_path / "out"))
    assert made == ["zgr", "mean-field", "mdnf", "reinmax"]


def test_another_file_of_the_same_name_is_another_network(tmp_path: Path) -> None:
    before = list(execute(Plan("pair.bif", (), (), **SHORT), tmp_path / "out"))
    Path("pair.bif").write_text(PAIR.replace("0.4, 0.6", "0.1, 0.9"))
    after = list(execute(Plan("pair.bif", (), (), **SHORT), tmp_path / "out"))
    assert after[1].marginals != before[1].marginals


def test_records_and_rows_are_side_by_side(tmp_path: Path) -> None:
    plan = Plan("house.bif", ("Guard=awake",), ("exact",), **SHORT)
    done = list(execute(plan, tmp_path / "out"))
    rows = marginals(plan, done)
    assert [(row["variable"], row["state"]) for row in rows[:3]] == [
        ("Door", "open"),
        ("Door", "shut"),
        ("Weather", "calm"),
    ]
    assert len(rows) == 2 + 3 + 2 + 4
    assert rows[0]["posterior"] == plan.model.posterior.marginals[0, 0].item()
    assert list(rows[0]) == ["variable", "state", "posterior", "mean-field", "mdnf", "exact"]
    found = records(plan, done)
    assert found["possible"] < found["configurations"] == 48
    assert [each["name"] for each in found["variables"]] == ["Door", "Weather", "Alarm", "Calls"]


# the picture


def test_the_picture_has_a_row_for_each_method_and_a_point_for_each_state(tmp_path: Path) -> None:
    plan = Plan("house.bif", ("Guard=awake",), ("reinmax",), **SHORT)
    done = list(execute(plan, tmp_path / "out"))
    done[-1] = dataclasses.replace(done[-1], kl_q_p=INF)
    figure = infer_figure(plan, done)
    left = {each.name: each for each in figure.data if each.text}
    assert [*left] == ["mean-field", "mdnf", "reinmax"]
    assert left["mdnf"].x[0] == done[1].kl_q_p
    assert left["reinmax"].text[0].strip() == "infinite"
    assert left["reinmax"].x[0] > max(done[0].kl_q_p, done[1].kl_q_p)
    points = [each for each in figure.data if each.xaxis == "x2" and each.name]
    assert [len(each.x) for each in points] == [11, 11, 11]
    assert points[0].customdata[0] == "Door=open"


# the command

COMMAND = ["infer", "house.bif", "--evidence", "Guard=awake", "Door=shut", "--steps", "20", "--components", "8"]


def test_infer_prints_and_writes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*COMMAND, "--method", "leave-one-out", "--out", "out", "--plot", "picture.html"]) == 0
    text = capsys.readouterr().out
    assert "Posterior of house.bif with Guard=awake, Door=shut (3 hidden variables, 24 configurations, " in text
    for part in (
        "KL(q||p)",
        "KL(p||q)",
        "mean-field",
        "the best mixture of 8 configurations",
        "leave-one-out",
        "Calls=n/a",
    ):
        assert part in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "marginals.csv",
        "posteriors.html",
        "posteriors.json",
    }
    assert "leave-one-out" in (tmp_path / "picture.html").read_text()
    assert (
        (tmp_path / "out/marginals.csv")
        .read_text()
        .startswith("variable,state,posterior,mean-field,mdnf,leave-one-out\n")
    )


def test_infer_prints_the_same_for_a_program(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*COMMAND, "--method", "exact", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (folder,) = (tmp_path / "results").iterdir()
    assert found == json.loads((folder / "posteriors.json").read_text())
    assert [one["method"] for one in found["posteriors"]] == ["mean-field", "mdnf", "exact"]


def test_a_state_that_reads_like_a_path_makes_no_folders(tmp_path: Path) -> None:
    assert main(["infer", "house.bif", "--evidence", "Calls=n/a", "--method", "exact", *COMMAND[5:]]) == 0
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name == "infer-house-Calls=n%2Fa"
    assert (folder / "posteriors.json").exists()


REFUSED: list[tuple[list[str], str]] = [
    (["house.bif", "--evidence", "Gaurd=awake"], "unknown variable 'Gaurd'; did you mean 'Guard'"),
    (["house.bif", "--evidence", "Guard=awaken"], "unknown state of 'Guard' 'awaken'; did you mean 'awake'"),
    (["house.bif", "--evidence", "Guard"], "the evidence 'Guard' gives no state; write Guard=STATE"),
    (["house.bif", "--evidence", "Door=open", "Door=shut"], "'Door=shut' contradicts Door=open"),
    (
        ["house.bif", "--evidence", "Alarm=on", "Calls=n/a"],
        "the evidence Calls=n/a is impossible together with Alarm=on",
    ),
    (["house.bif", "--method", "reinmx"], "unknown method 'reinmx'; did you mean 'reinmax'"),
    (["house.bif", "--method", "disarm"], "method 'disarm' and network 'house.bif' do not go together"),
    (["house.bif", "--steps", "0"], "steps=0 leaves nothing to do"),
    (["house.bif", "--floor", "1"], "floor=1.0 lead nowhere"),
    (["house.bif", "--learning-rate", "nan"], "learning_rate=nan, floor=-20.0 lead nowhere"),
    (["house.bif", "--optimiser", "sgd"], "unknown optimiser 'sgd'"),
    (["house.bif", "--plot", "picture.gif"], "cannot write a picture as '.gif'"),
    (["hous.bif"], "cannot read 'hous.bif': No such file"),
    (["asia"], "'asia' is no file, and SOFTHOT_DATA is not set, where a network of that name would be;"),
    (["asia"], "or set SOFTHOT_DATA to a folder that holds bayesnets/asia.bif"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(["infer", *arguments]) == 2
    found = capsys.readouterr().err
    assert says in found
    assert found.count("\n") == 1
    assert not Path("results").exists()


def test_rows_that_do_not_sum_to_one_name_the_variable(capsys: pytest.CaptureFixture[str]) -> None:
    Path("house.bif").write_text(HOUSE.replace("0.3, 0.7", "0.3, 0.6"))
    assert main(["infer", "house.bif"]) == 2
    assert "a row of variable 'Door' does not sum to one" in capsys.readouterr().err


def test_a_name_is_looked_up_among_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bayesnets").mkdir()
    Path("pair.bif").rename(tmp_path / "bayesnets/pair.bif")
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    assert [node.name for node in Plan("pair").model.hidden] == ["A", "B", "C"]
    with pytest.raises(ValueError, match=rf"SOFTHOT_DATA='{tmp_path}' does not hold bayesnets/asia.bif, where a"):
        _ = Plan("asia").model


def test_a_climb_that_diverges_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Plan, z: Tensor) -> Tensor:
        return z.sum((-1, -2)) * math.nan

    plan = Plan("pair.bif", (), ("exact",), **SHORT)
    monkeypatch.setattr(Plan, "target", broken)
    with pytest.raises(ValueError, match=r"exact diverged; use a smaller learning rate than 0\.05"):
        list(execute(plan, tmp_path / "out"))
