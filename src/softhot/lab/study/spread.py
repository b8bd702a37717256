"""A number over the seeds of an arm, by which runs are chosen and arms are summed up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Spread"]


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, their sample standard deviation (NaN for one seed) and their number.

    Example:
        >>> Spread.of([1.0, 3.0, float("nan")])
        Spread(mean=2.0, deviation=1.4142135623730951, count=2)
    """

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of the values that are finite."""
        finite = [value for value in values if math.isfinite(value)]
        mean = statistics.fmean(finite) if finite else math.nan
        deviation = math.nan
        if len(finite) > 1:
            deviation = math.hypot(*(value - mean for value in finite)) / math.sqrt(len(finite) - 1)
        return cls(mean, deviation, len(finite))
