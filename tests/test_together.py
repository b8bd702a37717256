"""Runs that are trained together have the numbers that they have when they are trained alone."""

import dataclasses

import pytest
import torch

from softhot.bounds import incompatible
from softhot.estimators import ESTIMATORS
from softhot.kernels.streams import Streams, drawn
from softhot.kl import TERMS
from softhot.lab.config import Config
from softhot.lab.study import record
from softhot.lab.study.together import MOST, Together, together
from softhot.lab.training import checkpoint
from softhot.lab.training.loop import Run
from softhot.problems.data import load, prepare
from tests.studies import trained

TINY = Config(latents=2, classes=3, hidden=(5,), components=2, batch_size=8, epochs=2, learned_prior=True)
PAIRS = [
    (name, label)
    for name, kind in ESTIMATORS.items()
    for label, term in TERMS.items()
    if incompatible(kind(), term, TINY.latents, kind.classes or TINY.classes) is None
]
# numbers differ by rounding, 1e-16, which Adam divides by no less than its eps, 1e-8, in a step of 1e-2, six times over
CLOSE = {"atol": 1e-9, "rtol": 1e-9}


@pytest.fixture(scope="module")
def images():
    """Three batches of 16 pixels, in float64."""
    digits = prepare(load("digits"), "threshold")
    sizes = {"train": 24, "valid": 10, "test": 10}
    return dataclasses.replace(
        digits, **{name: getattr(digits, name)[:count, 20:36].double() for name, count in sizes.items()}
    )


def runs(images, *configs):
    made = [Run(config, images) for config in configs]
    for run in made:
        run.model.double()
        run.learner.control.double()
        run.total = run.total.double()
    return made


def pair(**settings):
    """Two runs that differ in all that they may differ in."""
    one = dataclasses.replace(TINY, **settings)
    other = {"learning_rate": 2e-3, "control_learning_rate": 1e-2, "temperature": 0.7, "final_temperature": 0.4}
    return one, dataclasses.replace(one, seed=1, **other)


def state(run):
    """Everything that training changes."""
    found = {**run.model.state_dict(prefix="model."), **run.learner.control.state_dict(prefix="control.")}
    for name, optimiser in (("weights", run.optimiser), ("control", run.learner.optimiser)):
        for index, moments in ({} if optimiser is None else optimiser.state_dict()["state"]).items():
            found |= {f"{name}.{index}.{key}": value for key, value in moments.items()}
    return {name: value.detach().clone() for name, value in found.items()}


def assert_alike(images, *configs):
    alone, beside = runs(images, *configs), runs(images, *configs)
    fresh = [state(run) for run in alone]
    curves = [list(run.epochs()) for run in alone]
    epochs = zip(*Together(beside).epochs(), strict=True)
    for one, other, first, curve, found in zip(alone, beside, fresh, curves, epochs, strict=True):
        torch.testing.assert_close(state(other), state(one), **CLOSE)
        assert max((state(other)[name] - first[name]).abs().max().item() for name in first) > 1e-3
        assert (other.step, other.epoch) == (one.step, one.epoch)
        for ours, theirs in zip(found, curve, strict=True):
            known = {"epoch", "temperature", "evaluations"}
            assert all(getattr(ours, name) == getattr(theirs, name) for name in known)
            assert ours.objective == pytest.approx(theirs.objective, abs=1e-9)
            assert ours.valid_elbo == pytest.approx(theirs.valid_elbo, abs=1e-9)
    assert curves[0][-1].objective != pytest.approx(curves[1][-1].objective, abs=1e-3)  # two runs


@pytest.mark.parametrize(("name", "label"), PAIRS)
def test_every_estimator_and_term_learns_as_alone(images, name, label):
    assert_alike(images, *pair(estimator=name, term=label, classes=ESTIMATORS[name].classes or TINY.classes))


@pytest.mark.parametrize("baseline", ["running", "learned"])
def test_a_baseline_learns_as_alone(images, baseline):
    assert_alike(images, *pair(estimator="score-function", baseline=baseline))


def test_more_draws_the_other_optimiser_and_pixels_of_ones_own(images):
    dynamic = dataclasses.replace(images, train=0.1 + 0.8 * images.train, redraw=True)
    assert not torch.equal(*(dynamic.train_epoch(torch.Generator().manual_seed(seed)) for seed in (0, 1)))
    assert_alike(dynamic, *pair(estimator="gumbel-softmax", samples=3, optimiser="radam", learned_prior=False))


def test_a_run_goes_on_alone_from_its_checkpoint(images, tmp_path):
    configs = pair(estimator="rebar")
    whole, half = runs(images, *configs), runs(images, *configs)
    list(Together(whole).epochs())
    next(Together(half).epochs())
    checkpoint.save(half[1], tmp_path / "one.safetensors")
    (alone,) = runs(images, configs[1])
    checkpoint.restore(alone, tmp_path / "one.safetensors")
    assert alone.epoch == 1
    with pytest.raises(ValueError, match=r"runs at steps \[0, 3\] cannot take the next one together"):
        Together([alone, *runs(images, configs[0])])
    list(alone.epochs())
    torch.testing.assert_close(state(alone), state(whole[1]), **CLOSE)
    list(Together(half).epochs())  # as do all of them, from where they are
    torch.testing.assert_close(state(half[0]), state(whole[0]), **CLOSE)


def test_records_are_those_of_runs_alone(monkeypatch):
    monkeypatch.setattr(record, "GRADIENT_DRAWS", 32)
    settings = {"estimator": "score-function", "baseline": "running", "batch_size": 400, "epochs": 1}
    configs = [dataclasses.replace(TINY, seed=seed, **settings) for seed in (3, 4)]
    for ours, config in zip(trained(*configs), configs, strict=True):
        (theirs,) = trained(config)
        assert ours.keys() == theirs.keys()
        assert ours["gradient"]["reference"] == theirs["gradient"]["reference"] == "exact"
        for name in ("id", "arm", "seed", "bounds", "evaluations"):
            assert ours[name] == theirs[name]
        for name in ("objective", "elbo", "iwae", "log_likelihood", "valid_elbo"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5)
        for when in ("start", "end"):
            for part, numbers in theirs["gradient"][when].items():
                found = ours["gradient"][when][part]
                assert found["variance"] == pytest.approx(numbers["variance"], rel=1e-3)
                assert found["cosine"] == pytest.approx(numbers["cosine"], rel=1e-3)


def test_what_goes_together():
    base = Config(estimator="reinmax")
    alike = [dataclasses.replace(base, seed=1), dataclasses.replace(base, temperature=0.5, learning_rate=1e-3)]
    apart = [
        dataclasses.replace(base, **{name: value})
        for name, value in {
            "estimator": "zgr",
            "term": "discretised",
            "samples": 2,
            "latents": 3,
            "hidden": (32,),
            "batch_size": 50,
            "epochs": 31,
            "optimiser": "radam",
            "binarise": "none",
            "learned_prior": True,
        }.items()
    ]
    assert together([base, *apart, *alike]) == [(base, *alike), *((config,) for config in apart)]


def test_exact_terms_with_a_temperature_keep_to_one():
    heats = [
        Config(term=term, temperature=heat, seed=seed)
        for term in ("concrete", "concrete-exact")
        for heat in (0.5, 1.0)
        for seed in (0, 1)
    ]
    assert [len(group) for group in together(heats)] == [4, 2, 2]


def test_a_group_has_an_end():
    seeds = [Config(estimator="reinmax", seed=seed) for seed in range(MOST + 1)]
    assert [len(group) for group in together(seeds)] == [MOST, 1]
    large = [dataclasses.replace(config, hidden=(4096,)) for config in seeds[:6]]
    assert max(len(group) for group in together(large)) < 6
    assert [len(group) for group in together([dataclasses.replace(large[0], estimator="exact")] * 2)] == [1, 1]


def test_every_run_draws_from_its_own_generator():
    def seeded():
        return [torch.Generator().manual_seed(seed) for seed in (5, 6, 5)]

    generators = seeded()

    def draw(run):
        return drawn(lambda own: torch.rand(2, generator=own), Streams(generators, run))

    found = torch.func.vmap(draw, randomness="same")(torch.arange(3))
    torch.testing.assert_close(found, torch.stack([torch.rand(2, generator=own) for own in seeded()]), atol=0, rtol=0)
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
