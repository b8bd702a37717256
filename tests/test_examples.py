"""The demonstrations run and show what the documents say they show."""

import json
import math
import re
import runpy
import textwrap

import pytest
from pages.gallery import EXAMPLES, output

from softhot.lab.study import declaration
from softhot.lab.study.summary import summarise
from tests import studies

DOCS = EXAMPLES.parent / "docs"
FINDINGS = DOCS / "findings"
# a command in a block of its own, what is said of it, and the block of what it prints
SHOWN = re.compile(r"^    \.venv/bin/python examples/(\S+)\.py\n((?:\S.*)?\n)+((?:    .*\n|\n)+)", re.M)
MEASURED = re.compile(r"([\d.]+) ± ([\d.]+)")


def lines(name):
    return output(name).splitlines()


def shown(page):
    return {name: textwrap.dedent(block).strip() for name, _, block in SHOWN.findall((DOCS / page).read_text())}


class TestTwoStatements:
    """The page shows what the scripts print."""

    PAGE = shown("two-statements.md")

    def test_to_the_digit(self):
        assert self.PAGE["eq21_discretised"] == output("eq21_discretised").strip()

    def test_of_a_trained_model(self):
        """Elsewhere it is trained from the same draws, rounded otherwise: that moves a mean by less than its error."""
        page = self.PAGE["decoder_gradient"]
        printed = "\n".join(line.rstrip() for line in lines("decoder_gradient")[1:])  # the first is of the training
        assert MEASURED.sub("", page) == MEASURED.sub("", printed)
        here, there = ([list(map(float, pair)) for pair in MEASURED.findall(text)] for text in (page, printed))
        assert len(here) == 10
        for (mean, error), (other, other_error) in zip(here, there, strict=True):
            assert abs(mean - other) <= error, (mean, other)
            assert error == pytest.approx(other_error, rel=0.25, abs=0.001)


def test_discretising_matters_but_through_the_sample():
    rows = [line for line in lines("eq21_discretised") if line.endswith(("yes", "no"))]
    assert len(rows) == 9
    for row in rows:
        assert row.endswith("yes") == ("through the sample alone" in row)


def test_hard_samples_give_the_decoder_the_right_gradient():
    rows = [line for line in lines("decoder_gradient") if " hard " in line or " soft " in line]
    verdicts = {row.split()[0]: (row.split()[1], row.split()[5], row.split()[9]) for row in rows}
    assert verdicts["leave-one-out"] == ("hard", "noise", "noise")
    assert verdicts["straight-through"] == ("hard", "noise", "biased")
    assert verdicts["st-gumbel-softmax"] == ("hard", "noise", "biased")
    assert verdicts["gumbel-softmax"] == ("soft", "biased", "biased")


def test_estimators_come_to_the_closed_form_of_a_gaussian_mixture():
    found = {name: float(value) for name, value in (line.rsplit(maxsplit=1) for line in lines("gaussian_mixture"))}
    best = found.pop("closed form")
    assert found.pop("start") < best - 100
    assert len(found) == 5
    for name, value in found.items():
        assert best - (1 if name in ("exact", "local-expectation") else 10) < value <= best, name


def numbers(line):
    return [float(found) for found in re.findall(r"-?\d+\.?\d*", line)]


def test_an_autoencoder_codes_more_than_the_mean_image():
    classes, nats, pixels = (numbers(line.split(":")[1]) for line in lines("recipes/discrete_autoencoder"))
    assert len(classes) == len(nats) == 8
    assert min(classes) > 4
    assert 5 < sum(nats) < 15  # ten are free
    assert pixels[0] < pixels[1] - 5


def test_a_world_model_imagines_a_walk_from_its_actions():
    sees, imagines, classes = (numbers(line.split(":")[1]) for line in lines("recipes/world_model"))
    assert sees[0] > 0.9
    assert imagines[0] > 0.7 > 5 * imagines[1]
    assert 1 < min(classes) < max(classes) < 8


def test_pyro_infers_with_an_exact_divergence():
    loss, classes, drawn, exact = (numbers(line.split(":")[1]) for line in lines("recipes/pyro_guide"))
    assert classes == [0, 2, 1, 2]
    assert loss[1] < loss[0]
    assert abs(drawn[0] - exact[0]) < 5 * (drawn[1] ** 2 + exact[1] ** 2) ** 0.5


class TestStudyTables:
    TABLES = runpy.run_path(str(EXAMPLES / "study_tables.py"))

    def test_they_say_what_the_records_hold(self, tmp_path, monkeypatch, capsys):
        (tmp_path / "runs").mkdir()
        for number, record in enumerate(studies.drawn()):
            (tmp_path / f"runs/{number}.json").write_text(json.dumps(record))
        monkeypatch.setattr("sys.argv", ["study_tables.py", str(tmp_path)])
        self.TABLES["main"]()
        printed = capsys.readouterr().out
        assert "| reinmax t=1 + categorical | -18.05 ± 0.07 | -18.05 ± 0.07 | +0.00 |" in printed
        assert "| gumbel-softmax t=1 | +0.15 | no |" in printed
        assert "- 'exact + categorical' has the best discrete ELBO" in printed

    def test_the_findings_are_those_of_the_kept_records(self, monkeypatch, capsys):
        monkeypatch.setattr("sys.argv", ["study_tables.py", str(FINDINGS)])
        self.TABLES["main"]()
        printed = capsys.readouterr().out.splitlines()
        shown = [line for line in FINDINGS.with_suffix(".md").read_text().splitlines() if line.startswith(("| ", "> "))]
        assert len(shown) > 40
        assert {line.replace("> ", "- ", 1) for line in shown} <= set(printed)
        assert (FINDINGS / "study.toml").read_text() == (EXAMPLES / "studies/static_mnist.toml").read_text()

    def test_estimators_are_compared_where_the_cheapest_ends(self):
        dear = studies.arm(
            "leave-one-out + categorical",
            -18.0,
            -18.2,
            curve=[{"epoch": k, "valid_elbo": -30.0 / k, "evaluations": 40, "seconds": 1.0} for k in (1, 2, 3)],
        )
        (arm,) = summarise(dear)
        evaluations = [point.evaluations for point in arm.curve]
        assert evaluations == [40, 80, 120]
        found = [self.TABLES["at"](arm, lambda arm: evaluations, limit) for limit in (40, 60, 120, 500)]
        assert found == pytest.approx([-30, -22.5, -10, -10])
        assert math.isnan(self.TABLES["at"](arm, lambda arm: evaluations, 39))


def test_studies_to_run_can_be_read():
    for path in (EXAMPLES / "studies").glob("*.toml"):
        assert len(declaration.parse(path.read_text()).runs) > 10
