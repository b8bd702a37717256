"""Schedules: a number for every step of training, a temperature or the weight of a KL term.

With a weight below one the objective is no ELBO: report :func:`softhot.bounds.elbo` or `iwae`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from softhot.names import unknown

__all__ = ["Constant", "Exponential", "Linear", "Schedule", "schedule"]


@dataclass(frozen=True)
class Schedule(ABC):
    """A value for every step; abstract."""

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""


def _check(*values: float, steps: int = 0) -> None:
    if not all(map(math.isfinite, values)):
        raise ValueError(f"a schedule through {', '.join(map(str, values))} has steps of no number; use finite ones.")
    if steps < 0:
        raise ValueError(f"steps={steps} is before the start; use steps=1000, for example, or 0 for the end at once.")


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value always.

    Example:
        >>> Constant(0.5)(1000)
        0.5
    """

    value: float

    def __post_init__(self) -> None:
        _check(self.value)

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class Linear(Schedule):
    """From start to end in a straight line over a number of steps, then end.

    Example:
        >>> Linear(1.0, 0.5, steps=100)(50)
        0.75
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check(self.start, self.end, steps=self.steps)

    def __call__(self, step: int) -> float:
        fraction = _fraction(step, self.steps)
        return (1 - fraction) * self.start + fraction * self.end  # the end exactly


@dataclass(frozen=True)
class Exponential(Schedule):
    """From start to end by a constant factor per step, then end (Jang et al. 2017, section 4.2).

    Example:
        >>> Exponential(1.0, 0.25, steps=100)(50)
        0.5
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check(self.start, self.end, steps=self.steps)
        if not (self.start > 0 and self.end > 0):
            raise ValueError(f"Exponential from {self.start} to {self.end} needs positive ends; use Linear instead.")

    def __call__(self, step: int) -> float:
        fraction = _fraction(step, self.steps)
        return math.exp((1 - fraction) * math.log(self.start) + fraction * math.log(self.end))


def _fraction(step: int, steps: int) -> float:
    """How much of the way to the end is gone: all of it, where it takes no steps."""
    return min(step / steps, 1.0) if steps else 1.0


_ANNEALED = {"linear": Linear, "exponential": Exponential}


def schedule(start: float, end: float | None, steps: int, shape: str = "exponential") -> Schedule:
    """The schedule by name, of temperatures or weights: constant where there is no end.

    Raises:
        ValueError: If the shape has another name.

    Example:
        >>> schedule(1.0, 0.5, steps=1000), schedule(1.0, None, steps=1000)
        (Exponential(start=1.0, end=0.5, steps=1000), Constant(value=1.0))
    """
    if shape not in _ANNEALED:
        raise unknown("schedule", shape, _ANNEALED)
    if end is None or end == start:
        return Constant(start)
    return _ANNEALED[shape](start, end, steps)
