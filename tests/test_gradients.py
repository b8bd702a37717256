"""What is measured of gradients: against known distributions, with the coverage of its standard errors."""

import functools
import math

import pytest
import torch
from scipy import stats

from softhot.estimators import Exact, LeaveOneOut, StraightThrough
from softhot.lab.config import Config
from softhot.lab.gradients.draws import measure, reference
from softhot.lab.gradients.quality import BLOCKS, Truth, quality
from softhot.lab.gradients.targets import VaeTarget
from softhot.lab.training.loop import Run
from softhot.problems.data import load, prepare

SMALL = Config(hidden=(16,), epochs=3, latents=2, classes=3)
ALPHA = 1e-6  # false alarms


@pytest.fixture(scope="module")
def images():
    return prepare(load("digits"), "threshold")


class Normal:
    """Draws g* + b + s e, e standard normal, of known quality."""

    def __init__(self, truth, shift, deviation):
        self.truth, self.shift, self.deviation = truth, shift, deviation

    def draws(self, count, generator):
        noise = torch.randn(count, len(self.truth), generator=generator, dtype=torch.float64)
        return self.truth + self.shift + self.deviation * noise

    @property
    def known(self):
        norm, mean = self.truth.norm().item(), self.truth + self.shift
        bias, variance = self.shift.norm().item() / norm, self.deviation**2 * len(self.truth) / norm**2
        many = self.draws(400_000, torch.Generator().manual_seed(1))
        cosines = torch.nn.functional.cosine_similarity(many, self.truth[None], dim=-1)
        return {
            "bias": bias,
            "variance": variance,
            "mse": bias**2 + variance,
            "snr": mean.norm().item() / (self.deviation * len(self.truth) ** 0.5),
            "cosine": cosines.mean().item(),
            "cosine_of_mean": torch.nn.functional.cosine_similarity(mean, self.truth, dim=0).item(),
            **dict(
                zip(
                    ("cosine_low", "cosine_median", "cosine_high"),
                    cosines.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist(),
                    strict=True,
                )
            ),
        }


def plane(*values):
    return torch.tensor(values, dtype=torch.float64)


BIASED = Normal(plane(3.0, 4.0, 0.0), plane(1.0, 0.0, 1.0), 2.0)
FAIR = Normal(plane(3.0, 4.0, 0.0), plane(0.0, 0.0, 0.0), 2.0)
WIDE = Normal(torch.full((200,), 200**-0.5, dtype=torch.float64), torch.zeros(200, dtype=torch.float64), 200**-0.5)
MEASURES = ("bias", "variance", "mse", "snr", "cosine", "cosine_of_mean")


def test_quality_is_what_its_definition_says():
    found = quality(BIASED.draws(20_000, torch.Generator().manual_seed(0)), Truth(BIASED.truth))
    for name, known in BIASED.known.items():
        error = getattr(found, f"{name}_se", 0.02)
        assert abs(getattr(found, name) - known) < 6 * error, name
        assert 0 < error < 0.05
    assert found.truth_se == 0


REPETITIONS, LEVEL = 200, 0.7
WIDTH = stats.t.ppf((1 + LEVEL) / 2, BLOCKS - 1)  # in standard errors, of an interval of that level
# how many of the intervals may hold the known value; 0.03 is allowed to the jackknife's approximation
LOW = stats.binom.ppf(ALPHA, REPETITIONS, LEVEL - 0.03)
HIGH = stats.binom.ppf(1 - ALPHA, REPETITIONS, LEVEL + 0.03)


@functools.cache
def distances(case, noise=0.0, count=48):
    """From every known value, in standard errors."""
    generator, known = torch.Generator().manual_seed(0), case.known
    found = []
    for _ in range(REPETITIONS):
        truth = Truth(case.truth)
        if noise:
            blocks = Normal(case.truth, 0 * case.shift, noise).draws(BLOCKS, generator)
            truth = Truth.of_blocks(blocks)
        found.append(quality(case.draws(count, generator), truth))
    return {
        name: [abs(getattr(one, name) - known[name]) / getattr(one, f"{name}_se") for one in found] for name in MEASURES
    }


def covered(case, noise=0.0, *, scale=1.0):
    """How many intervals, made wider by a factor, hold the known value of each measure."""
    return [sum(one <= scale * WIDTH for one in many) for many in distances(case, noise).values()]


@pytest.mark.parametrize("noise", [0.0, 1.0], ids=["exact truth", "noisy truth"])
def test_intervals_cover_as_often_as_they_say(noise):
    assert all(LOW <= count <= HIGH for count in covered(BIASED, noise))


@pytest.mark.parametrize("case", [FAIR, WIDE], ids=["three dimensions", "many dimensions"])
def test_intervals_cover_at_least_as_often_without_bias(case):
    assert all(count >= LOW for count in covered(case))


def test_intervals_that_are_too_narrow_or_too_wide_are_found():
    assert all(count < LOW for count in covered(BIASED, scale=0.5))
    assert all(count > HIGH for count in covered(BIASED, scale=2.0))


def test_a_noisy_truth_is_allowed_for():
    generator = torch.Generator().manual_seed(0)
    noisy = Normal(WIDE.truth, WIDE.shift, 0.2)
    squares, z = [], []
    for _ in range(150):
        blocks = noisy.draws(BLOCKS, generator)
        found = quality(WIDE.draws(64, generator), Truth.of_blocks(blocks))
        squares.append(found.mse - found.variance)
        z.append(found.bias_z)
    expected = torch.tensor(squares, dtype=torch.float64)
    assert abs(expected.mean().item()) < 5 * expected.std().item() / 150**0.5
    assert sum(one > 2 for one in z) <= stats.binom.ppf(1 - ALPHA, 150, 0.05)
    blocks = noisy.draws(BLOCKS, generator)
    wrong = quality(WIDE.draws(64, generator), Truth(blocks.mean(0)))  # as if it were exact
    assert wrong.bias_z > 5


def test_z_is_noise_without_bias_and_large_with_it():
    generator = torch.Generator().manual_seed(0)
    truth = Truth(WIDE.truth)
    fair = [quality(WIDE.draws(64, generator), truth).bias_z for _ in range(150)]
    assert sum(z > 2 for z in fair) <= stats.binom.ppf(1 - ALPHA, 150, 0.05)
    assert sum(z < 0 for z in fair) > stats.binom.ppf(ALPHA, 150, 0.4)  # the square is around zero, not above it
    far = Normal(WIDE.truth, 0.5 * WIDE.truth, WIDE.deviation)
    assert min(quality(far.draws(64, generator), truth).bias_z for _ in range(50)) > 5


def test_the_mean_lost_in_noise_has_no_cosine_and_a_truth_of_noise_no_quality():
    generator = torch.Generator().manual_seed(0)
    lost = Normal(WIDE.truth, WIDE.shift, 100.0)
    found = [quality(lost.draws(32, generator), Truth(WIDE.truth)) for _ in range(20)]
    assert any(math.isnan(one.cosine_of_mean) for one in found)
    assert all(math.isfinite(one.cosine) for one in found)
    assert math.isnan(quality(WIDE.draws(32, generator), Truth(0 * WIDE.truth)).bias)


def test_draws_without_noise_have_no_errors():
    found = quality(torch.ones(32, 3), Truth(torch.tensor([1.0, 1.0, 2.0])))
    assert found.bias == pytest.approx(6**-0.5)
    assert found.bias_z == math.inf
    assert found.snr == math.inf
    assert (found.variance, found.variance_se, found.snr_se, found.cosine_se) == (0, 0, 0, 0)


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="3 draws are too few"):
        quality(torch.ones(3, 2), Truth(torch.ones(2)))


def test_references_agree_and_biased_estimators_show(images):
    run = Run(SMALL, images)
    for _ in range(2):
        run.train_epoch()
    target = VaeTarget(run.model, images.test[:8])
    exact, sampled = reference(target), reference(target, limit=1, draws=64)
    assert exact.how == "exact"
    assert sampled.how == "leave-one-out, 64 x 16 draws"
    for part, truth in exact.parts.items():
        distance = (truth.gradient - sampled.parts[part].gradient).square().sum().item()
        assert distance < 9 * sampled.parts[part].variance
    unbiased = measure(target, LeaveOneOut(), exact).parts
    biased = measure(target, StraightThrough(), exact, draws=256).parts
    perfect = measure(target, Exact(), exact).parts
    assert perfect["encoder"].bias < 1e-5
    assert perfect["decoder"].cosine == pytest.approx(1.0)
    assert perfect["encoder"].bias_z == 0
    for fair in (unbiased["encoder"], unbiased["decoder"], biased["decoder"]):
        assert fair.bias_z < 4
    assert biased["encoder"].bias_z > 4
    apart = measure(target, StraightThrough(), sampled, draws=256).parts["encoder"]
    close = biased["encoder"]
    assert abs(apart.bias - close.bias) < 6 * math.hypot(apart.bias_se, close.bias_se)
    assert apart.truth_se > 0


def test_a_block_left_out_is_as_if_it_had_never_been_drawn():
    blocks = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 2
    truth = Truth.of_blocks(blocks)
    assert truth.variance == pytest.approx(blocks.var(0).sum().item() / 7)
    for i, other in enumerate(truth.others):
        rest = Truth.of_blocks(torch.cat([blocks[:i], blocks[i + 1 :]]))
        assert torch.allclose(other.gradient, rest.gradient)
        assert other.variance == pytest.approx(rest.variance)
