"""assert_mean: it passes what is right, at the rate it states, and fails what is wrong."""

from __future__ import annotations

import math

import pytest
import torch

from softhot.testing import assert_mean


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def limit(tail: float) -> float:
    return -torch.special.ndtri(torch.tensor(tail, dtype=torch.float64)).item()


@pytest.mark.parametrize("components", [1, 50])
def test_the_false_alarm_rate_is_the_stated_one(components: int) -> None:
    repetitions, rate = 500, 0.1
    draws = uniform(repetitions, 400, components)
    alarms = torch.zeros(repetitions, dtype=torch.float64)
    for i, each in enumerate(draws):
        try:
            assert_mean(each, torch.full((components,), 0.5, dtype=torch.float64), rate)
        except AssertionError:
            alarms[i] = 1.0
    assert_mean(alarms, torch.tensor(1 - (1 - rate / components) ** components, dtype=torch.float64))


@pytest.mark.parametrize(("errors", "fails"), [(0.9, False), (1.1, True), (-0.9, False), (-1.1, True)])
def test_the_limit_is_a_quantile_of_the_standard_error(errors: float, fails: bool) -> None:
    draws = uniform(1000, 3)
    expected = draws.mean(0)
    allowed = limit(1e-6 / 6) * draws[:, 1].std() / math.sqrt(1000)
    expected[1] += errors * allowed
    if fails:
        with pytest.raises(
            AssertionError, match=r"component \(1,\): the mean .* is 5.6\d standard errors from .*; 5.1"
        ):
            assert_mean(draws, expected)
    else:
        assert_mean(draws, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_does_not_vary_is_equal_up_to_rounding(dtype: torch.dtype) -> None:
    draws = torch.full((1000, 2), 0.1, dtype=dtype)
    assert_mean(draws, torch.tensor([0.1, 0.1], dtype=torch.float64))
    eps = torch.finfo(dtype).eps
    with pytest.raises(AssertionError, match="is inf standard errors from"):
        assert_mean(draws, torch.tensor([0.1, 0.1 * (1 + 32 * eps)], dtype=torch.float64))
    assert_mean(torch.zeros(1000, dtype=dtype), torch.zeros((), dtype=dtype))


def test_shapes() -> None:
    draws = uniform(1000, 2, 3)
    assert_mean(draws, torch.full((2, 3), 0.5, dtype=torch.float64))
    assert_mean(uniform(1000, 0), torch.zeros(0))
    with pytest.raises(AssertionError, match=r"component \(1, 2\): "):
        assert_mean(draws, torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 0.6]]))
    with pytest.raises(AssertionError, match=r"^the mean "):
        assert_mean(uniform(1000), torch.tensor(0.6))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("draws", "expected", "rate", "message"),
    [
        (torch.zeros(99, 2), torch.zeros(2), 1e-6, "the mean of 99 draws"),
        (torch.zeros(100, 2), torch.zeros(3), 1e-6, r"draws of shape \(100, 2\) do not match .* shape \(3,\)"),
        (torch.zeros(100, 2), torch.zeros(()), 1e-6, "do not match"),
        (torch.zeros(()), torch.zeros(()), 1e-6, "do not match"),
        (torch.full((100,), math.nan), torch.zeros(()), 1e-6, "draws holds NaN"),
        (torch.zeros(100), torch.tensor(math.inf), 1e-6, "expected holds NaN or inf"),
        (torch.zeros(100), torch.zeros(()), 0.0, "false_alarm=0.0 is not"),
    ],
)
def test_misuse(draws: torch.Tensor, expected: torch.Tensor, rate: float, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        assert_mean(draws, expected, rate)
    assert "\n" not in str(error.value)
