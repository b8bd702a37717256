r"""How good draws of a gradient are, against the truth.

For M draws g of a gradient whose truth is g*, all relative to its norm:

- bias: :math:`\|E g - g^*\| / \|g^*\|`, from the mean of the draws, its square corrected for the variance of that mean
  and so around zero for an unbiased gradient; that square over its standard error, z, tells bias from noise;
- variance: :math:`\operatorname{tr} \operatorname{Cov}(g) / \|g^*\|^2`;
- mean squared error: :math:`E \|g - g^*\|^2 / \|g^*\|^2`, the squared bias and the variance together;
- signal to noise: :math:`\|E g\| / \sqrt{\operatorname{tr} \operatorname{Cov}(g)}`, its square likewise corrected;
- cosine: the mean and quantiles of cos(g, g*) over the draws, and cos(E g, g*), corrected, too: NaN where the mean of
  the draws is lost in its noise.

Where g* is itself the mean of unbiased draws, its variance is subtracted from the squared bias and from the squared
norm of g*, and its relative standard error is stated.

Standard errors are the jackknife's, which leaves out one of 16 blocks of draws at a time, and then one of 16 blocks of
those behind g*: they have 15 degrees of freedom, or more, so that 2.13 of them cover 95%. Around a bias of zero its
square is a sum of products of noise, of which the jackknife gives the standard error up to 1.4 times too wide: an
unbiased gradient is then called biased less often than a z of 2 suggests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["BLOCKS", "Quality", "Tally", "Truth", "quality"]

BLOCKS = 16
"""The number of blocks of the jackknife."""
_ROUNDING = 1e-8  # of the squared relative bias, in float32
_QUANTILES = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)


@dataclass(frozen=True)
class Quality:
    """The numbers of the module's docstring, with standard errors.

    Attributes:
        mse: the mean squared error.
        cosine_low, cosine_median, cosine_high: quantiles over the draws, at 5%, 50% and 95%.
        truth_se: the relative standard error of what stands for g*; zero where that is exact.
    """

    bias: float
    bias_se: float
    bias_z: float
    variance: float
    variance_se: float
    mse: float
    mse_se: float
    snr: float
    snr_se: float
    cosine: float
    cosine_se: float
    cosine_low: float
    cosine_median: float
    cosine_high: float
    cosine_of_mean: float
    cosine_of_mean_se: float
    truth_se: float


@dataclass(frozen=True)
class Truth:
    """A true gradient, or what stands for it.

    Arguments:
        gradient: g*, of shape (P,).
        variance: the trace of the covariance of what stands for g*; zero where that is exact.
        others: what stands for it with one block of draws left out, for each.
    """

    gradient: Float[Tensor, " P"]
    variance: float = 0.0
    others: tuple[Truth, ...] = ()

    @classmethod
    def of_blocks(cls, blocks: Float[Tensor, "B P"]) -> Truth:
        r"""The mean of blocks, each the mean of equally many independent unbiased draws.

        Of B blocks b with mean m, the variance of m without block i follows from the deviations d = b - m:

        .. math:: \frac{1}{(B - 1)(B - 2)} \Big(\sum_j |d_j|^2 - \frac{B}{B - 1} |d_i|^2\Big)
        """
        count, mean = len(blocks), blocks.mean(0)
        squares = (blocks - mean).square().sum(-1)
        left = (squares.sum() - squares * (count / (count - 1))) / ((count - 1) * (count - 2))
        rest = ((mean * count - block) / (count - 1) for block in blocks)
        others = tuple(cls(one, variance) for one, variance in zip(rest, left.tolist(), strict=True))
        return cls(mean, squares.sum().item() / (count * (count - 1)), others)

    @cached_property
    def norm(self) -> float:
        """Of g*: that of what stands for it, less its noise; zero where the noise is all."""
        return math.sqrt(max(self.gradient.to(torch.float64).square().sum().item() - self.variance, 0.0))


class Tally:
    """What is kept of draws that come one at a time: sums by block, not the draws.

    Arguments:
        truth: what they are held against.
    """

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.start = truth.gradient.to(torch.float64)
        self.shifts = self.start.new_zeros(BLOCKS, len(self.start))  # sums of g - g*
        self.units = torch.zeros_like(self.shifts)  # sums of g / |g|
        self.squares = [0.0] * BLOCKS  # sums of |g - g*|^2
        self.counts = [0] * BLOCKS
        self.cosines: list[float] = []
        self.rounding = 0.0

    def add(self, gradient: Float[Tensor, " P"]) -> None:
        """Take in a draw."""
        block, draw = len(self.cosines) % BLOCKS, gradient.to(torch.float64)
        shift, norm = draw - self.start, draw.norm()
        unit = draw / norm if norm > 0 else draw
        self.shifts[block] += shift
        self.units[block] += unit
        self.squares[block] += shift.square().sum().item()
        self.counts[block] += 1
        self.cosines.append((unit @ self.start).item())
        eps = BLOCKS * torch.finfo(gradient.dtype).eps
        self.rounding = max(self.rounding, (eps * norm.item()) ** 2)

    def quality(self) -> Quality:
        """The numbers of the draws so far.

        Raises:
            ValueError: If there are too few for a standard error.
        """
        if len(self.cosines) < 2 * BLOCKS:
            raise ValueError(f"{len(self.cosines)} draws are too few for a standard error; use {2 * BLOCKS} or more.")
        norm = self.truth.norm
        if not (norm > 0 and math.isfinite(norm)):
            return Quality(*(math.nan,) * 17)
        sums = self.shifts.sum(0), self.units.sum(0), math.fsum(self.squares), sum(self.counts)
        found = self._measures(*sums, self.truth)
        left = [
            self._measures(sums[0] - shift, sums[1] - unit, sums[2] - square, sums[3] - count, self.truth)
            for shift, unit, square, count in zip(self.shifts, self.units, self.squares, self.counts, strict=True)
        ]
        elsewhere = [self._measures(*sums, truth) for truth in self.truth.others]
        errors = _errors(left, elsewhere)
        squared, squared_se = found[0], errors[0]
        quantiles = torch.tensor(self.cosines, dtype=torch.float64).quantile(_QUANTILES) / norm
        low, median, high = (_within(one) for one in quantiles.tolist())
        return Quality(
            bias=math.sqrt(max(squared, 0.0)),
            bias_se=squared_se / (2 * math.sqrt(max(squared, squared_se, _ROUNDING))),
            bias_z=_ratio(squared, squared_se) if max(squared, squared_se) > _ROUNDING else 0.0,
            variance=found[1],
            variance_se=errors[1],
            mse=found[2],
            mse_se=errors[2],
            snr=found[3],
            snr_se=errors[3],
            cosine=_within(found[4]),
            cosine_se=errors[4],
            cosine_low=low,
            cosine_median=median,
            cosine_high=high,
            cosine_of_mean=_within(found[5]),
            cosine_of_mean_se=errors[5],
            truth_se=math.sqrt(self.truth.variance) / norm,
        )

    def _measures(self, shifts: Tensor, units: Tensor, squares: float, count: int, truth: Truth) -> list[float]:
        """Squared bias, variance, mean squared error, signal to noise, cosine, and cosine of the mean."""
        gradient, norm = truth.gradient.to(torch.float64), truth.norm
        if norm == 0:
            return [math.nan] * 6
        mean = self.start + shifts / count
        spread = (squares - shifts.square().sum().item() / count) / (count - 1)
        if spread <= self.rounding:
            spread = 0.0
        off = (mean - gradient).square().sum().item()
        squared_bias = (off - spread / count - truth.variance) / norm**2
        signal = max(mean.square().sum().item() - spread / count, 0.0)
        return [
            squared_bias,
            spread / norm**2,
            squared_bias + spread / norm**2,
            math.sqrt(_ratio(signal, spread)),
            (units @ gradient).item() / (count * norm),
            (mean @ gradient).item() / (norm * math.sqrt(signal)) if signal > 0 else math.nan,
        ]


def quality(draws: Iterable[Float[Tensor, " P"]], truth: Truth) -> Quality:
    """The numbers of the module's docstring.

    Arguments:
        draws: of shape (M, P), or one after the other.
        truth: what they are held against.

    Raises:
        ValueError: If there are too few draws for a standard error.

    Example:
        >>> import torch
        >>> found = quality(torch.ones(32, 3), Truth(2 * torch.ones(3)))
        >>> round(found.bias, 6), found.variance, round(found.cosine, 6)
        (0.5, 0.0, 1.0)
    """
    tally = Tally(truth)
    for draw in draws:
        tally.add(draw)
    return tally.quality()


def _ratio(value: float, error: float) -> float:
    return value / error if error > 0 else math.inf


def _within(cosine: float) -> float:
    return min(max(cosine, -1.0), 1.0)


def _errors(*samples: list[list[float]]) -> list[float]:
    """Of every measure: the jackknife's error for each sample, together."""
    squares = [0.0] * len(samples[0][0])
    for left in samples:
        for i, values in enumerate(zip(*left, strict=True)):
            if len({*values}) > 1:  # not the same infinity
                centre = math.fsum(values) / len(values)
                squares[i] += (len(values) - 1) / len(values) * math.fsum((value - centre) ** 2 for value in values)
    return [math.sqrt(square) for square in squares]
