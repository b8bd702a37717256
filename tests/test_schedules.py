"""Schedules begin at the start, end at the end, and stay there."""

from __future__ import annotations

import math

import pytest

from softhot.functional import Constant, Exponential, Linear, Schedule, schedule


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Constant(0.5), {0: 0.5, 10: 0.5, 10**9: 0.5}),
        (Linear(1.0, 0.5, steps=10), {0: 1.0, 5: 0.75, 10: 0.5, 11: 0.5, 10**9: 0.5}),
        (Linear(0.0, 1.0, steps=4), {0: 0.0, 1: 0.25, 4: 1.0, 100: 1.0}),
        (Exponential(1.0, 0.25, steps=10), {0: 1.0, 5: 0.5, 10: 0.25, 11: 0.25, 10**9: 0.25}),
        (Exponential(0.1, 10.0, steps=2), {0: 0.1, 1: 1.0, 2: 10.0}),
        (Linear(1.0, 0.5, steps=0), {0: 0.5, 1: 0.5}),
        (Exponential(1.0, 0.5, steps=0), {0: 0.5, 1: 0.5}),
    ],
    ids=str,
)
def test_values(value: Schedule, expected: dict[int, float]) -> None:
    assert {step: value(step) for step in expected} == pytest.approx(expected, rel=1e-12)


def test_exponential_schedules_fall_by_a_constant_factor() -> None:
    value = Exponential(2.0, 0.1, steps=7)
    factors = [value(step + 1) / value(step) for step in range(7)]
    assert factors == pytest.approx([math.pow(0.05, 1 / 7)] * 7)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1.0, None, 10), Constant(1.0)),
        ((1.0, 1.0, 10), Constant(1.0)),
        ((1.0, 0.5, 10), Exponential(1.0, 0.5, 10)),
        ((1.0, 0.5, 10, "linear"), Linear(1.0, 0.5, 10)),
        ((1.0, 0.5, 10, "exponential"), Exponential(1.0, 0.5, 10)),
    ],
    ids=str,
)
def test_by_name(arguments: tuple[float, float | None, int], expected: Schedule) -> None:
    assert schedule(*arguments) == expected


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown schedule 'linaer'; did you mean 'linear'"):
        schedule(1.0, 0.5, 10, "linaer")
    for ends in ((0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)):
        with pytest.raises(ValueError, match=f"Exponential from {ends[0]} to {ends[1]} needs positive ends"):
            Exponential(*ends, steps=10)
    for make in (lambda: Constant(math.nan), lambda: Linear(0.0, math.inf, 10), lambda: Exponential(math.nan, 1.0, 10)):
        with pytest.raises(ValueError, match="has steps of no number; use finite ones"):
            make()
    with pytest.raises(ValueError, match="steps=-5 is before the start; use steps=1000"):
        Linear(1.0, 0.5, steps=-5)
    with pytest.raises(TypeError, match="abstract"):
        Schedule()  # type: ignore[abstract]
