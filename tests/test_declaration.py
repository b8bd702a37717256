"""Studies that are declared: the same from file and flags, with budgets, forecasts, and choices by validation."""

import csv
import dataclasses
import itertools
import json
import tomllib
from contextlib import contextmanager

import pytest
import torch

from softhot.cli import compare, main
from softhot.lab.config import Config
from softhot.lab.report.conclusion import conclude
from softhot.lab.study import cluster, declaration, forecast, record, task
from softhot.lab.study.choice import choose, undecided
from softhot.lab.study.folder import finished, open_study
from softhot.lab.study.plan import Grid, Plan, plan
from softhot.lab.study.summary import summarise
from softhot.lab.training import loop
from softhot.lab.training.loop import Run
from softhot.problems.data import load, prepare
from tests.studies import trained

TINY = {"latents": 2, "classes": 3, "hidden": [8]}
SMALL = Config(latents=2, classes=3, hidden=(8,), epochs=1)
FILE = """
title = "two"
seeds = 2
[model]
latents = 2
classes = 3
hidden = [8]
[budget]
epochs = 1
[grid]
estimator = ["reinmax", "gumbel-softmax"]
term = "categorical"
temperature = [0.5, 1.0]
learning_rate = [0.002, 0.008]
"""
FLAGS = ["--title", "two", "--seeds", "2", "--latents", "2", "--classes", "3", "--hidden", "8", "--epochs", "1"]
FLAGS += ["--estimator", "reinmax", "gumbel-softmax", "--term", "categorical", "--temperature", "0.5", "1"]
FLAGS += ["--learning-rate", "0.002", "0.008"]


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.delenv("SOFTHOT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def images():
    return prepare(load("digits"), "threshold")


def here(study, folder, *, command, watch=None, **_):
    """What the engine does, in this process."""
    with open_study(study, folder, command=command) as key:
        work = task.Task(folder, key, None, None, 60.0, study.scored)
        for config in study.runs:
            yield from task.results((config,), work, folder, lambda runs: True)


def labels(study):
    return list(dict.fromkeys(run.arm for run in study.runs))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid", "Expected"),
        ("seed = 3", "unknown key 'seed'; did you mean 'seeds'?"),
        ("[modell]", "unknown key 'modell'; did you mean 'model'?"),
        ("model = 4", "model = 4 is no table; write [model]"),
        ("[model]\nlatent = 4", "unknown key of [model] 'latent'; did you mean 'latents'?"),
        ('[model]\nlatents = "4"', 'latents = "4" is not a whole number; write latents = 4'),
        ("[model]\nlatents = 0", "latents=0 is too small"),
        ("[model]\nhidden = 64", "hidden = 64 is not a list, each a whole number"),
        ("[model]\nlearned_prior = 1", "learned_prior = 1 is not true or false"),
        ('[data]\nname = "digit"', "did you mean 'digits'"),
        ('[data]\nname = "no/such.npz"', "no/such.npz"),
        ('[data]\nbinarise = "treshold"', "did you mean 'threshold'"),
        ("[training]\nbatch_size = 1e2", "batch_size = 100.0 is not a whole number"),
        ('[training]\noptimiser = "adm"', "did you mean 'adam'"),
        ("[budget]\nevaluation = 5", "did you mean 'evaluations'"),
        ("[budget]\nevaluations = 5", "does not pay for a step"),
        ("[budget]\nevaluations = 5e6\nseconds = 60", "budget_evaluations=5e+06 and budget_seconds=60 each say"),
        ("[budget]\nseconds = 9\n[grid]\nfinal_temperature = 0.3", "final_temperature=0.3 has no step"),
        ("[grid]\ntemperatur = 1", "unknown key of [grid] 'temperatur'; did you mean 'temperature'?"),
        ("[grid]\ntemperature = [0.5, true]", "temperature = true is not a number"),
        ("[grid]\ntemperature = [0.5, -1]", "temperature=-1 is not a positive"),
        ("[grid]\ntemperature = []", "temperature = [] lists nothing"),
        ('[grid]\nestimator = "reinmx"', "did you mean 'reinmax'"),
        ('[grid]\nterm = ["jangg"]', "did you mean 'jang'"),
        ('[grid]\nestimator = "reinmax"\nterm = "concrete"', "no estimator and KL term go together"),
        ("arms = 3", "write [[arms]]"),
        ("[[arms]]\nsamples = 4", "[[arms]] 1: an estimator is missing"),
        ('[[arms]]\nestimator = "zgr"\n[[arms]]\nestimator = "zgr"\nbaseline = "none"', "[[arms]] 2: baseline is no"),
        ('[[arms]]\nestimator = "zgr"\nsample = 1', "[[arms]] 1: unknown key of [[arms]] 'sample'; did you mean"),
        ("seeds = 0", "seeds = 0 leaves nothing to run"),
        ("seeds = []", "seeds = [] leaves nothing to run"),
        ('tune = ["learning_rat"]', "did you mean 'learning_rate'"),
        ("tune = []\n[grid]\nlearning_rate = [0.1, 0.01]", "learning_rate=0.01, 0.1 are no arms of their own"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(capsys, tmp_path, text, message):
    (tmp_path / "study.toml").write_text(text)
    assert main(["compare", "study.toml"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("softhot: study.toml: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_a_file_that_is_missing_or_contradicted_is_refused(capsys, tmp_path):
    assert main(["compare", "none.toml"]) == 2
    assert "cannot read 'none.toml'" in capsys.readouterr().err
    (tmp_path / "study.toml").write_text(FILE)
    assert main(["compare", "study.toml", "--seeds", "3", "--budget-seconds", "3"]) == 2
    assert "study.toml says what is run; leave out --seeds, --budget-seconds" in capsys.readouterr().err


def test_flags_and_file_declare_the_same_study(monkeypatch, tmp_path):
    found = []

    def none_is_run(console, study, *_):
        found.append(study)
        return []

    monkeypatch.setattr(compare, "_carry_out", none_is_run)
    (tmp_path / "study.toml").write_text(FILE)
    assert main(["compare", *FLAGS]) == main(["compare", "study.toml"]) == 2
    flags, file = found
    assert file.declaration == FILE
    assert dataclasses.replace(file, declaration=None) == flags
    assert (flags.title, len(flags.runs)) == ("two", 2 * 3 * 2)
    assert declaration.declare({}) == declaration.parse("").__class__(
        **{**vars(declaration.parse("")), "declaration": None}
    )


class TestGrid:
    def test_settings_are_for_those_who_have_them(self):
        shared = {"samples": [1, 2], "temperature": [0.5, 2.0], "final_temperature": 0.1, "baseline": "none"}
        grid = {"estimator": ["reinmax", "muprop", "score-function", "gumbel-softmax"], "term": "jang", **shared}
        assert labels(declaration.declare({"grid": grid})) == [
            "reinmax n=1 t=1 + categorical",
            "reinmax n=2 t=1 + categorical",
            "muprop + categorical",
            "score-function none baseline n=1 + categorical",
            "score-function none baseline n=2 + categorical",
            *(f"gumbel-softmax n={n} t={t}→0.1 + categorical" for t in ("0.5", "2") for n in (1, 2)),
        ]

    def test_arms_have_their_own_temperatures_and_the_rest_of_the_grid(self):
        table = {"grid": {"temperature": 0.5, "term": "categorical"}, "arms": [{"estimator": "reinmax"}]}
        assert labels(declaration.declare(table)) == ["reinmax t=1 + categorical"]
        table["arms"][0]["temperature"] = [1.0, 2.0]
        table["arms"].append({"estimator": "gumbel-softmax"})
        table["arms"].append({"estimator": "reinmax", "term": "concrete"})
        study = declaration.declare(table)
        assert labels(study) == [
            "reinmax t=1 + categorical",
            "reinmax t=2 + categorical",
            "gumbel-softmax t=0.5 + categorical",
        ]
        (skipped,) = study.skipped
        assert (skipped["estimator"], skipped["term"]) == ("reinmax", "concrete")

    def test_equal_runs_are_one(self):
        grid = Grid({"estimator": ["zgr", "zgr"], "term": ["jang", "categorical"], "samples": [1, 1]})
        assert len(plan(SMALL, [grid, grid], [0]).runs) == 1


class TestBudget:
    @pytest.mark.parametrize("estimator", ["leave-one-out", "exact"])
    def test_evaluations_end_a_run_before_it_needs_more(self, images, estimator):
        config = dataclasses.replace(SMALL, estimator=estimator, epochs=None, budget_evaluations=9_999.0)
        run = Run(dataclasses.replace(config, final_temperature=0.25), images)
        epochs = list(run.epochs())
        spent, step = sum(epoch.evaluations for epoch in epochs), config.evaluations * config.batch_size
        assert spent <= 9_999 < spent + step
        assert (run.step, run.epoch) == (run.steps, len(epochs))
        assert epochs[-1].temperature == pytest.approx(0.25)

    def test_a_partial_epoch_is_of_its_own_images(self, images):
        count = len(images.train)  # 1197: the last batch of an epoch has 97
        config = dataclasses.replace(SMALL, estimator="reinmax", epochs=None, budget_evaluations=count + 350.0)
        values = []
        run = Run(config, images)

        def climb(run, x):
            values.append(loop.climb(run, x).item())
            return torch.tensor(values[-1])

        run.climb = climb
        whole, part = run.epochs()
        assert (whole.evaluations, part.evaluations) == (count, 300)
        assert part.objective == pytest.approx(sum(values[-3:]) / 300, rel=1e-5)
        assert whole.objective == pytest.approx(sum(values[:-3]) / count, rel=1e-5)
        assert part.epoch == run.epoch == 2

    def test_what_pays_for_whole_epochs_is_as_good_as_their_number(self, images):
        config = dataclasses.replace(SMALL, estimator="reinmax")
        cost = 2.0 * len(images.train)
        by_cost = Run(dataclasses.replace(config, epochs=None, budget_evaluations=cost), images)
        by_number = Run(dataclasses.replace(config, epochs=2), images)
        pairs = zip(by_cost.epochs(), by_number.epochs(), strict=True)
        assert all(dataclasses.replace(one, seconds=0) == dataclasses.replace(two, seconds=0) for one, two in pairs)

    def test_seconds_end_a_run_after_the_step_that_passes_them(self, images, monkeypatch):
        ticks = itertools.count()
        monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))  # a step takes one second
        run = Run(dataclasses.replace(SMALL, epochs=None, budget_seconds=13.5), images)
        first, second = run.epochs()
        assert (first.seconds, second.seconds, run.step) == (12.0, 2.0, 14)
        assert second.evaluations == 200
        assert "depend on the machine" in run.config.length

    def test_a_larger_model_has_no_epochs_beside_its_budget(self):
        assert Config.for_data("mnist").epochs == 20
        assert Config.for_data("mnist", budget_seconds=9.0).epochs is None


RATES = (0.001, 0.01, 0.1)


def rated(**tuned):
    grid = {"estimator": ["zgr", "gumbel-softmax"], "term": ["categorical"], "temperature": [0.5, 1.0]}
    return plan(SMALL, [Grid({**grid, "learning_rate": RATES})], [0, 1], **tuned)


def scored(study, elbo):
    """The records of runs with validation scores of a function; where it gives "failed", there is none."""
    values = {run.id: elbo(run) for run in study.runs}
    return [{"id": key, "valid_elbo": value} for key, value in values.items() if value != "failed"]


class TestChoice:
    def test_of_a_learning_rate_is_by_the_mean_over_seeds(self):
        study = rated()
        values = {0.001: (-9.0, -9.0), 0.01: (-4.0, -12.0), 0.1: (-1.0, -20.0)}
        found = choose(study, scored(study, lambda run: values[run.learning_rate][run.seed]))
        assert undecided(study)
        assert not undecided(found)
        assert [(run.arm, run.learning_rate, run.seed) for run in found.runs] == [
            (arm, 0.01, seed) for seed in (0, 1) for arm in labels(study)
        ]
        first = found.choices[0]
        assert (first["arm"], first["chosen"], first["valid_elbo"]) == (
            "zgr + categorical",
            {"learning_rate": 0.01},
            -8.0,
        )
        assert [one["valid_elbo"] for one in first["candidates"]] == [-9.0, -8.0, -10.5]

    def test_of_a_temperature_leaves_one_arm(self):
        study = rated(tune=["learning_rate", "temperature"])
        found = choose(study, scored(study, lambda run: -run.temperature - run.learning_rate))
        assert labels(found) == ["zgr + categorical", "gumbel-softmax t=0.5 + categorical"]
        assert [choice["chosen"] for choice in found.choices] == [
            {"learning_rate": 0.001},
            {"learning_rate": 0.001, "temperature": 0.5},
        ]
        assert len(found.choices[1]["candidates"]) == 6

    @pytest.mark.parametrize("bad", [None, "failed"])
    def test_puts_what_diverged_or_failed_last(self, bad):
        study = rated()
        best = scored(study, lambda run: bad if run.learning_rate == 0.1 and run.seed else 1000 * run.learning_rate)
        found = choose(study, best)
        assert {run.learning_rate for run in found.runs} == {0.01}
        assert found.choices[0]["candidates"][2]["failed"] == 1

    def test_of_nothing_is_no_choice(self):
        study = plan(SMALL, [Grid({"estimator": ["zgr"], "term": ["jang"]})], [0])
        assert not undecided(study)
        assert choose(study, scored(study, lambda run: -1.0)) == study
        assert choose(study, []).runs == ()


def test_a_candidate_is_scored_once_and_as_if_it_had_been_alone(tmp_path, images, monkeypatch):
    config = dataclasses.replace(SMALL, estimator="score-function", baseline="learned")
    study = Plan((config,), (), scored=False)
    (candidate,) = here(study, tmp_path, command="test")
    assert not {"elbo", "objective", "gradient", "log_likelihood", "pictures"} & candidate.keys()
    assert finished(tmp_path, config) is None
    assert list(here(study, tmp_path, command="test")) == [candidate]
    blind = dataclasses.replace(images, test=images.test * torch.nan)
    with monkeypatch.context() as patch:
        patch.setattr(record, "images_of", lambda *_: (load("digits"), blind))
        trial = record.Trial.begin(config, scored=False)
        again = trial.record(list(trial.run.epochs()))
    assert again["valid_elbo"] == pytest.approx(candidate["valid_elbo"], rel=1e-4)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "train_step", None)  # it is not trained again
        (found,) = here(dataclasses.replace(study, scored=True), tmp_path, command="test")
    (alone,) = trained(config)
    for key in ("elbo", "iwae", "objective", "log_likelihood", "valid_elbo", "evaluations", "steps"):
        assert found[key] == pytest.approx(alone[key], rel=1e-4)
    ours, theirs = (one["gradient"]["end"]["encoder"]["cosine"] for one in (found, alone))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_compare_chooses_reports_and_goes_on(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(compare, "execute", here)
    text = FILE.replace('["reinmax", "gumbel-softmax"]', '"reinmax"').replace("0.002, 0.008", "1e-5, 1e-2")
    (tmp_path / "study.toml").write_text(text)
    assert main(["compare", "study.toml"]) == 0
    said = capsys.readouterr().out
    assert "learning rate 0.01 of 2 (-" in said
    assert "Chosen from 2 candidates each by the mean discrete ELBO of the validation images" in said
    folder = tmp_path / "results/study"
    assert (folder / "study.toml").read_text() == text
    about = json.loads((folder / "study.json").read_text())
    assert (about["title"], about["planned"]) == ("two", 2)
    assert about["choices"][0]["chosen"] == {"learning_rate": 0.01}
    rates = {
        kind: sorted(json.loads(path.read_text())["config"]["learning_rate"] for path in (folder / kind).glob("*.json"))
        for kind in ("candidates", "runs")
    }
    assert rates == {"candidates": [1e-5, 1e-5, 1e-2, 1e-2], "runs": [1e-2, 1e-2]}
    page = (folder / "report.html").read_text()
    assert all(
        one in page for one in ("<title>two</title>", "Chosen from 2 candidates each", "temperature = [0.5, 1.0]")
    )
    with (folder / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(bool(row["elbo"]), row["learning_rate"]) for row in rows] == [(True, "0.01")] * 2 + [(False, "1e-05")] * 2
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    assert main(["compare", "study.toml"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == before


def test_the_conclusion_says_where_a_wider_range_may_help():
    records = [
        {"arm": "zgr + categorical", "estimator": "zgr", "term": "categorical", "unbiased": False, "sample": "hard"}
        | {"elbo": -3.0, "seed": 0, "gradient": {}}
    ]
    tried = [{"learning_rate": rate, "valid_elbo": -3.0} for rate in RATES]
    for rate, at_end in zip(RATES, (True, False, True), strict=True):
        choice = {
            "arm": "zgr + categorical",
            "chosen": {"learning_rate": rate},
            "valid_elbo": -3.0,
            "candidates": tried,
        }
        said = " ".join(conclude(summarise(records, [choice])))
        assert f"learning rate {rate:g} for 'zgr + categorical'" in said
        assert ("a wider range may do better" in said) == at_end
    assert "Chosen" not in " ".join(conclude(summarise(records)))


class TestForecast:
    def test_a_dry_run_says_what_it_would_do_and_writes_nothing(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setattr(forecast, "_time", lambda work: 0.0)
        monkeypatch.setattr(forecast, "_gradient", lambda run: 10.0)
        ticks = itertools.count()
        monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))  # a step of a group takes one second
        (tmp_path / "study.toml").write_text(FILE)
        assert main(["compare", "study.toml", "--dry-run", "--workers", "1"]) == 0
        said = capsys.readouterr().out
        taken = ("23.0", "21.5", "21.5")  # in groups of 4 and of 8 runs
        assert [line.split() for line in said.splitlines()[1:4]] == [
            [*arm.split(), "0", "1", "0.002", "0.008", "12", one]
            for arm, one in zip(labels(declaration.parse(FILE)), taken, strict=True)
        ]
        assert "12 runs of 1 epochs, of which what is chosen is scored" in said
        assert f"about 0:0{(12 * 2 + 6 * 20) // 60}:{(12 * 2 + 6 * 20) % 60} (h:mm:ss), an estimate" in said
        assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]

    def test_seconds_take_what_they_take(self, monkeypatch):
        monkeypatch.setattr(forecast, "_time", lambda work: 2.0)
        monkeypatch.setattr(forecast, "_gradient", lambda run: 10.0)
        ticks = itertools.count()
        monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))
        limited = dataclasses.replace(SMALL, epochs=None, budget_seconds=24.0)  # two epochs
        (cost,) = forecast.forecast(Plan((limited,), ()), workers=1)
        assert cost.steps is None
        assert cost.training == pytest.approx(24 + 2 * 2 * 300 / 100)
        assert cost.scoring == pytest.approx(2 * 300 / 100 + 2 * 10)

    def test_costs_are_timed_in_as_many_processes_as_there_will_be(self, monkeypatch):
        asked, found = [], itertools.cycle((1.0, 3.0))

        def cost(runs, group, threads):
            value = next(found)
            return forecast.Cost(runs, 12, value, 10 * value)

        @contextmanager
        def everywhere(workers):
            asked.append(workers)
            yield lambda function, *given: [function(*given) for _ in range(workers)]

        monkeypatch.setattr(cluster, "everywhere", everywhere)
        monkeypatch.setattr(forecast, "_cost", cost)
        study = declaration.parse(FILE)  # in groups of 4 and of 8 runs
        for workers in (2, 9):
            costs = list(forecast.forecast(study, workers=workers))
            assert {(one.training, one.scoring) for one in costs} == {(2.0, 20.0)}
            assert forecast.seconds(study, costs, workers=workers) == 8 * (2 + 20 / 2)  # however many workers
        assert asked == [2, 2]

    def test_it_measures_and_leaves_the_threads_as_they_were(self):
        threads = torch.get_num_threads()
        (cost,) = forecast.forecast(Plan((SMALL,), ()), workers=1)
        assert torch.get_num_threads() == threads
        assert cost.steps == 12
        assert min(cost.training, cost.scoring) > 0


def test_the_example_of_the_format_is_toml():
    text = declaration.__doc__.split("::", 1)[1].split("Everything", 1)[0].replace("\n    ", "\n")
    assert tomllib.loads(text)["arms"][1]["final_temperature"] == 0.3
