"""Estimators measured side by side: on models, problems and along runs, with what they have learned or may learn."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import softhot.lab
from softhot.estimators import LeaveOneOut, QuadraticSurrogate, Rebar, Relax, Relaxation, ScoreFunction, StraightThrough
from softhot.estimators.score_function import RunningMean
from softhot.lab.config import Config
from softhot.lab.figures.gradients import along_figure, gradient_figure
from softhot.lab.gradients.diagnosis import label
from softhot.lab.gradients.places import Grid, along_run, at_checkpoint, at_fresh_weights, at_start
from softhot.lab.training.loop import Run, few
from softhot.lab.training.single import Session
from softhot.problems import PROBLEMS, Polynomial, Problem, Quadratic
from softhot.problems.data import load, prepare

SMALL = Config(estimator="leave-one-out", hidden=(16,), epochs=4, latents=2, classes=3)


@pytest.fixture(scope="module")
def trained():
    run = Run(SMALL, prepare(load("digits"), "threshold"))
    run.train_epoch()
    return run.model, few(run.images.test, 8)


def test_a_model_is_diagnosed_in_two_lines(trained):
    model, batch = trained
    exact, fair, biased, relaxed = softhot.lab.diagnose(
        model, batch, ["exact", "leave-one-out", StraightThrough(), "gumbel-softmax"]
    )
    assert [exact.estimator, fair.estimator, biased.estimator] == ["exact", "leave-one-out", "straight-through"]
    assert (exact.evaluations, fair.evaluations, biased.evaluations) == (9, 4, 1)
    assert exact.encoder.bias < 1e-5
    assert exact.encoder.variance == 0
    assert max(fair.encoder.bias_z, fair.decoder.bias_z, biased.decoder.bias_z) < 4
    assert min(biased.encoder.bias_z, relaxed.encoder.bias_z, relaxed.decoder.bias_z) > 4
    assert fair.encoder.cosine_low < fair.encoder.cosine_median < fair.encoder.cosine_high
    assert all(one.truth == "exact" and one.seconds > 0 for one in (exact, fair, biased, relaxed))


def test_a_row_has_the_products_of_variance_and_cost(trained):
    (one,) = softhot.lab.diagnose(*trained, ["leave-one-out"], draws=32)
    row = one.row()
    for part, found in (("encoder", one.encoder), ("decoder", one.decoder)):
        assert row[f"{part}_variance_times_evaluations"] == pytest.approx(4 * found.variance)
        assert row[f"{part}_variance_times_seconds"] == pytest.approx(one.seconds * found.variance)
        assert row[f"{part}_bias"] == found.bias
    assert not any(isinstance(value, dict | tuple) for value in row.values())


def test_more_samples_are_worth_their_cost_in_variance(trained):
    few_draws, many = softhot.lab.diagnose(
        *trained, {"4": ScoreFunction(samples=4), "16": ScoreFunction(samples=16)}, draws=400
    )
    one, other = few_draws.row(), many.row()
    key = "encoder_variance_times_evaluations"
    error = few_draws.encoder.variance_se * 4 + many.encoder.variance_se * 16
    assert abs(one[key] - other[key]) < 5 * error


def test_equal_seeds_give_equal_numbers(trained):
    one, other = (softhot.lab.diagnose(*trained, ["reinmax"], draws=32, seed=3)[0] for _ in range(2))
    assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(other, seconds=0.0)
    third = softhot.lab.diagnose(*trained, ["reinmax"], draws=32, seed=4)[0]
    assert third.encoder.bias != one.encoder.bias


def test_a_measurement_leaves_model_estimator_and_generator_alone(trained):
    model, batch = trained
    baseline = RunningMean()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    softhot.lab.diagnose(model, batch, [ScoreFunction(baseline=baseline)], draws=32)
    assert baseline.calls == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.prior.unsqueeze(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("estimators", "settings", "message"),
    [
        (["reinmx"], {}, "did you mean 'reinmax'"),
        (["disarm"], {}, "disarm cannot be measured here: the estimator is for 2 classes, and there are 3"),
        (["vimco"], {}, "bound of several draws"),
        (["reinmax"], {"draws": 31}, "draws=31 is too few; use draws=32"),
        (["reinmax"], {"learn": -1}, "learn=-1"),
        (["reinmax"], {"reference_draws": 0}, "reference_draws=0"),
        (["reinmax"], {"term": "concrete"}, "reinmax t=1 cannot be measured here: the term has a temperature"),
        (["reinmax"], {"term": "jangg"}, "did you mean 'jang'"),
        ([], {}, "no estimator is given"),
        ([Rebar(), Rebar()], {}, "two estimators have one label"),
    ],
)
def test_bad_input_is_refused_before_any_work(trained, estimators, settings, message, monkeypatch):
    monkeypatch.setattr("softhot.lab.gradients.diagnosis.reference", None)
    with pytest.raises(ValueError, match=message) as error:
        softhot.lab.diagnose(*trained, estimators, **settings)
    assert "\n" not in str(error.value)


def test_a_vae_needs_images_and_a_problem_parameters_of_its_shape(trained):
    with pytest.raises(ValueError, match="batch=None leaves a VAE without images"):
        softhot.lab.diagnose(trained[0], None, ["reinmax"])
    with pytest.raises(ValueError, match=r"parameters of shape \(3, 2\) .* use problem.start"):
        softhot.lab.diagnose(PROBLEMS["rebar"], torch.zeros(3, 2), ["reinmax"])
    with pytest.raises(ValueError, match="vimco cannot be measured here: its value is a bound"):
        softhot.lab.diagnose(PROBLEMS["rebar"], None, ["vimco"])


@pytest.mark.parametrize("name", ["rebar", "polynomial", "shared-logit", "random-quadratic", "quadratic-programme"])
def test_problems_are_held_against_their_own_truth(name):
    found = softhot.lab.diagnose(PROBLEMS[name], None, ["leave-one-out", "gumbel-softmax"])
    assert found[0].encoder.bias_z < 4
    assert found[0].truth == "exact"
    assert found[0].decoder is None
    assert [*found[0].parts] == ["encoder"]


def test_quadratics_tell_exact_from_inexact_estimators():
    fair, zgr, biased = softhot.lab.diagnose(Quadratic(), None, ["reinmax", "zgr", "straight-through"])
    assert max(fair.encoder.bias_z, zgr.encoder.bias_z) < 4 < biased.encoder.bias_z


KNOWN = Polynomial(latents=3)


@dataclass(frozen=True)
class Opaque(Problem):
    """A polynomial that does not know its mean and says that it is too large."""

    source: ClassVar[str] = "this test"
    latents: ClassVar[int] = 3
    classes: ClassVar[int] = 2

    def _f(self, z):
        return KNOWN.f(z)

    def _value(self, logits):
        raise ValueError("too many configurations.")


def test_a_problem_without_a_known_mean_gets_a_sampled_truth():
    (found,) = softhot.lab.diagnose(Opaque(), None, ["leave-one-out"], reference_draws=1600)
    (exact,) = softhot.lab.diagnose(KNOWN, torch.zeros(3, 2), ["leave-one-out"])
    assert found.truth == "leave-one-out, 1600 x 16 draws"
    assert 0 < found.encoder.truth_se < 0.1
    assert found.encoder.bias_z < 4
    tolerance = 5 * (found.encoder.variance_se + exact.encoder.variance_se) + 6 * found.encoder.truth_se
    assert abs(found.encoder.variance / exact.encoder.variance - 1) < tolerance / exact.encoder.variance


@pytest.mark.parametrize(
    ("problem", "estimator"),
    [
        ("rebar", Relax(QuadraticSurrogate(1, 2))),
        ("shared-logit", ScoreFunction(baseline=RunningMean())),
    ],
    ids=["relax", "running mean"],
)
def test_what_may_be_learned_saves_variance_and_keeps_the_mean(problem, estimator):
    (before,) = softhot.lab.diagnose(PROBLEMS[problem], None, [estimator])
    (after,) = softhot.lab.diagnose(PROBLEMS[problem], None, [estimator], learn=400)
    assert after.encoder.variance < before.encoder.variance / 1.5
    assert after.encoder.bias_z < 4


def test_rebar_learns_its_weight_on_a_model(trained):
    estimator = Rebar(Relaxation(temperature=0.5, eta=0.8))
    (before,) = softhot.lab.diagnose(*trained, [estimator], draws=64)
    (after,) = softhot.lab.diagnose(*trained, [estimator], draws=64, learn=100)
    assert after.encoder.variance < before.encoder.variance / 4
    assert after.encoder.bias_z < 4
    assert abs(estimator.relaxation.eta.item() - 1) < 0.1


def test_labels():
    assert label(Rebar()) == "rebar"
    assert label(Relax(temperature=0.25)) == "relax t=0.25"
    assert label(LeaveOneOut(samples=2)) == "leave-one-out n=2"
    grid = Grid(["score-function", "reinmax"], temperatures=[1.0], baselines=["running", "learned"], samples=2)
    assert [*grid.estimators(2, 3)] == [
        "score-function n=2 running baseline",
        "score-function n=2 learned baseline",
        "reinmax n=2 t=1",
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a run that was trained for longer."""
    folder = tmp_path_factory.mktemp("run")
    config = dataclasses.replace(SMALL, estimator="score-function", baseline="running")
    Session.start(config, folder).train(keep_every=2)
    Session.start(dataclasses.replace(config, epochs=6), folder, resume=True).train(keep_every=2)
    return folder


class TestPlaces:
    def test_along_a_run_every_kept_checkpoint_is_met_with_what_was_learned(self, folder):
        met = [
            (place.epoch, place.own.baseline.calls.item(), place.target.model.encoder[0].weight.detach().clone())
            for place in along_run(folder, images=4)
        ]
        assert [epoch for epoch, *_ in met] == [0, 2, 4, 6]
        assert [calls for _, calls, _ in met] == [0, 24, 48, 72]
        last = at_checkpoint(folder, images=4)
        assert last.epoch == 6
        assert torch.equal(last.target.model.encoder[0].weight, met[-1][2])
        assert not torch.equal(met[0][2], met[1][2])
        fourth = at_checkpoint(folder / "checkpoints/00004.safetensors", images=4)
        assert torch.equal(fourth.target.model.encoder[0].weight, met[2][2])

    def test_a_run_is_measured_with_its_own_estimator_unless_others_are_named(self, folder):
        own, named = Grid([]), Grid(["reinmax"])
        found = [own.measure(place, draws=32, learn=10)[0] for place in along_run(folder, images=4)]
        assert {one.estimator for one in found} == {"score-function"}
        assert found[-1].encoder.variance < found[0].encoder.variance / 10  # the baseline has learned
        assert named.measure(at_checkpoint(folder, images=4), draws=32, learn=0)[0].estimator == "reinmax t=1"

    def test_a_folder_without_kept_checkpoints_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="--keep-every 1"):
            next(along_run(tmp_path, images=4))

    def test_the_pictures_show_every_measurement(self, folder):
        grid = Grid(["leave-one-out", "straight-through"])
        places = [at_fresh_weights(SMALL, images=4), at_start("rebar", seed=0)]
        found = grid.measure(places[0], draws=64, learn=0)
        figure = gradient_figure(found)
        assert len(figure.data) == 2 * 3
        assert figure.data[0].marker.symbol.endswith("-open")  # not told from unbiased
        assert [*figure.layout.yaxis2.ticktext] == ["leave-one-out", "straight-through"]
        assert len(gradient_figure(grid.measure(places[1], draws=64, learn=0)).data) == 2 * 2
        run = [(place.epoch, one) for place in along_run(folder, 4) for one in grid.measure(place, draws=32, learn=0)]
        figure = along_figure(run)
        assert len(figure.data) == 2 * 3
        assert all([*trace.x] == [0, 2, 4, 6] for trace in figure.data)
