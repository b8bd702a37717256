"""Configurations, training runs that go on bit for bit, gradients measured against the truth, studies."""

import dataclasses
import json

import pytest
import torch

from softhot.bounds import Objective
from softhot.estimators import Exact
from softhot.lab.config import Config
from softhot.lab.experiments.entropies import curves, entropies
from softhot.lab.gradients.draws import measure, reference
from softhot.lab.gradients.targets import VaeTarget
from softhot.lab.study import archive, engine, folder, plan
from softhot.lab.training import checkpoint
from softhot.lab.training.loop import Run, evaluate
from softhot.lab.training.single import Session
from softhot.problems.data import load, prepare
from softhot.testing import assert_mean
from tests.studies import trained

SMALL = Config(hidden=(16,), epochs=3, latents=2, classes=3)


@pytest.fixture(scope="module")
def images():
    return prepare(load("digits"), "threshold")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "reinmx"}, "did you mean 'reinmax'"),
        ({"term": "maddison23"}, "did you mean 'maddison2"),
        ({"optimiser": "adm"}, "did you mean 'adam'"),
        ({"schedule": "linea", "final_temperature": 0.5}, "did you mean 'linear'"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"latents": 0}, "latents=0"),
        ({"baseline": "runing"}, "did you mean 'running'"),
        ({"control_learning_rate": 0.0}, "control_learning_rate=0.0"),
        ({"classes": 1}, "classes=1"),
        ({"epochs": 0}, "epochs=0"),
        ({"hidden": (0,)}, "hidden=0"),
        ({"estimator": "reinmax", "term": "concrete"}, "draws no relaxed variable"),
        ({"estimator": "exact", "latents": 20, "classes": 10}, "beyond the limit"),
        ({"estimator": "leave-one-out", "samples": 1}, "samples >= 2"),
    ],
)
def test_a_bad_configuration_is_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        Config(**settings)
    assert "\n" not in str(error.value)


def test_configurations_survive_json_and_have_their_own_id():
    config = dataclasses.replace(SMALL, final_temperature=0.5, seed=3)
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.id != dataclasses.replace(config, seed=4).id
    assert Config(term="jang") == Config(term="maddison22") == Config()
    with pytest.raises(ValueError, match="unknown setting 'latent'"):
        Config.from_json({"latent": 3})


@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": "adam"},
        {"optimiser": "radam"},
        {"estimator": "rebar"},
        {"estimator": "relax"},
        {"estimator": "rodeo"},
        {"estimator": "score-function", "baseline": "running"},
        {"estimator": "score-function", "baseline": "learned"},
    ],
    ids=lambda settings: " ".join(settings.values()),
)
def test_a_resumed_run_has_the_numbers_of_an_uninterrupted_one(tmp_path, settings):
    config = dataclasses.replace(SMALL, **settings, final_temperature=0.3, binarise="dynamic", epochs=4)
    whole = Session.start(config, tmp_path / "whole")
    expected = whole.train()

    broken = Session.start(config, tmp_path / "broken")
    middle = 2 * whole.run.per_epoch + 5

    def stop():
        if broken.run.step == middle:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.train(pause=stop, checkpoint_every=0)
    resumed = Session.start(config, tmp_path / "broken", resume=True)
    assert resumed.run.step == middle
    assert resumed.train() == expected
    for one, other in ((resumed.run.model, whole.run.model), (resumed.run.learner.control, whole.run.learner.control)):
        for ours, theirs in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)

    def lines(folder):
        return [line.rsplit(",", 1)[0] for line in (tmp_path / folder / "metrics.csv").read_text().splitlines()]

    assert lines("broken") == lines("whole")  # but for the seconds, the last column
    assert len(lines("whole")) == 5
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {
        *("config.json", "metrics.csv", "checkpoint.safetensors", "scores.json"),
        *("reconstructions.png", "samples.png"),
    }


class TestLearner:
    @pytest.mark.parametrize(
        "settings",
        [
            {"estimator": "relax"},
            {"estimator": "rodeo"},
            {"estimator": "score-function", "baseline": "running"},
            {"estimator": "score-function", "baseline": "learned"},
        ],
        ids=lambda settings: " ".join(settings.values()),
    )
    def test_what_is_learned_saves_variance(self, images, settings):
        run = Run(dataclasses.replace(SMALL, batch_size=25, **settings), images)
        fresh = run.config.make_estimator(run.temperature)
        x = images.test[:8]
        for _ in range(3):
            run.train_epoch()
        target = VaeTarget(run.model, x)
        truth = reference(target)
        before, after = (
            measure(target, estimator, truth).parts["encoder"].variance
            for estimator in (fresh, run.learner.at(run.temperature))
        )
        assert after < before / 4

    def test_rebar_learns_temperature_and_weight_and_keeps_them(self, images):
        run = Run(dataclasses.replace(SMALL, estimator="rebar"), images)
        before = [value.item() for value in run.learner.estimator.relaxation()]
        run.train_epoch()
        after = [value.item() for value in run.learner.estimator.relaxation()]
        assert all(one != other for one, other in zip(before, after, strict=True))
        assert run.objective(run.temperature).estimator.relaxation is run.learner.control

    def test_the_schedule_acts_on_the_one_estimator_that_learns(self, images):
        run = Run(dataclasses.replace(SMALL, estimator="relax", epochs=1, final_temperature=0.3), images)
        surrogate = run.learner.estimator.surrogate
        run.train_epoch()
        now = run.objective(run.temperature).estimator
        assert now.temperature == pytest.approx(0.3)
        assert now.surrogate is surrogate
        assert surrogate.linear.any()

    def test_evaluation_and_measurement_teach_nothing(self, images):
        run = Run(dataclasses.replace(SMALL, estimator="score-function", baseline="running"), images)
        run.train_epoch()
        before = [value.clone() for value in run.learner.control.buffers()]
        evaluate(run, images.test)
        target = VaeTarget(run.model, images.test[:4])
        measure(target, run.learner.at(run.temperature), reference(target))
        assert all(map(torch.equal, before, run.learner.control.buffers()))
        assert run.learner.control.training

    def test_first_weights_depend_on_the_seed_alone(self):
        config = dataclasses.replace(SMALL, estimator="score-function", baseline="learned")
        torch.manual_seed(5)
        state = torch.get_rng_state()
        one, other = (config.make_estimator(1.0).baseline.hidden.weight for _ in range(2))
        assert torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), state)
        third = dataclasses.replace(config, seed=1).make_estimator(1.0).baseline.hidden.weight
        assert not torch.equal(one, third)


def test_another_seed_gives_other_numbers(images):
    first, second = (next(Run(dataclasses.replace(SMALL, seed=seed), images).epochs()) for seed in (0, 1))
    assert first.objective != second.objective


def test_training_leaves_the_global_generator_alone(images):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run = Run(SMALL, images)
    run.train_epoch()
    evaluate(run, images.test)
    assert torch.equal(torch.get_rng_state(), before)


class TestCheckpoint:
    @pytest.fixture
    def path(self, tmp_path, images):
        run = Run(SMALL, images)
        run.train_epoch()
        checkpoint.save(run, tmp_path / "checkpoint.safetensors")
        return tmp_path / "checkpoint.safetensors"

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"latents": 3}, "another run.*latents=3 here, 2 there"),
            ({"seed": 1}, "seed=1 here, 0 there"),
            ({"epochs": 9, "final_temperature": 0.5}, "final_temperature"),
        ],
    )
    def test_of_another_run_is_refused(self, path, images, other, message):
        with pytest.raises(ValueError, match=message):
            checkpoint.restore(Run(dataclasses.replace(SMALL, **other), images), path)

    def test_may_be_trained_for_longer(self, path, images):
        run = Run(dataclasses.replace(SMALL, epochs=9), images)
        checkpoint.restore(run, path)
        assert run.epoch == 1

    @pytest.mark.parametrize("damage", [lambda raw: raw[:40], lambda raw: b"", lambda raw: b"\x80\x04" + raw[2:]])
    def test_that_is_damaged_is_refused(self, path, images, damage):
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ValueError, match="damaged") as error:
            checkpoint.restore(Run(SMALL, images), path)
        assert "\n" not in str(error.value)

    def test_that_is_missing_is_refused(self, path, images):
        with pytest.raises(ValueError, match="cannot read"):
            checkpoint.restore(Run(SMALL, images), path.with_name("none"))

    def test_of_other_weights_is_refused(self, path, images, monkeypatch):
        run = Run(dataclasses.replace(SMALL, hidden=(8,)), images)
        run.config = SMALL
        with pytest.raises(ValueError, match="weights of another model"):
            checkpoint.restore(run, path)


@pytest.mark.parametrize("batch_size", [100, 10_000])
def test_annealing_ends_where_it_was_asked_to(images, batch_size):
    """In a run of one step too."""
    run = Run(dataclasses.replace(SMALL, epochs=1, final_temperature=0.3, batch_size=batch_size), images)
    assert run.train_epoch().temperature == pytest.approx(0.3)
    assert run.temperature == pytest.approx(0.3)


@pytest.mark.parametrize("damage", ["metrics", "checkpoint", "fewer epochs", "divergence"])
def test_a_run_that_cannot_go_on_is_refused(tmp_path, damage):
    Session.start(dataclasses.replace(SMALL, epochs=2), tmp_path).train()
    config = dataclasses.replace(SMALL, epochs=3)
    if damage == "metrics":
        (tmp_path / "metrics.csv").write_text("bad\n")
    elif damage == "checkpoint":
        (tmp_path / "checkpoint.safetensors").unlink()
    elif damage == "fewer epochs":
        config = dataclasses.replace(SMALL, epochs=1)
    else:
        tmp_path, config = tmp_path / "new", dataclasses.replace(config, learning_rate=1e30)
    with pytest.raises(ValueError, match=r"epochs of the checkpoint|another run|2 epochs already|diverged"):
        Session.start(config, tmp_path, resume=damage != "divergence").train()


def test_a_folder_is_not_written_over(tmp_path):
    Session.start(SMALL, tmp_path)
    with pytest.raises(ValueError, match="--resume"):
        Session.start(SMALL, tmp_path)
    with pytest.raises(ValueError, match="no run to resume"):
        Session.start(SMALL, tmp_path / "new", resume=True)


class TestStudy:
    GRID = plan.Grid(
        {"estimator": ["reinmax", "gumbel-softmax"], "term": ["jang", "concrete"], "temperature": [0.5, 1.0]}
    )
    PLAN = plan.plan(dataclasses.replace(SMALL, epochs=1), [GRID], [0, 1])

    def test_plan_has_every_pair_that_goes_together(self):
        arms = [config.arm for config in self.PLAN.runs if config.seed == 0]
        assert arms == [
            "reinmax t=1 + categorical",
            "gumbel-softmax t=0.5 + categorical",
            "gumbel-softmax t=1 + categorical",
            "gumbel-softmax t=0.5 + concrete",
            "gumbel-softmax t=1 + concrete",
        ]
        assert len(self.PLAN.runs) == 10
        (skipped,) = self.PLAN.skipped
        assert (skipped["estimator"], skipped["term"]) == ("reinmax", "concrete")
        assert "temperature" in skipped["reason"]

    def test_plan_without_a_pair_is_refused(self):
        with pytest.raises(ValueError, match="go together: reinmax with concrete"):
            plan.plan(SMALL, [plan.Grid({"estimator": ["reinmax"], "term": ["concrete"]})], [0])

    def test_runs_are_recorded_once_and_found_again(self, tmp_path):
        two = plan.Plan(self.PLAN.runs[:2], self.PLAN.skipped)
        first = list(engine.execute(two, tmp_path, command="test", workers=2))
        assert sorted(record["arm"] for record in first) == sorted(config.arm for config in two.runs)
        again = list(engine.execute(two, tmp_path, command="test"))
        assert sorted(again, key=str) == sorted(first, key=str)
        about, found = archive.read(tmp_path)
        assert about["planned"] == 2
        assert len(found) == 2
        folder.write_table(tmp_path, found)
        header, *rows = (tmp_path / "records.csv").read_text().splitlines()
        assert len(rows) == 2
        assert {"arm", "elbo", "gap", "encoder_cosine_end", "learning_rate"} <= set(header.split(","))

    def test_a_record_is_the_same_in_and_out_of_a_worker_and_consistent(self, tmp_path):
        config = self.PLAN.runs[0]
        (record,) = trained(config)
        assert record["gap"] == pytest.approx(record["objective"] - record["elbo"])
        assert record["elbo"] <= record["log_likelihood"] + 0.05
        assert record["bounds"] == "the discrete log-likelihood"
        assert record["evaluations"] == 1197
        (worker,) = engine.execute(plan.Plan((config,), ()), tmp_path, command="test")
        for key in ("objective", "elbo", "iwae", "log_likelihood"):
            assert worker[key] == pytest.approx(record[key], rel=1e-4)

    @pytest.mark.parametrize("text", ["{", "{}", "[]"])
    def test_a_broken_record_is_named(self, tmp_path, text):
        config = self.PLAN.runs[0]
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / f"{config.id}.json").write_text(text)
        with pytest.raises(ValueError, match=config.id):
            list(engine.execute(plan.Plan((config,), ()), tmp_path, command="test"))


class TestEntropies:
    LOGITS = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64).log()

    def test_every_estimate_is_within_its_error_of_the_exact_value(self):
        found = entropies(self.LOGITS, [10.0, 1.0, 0.1], samples=20_000, seed=1)
        assert found["discrete"]["log_q"]["exact"] == pytest.approx(-1.2130, abs=5e-5)
        values = [found["discrete"]["log_q"], *(v for one in found["temperatures"] for v in one["log_q"].values())]
        for value in values:
            assert abs(value["estimate"] - value["exact"]) < 5.5 * value["standard_error"]
        for one in found["temperatures"]:
            assert one["discretised"]["mean"] == pytest.approx(found["discrete"]["mean"])
            for kind in ("relaxed", "discretised"):
                assert one[kind]["frequencies"] == pytest.approx(one[kind]["mean"], abs=0.02)

    def test_curves_pass_through_the_exact_values(self):
        found = entropies(self.LOGITS, [1.0], samples=100, seed=0)["temperatures"][0]["log_q"]
        drawn = curves(self.LOGITS, 0.1, 10.0, points=3)
        assert drawn["temperatures"][1] == pytest.approx(1.0)
        for name, value in found.items():
            assert drawn[name][1] == pytest.approx(value["exact"])


def test_the_reported_elbo_estimates_the_exact_one(images):
    run = Run(SMALL, images)
    run.train_epoch()
    x = images.test[:4]
    exact = Objective(Exact())(run.model.log_likelihood(x), run.model.posterior(x), run.model.prior)
    from softhot.bounds import elbo

    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        draws = [
            elbo(run.model.log_likelihood(x), run.model.posterior(x), run.model.prior, samples=1, generator=noise)
            for _ in range(400)
        ]
    assert_mean(torch.stack(draws), exact.detach())
