r"""The noise of a discrete choice, tabulated.

A choice adds noise to every location and takes the largest. Here the noise is Gumbel plus something else, and one of
the two is wide, the other narrow: :math:`\varepsilon = X + w Y` with :math:`0 < w \le 1`. The wide one has a CDF in
closed form, and the narrow one is summed by the trapezoid rule, which converges geometrically because every integrand
is analytic in a strip of half-width at least :math:`\pi / 2`:

.. math:: F(x) = P(X + w Y \le x) = \int F_X(x - w y) \, p_Y(y) \, dy

A table holds four functions of x on an equally spaced grid, each to a relative accuracy near rounding in both tails:

.. math:: A = -\log F, \qquad D = f / F = -A', \qquad R = f' / F = D' + D^2, \qquad B = \partial A / \partial s
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from softhot.kernels.constants import kept
from softhot.kernels.routes import constant, forward

__all__ = ["NOISES", "Grid", "Noise", "Table", "tabulate"]

Noise = Literal["gumbel", "-gumbel", "normal"]
NOISES: tuple[Noise, ...] = ("gumbel", "-gumbel", "normal")

_STEP = 0.25  # of the narrow variable: error exp(-pi^2 / 0.25), below rounding
_MIDDLE = 1.0  # where the CDF of no mixture is near zero or one
_ROWS = 32  # temperatures tabulated at once: bounds the working memory


class Table(NamedTuple):
    """A, D, R and B of the module's docstring; each of shape (temperatures, grid points), but R if not asked for."""

    exponent: Tensor
    hazard: Tensor
    slope: Tensor
    drift: Tensor


@dataclass(frozen=True)
class Grid:
    """Equally spaced points: start, start + step, ...; `points` of them.

    The narrow variable is followed as far as its density is exp(-tail): by default below the rounding of one.
    """

    start: float
    step: float
    points: int
    tail: float = 46.0


class _Gumbel:
    @staticmethod
    def log_cdf(x: Tensor) -> Tensor:
        return -torch.exp(-x)

    @staticmethod
    def log_sf(x: Tensor) -> Tensor:
        return torch.log(-torch.expm1(-torch.exp(-x)))

    @staticmethod
    def log_pdf(x: Tensor) -> Tensor:
        return -x - torch.exp(-x)

    @staticmethod
    def score(x: Tensor) -> Tensor:
        return torch.expm1(-x)

    @staticmethod
    def range(tail: float) -> tuple[float, float]:
        return -4.25, tail


class _NegativeGumbel:
    @staticmethod
    def log_cdf(x: Tensor) -> Tensor:
        return _Gumbel.log_sf(-x)

    @staticmethod
    def log_sf(x: Tensor) -> Tensor:
        return _Gumbel.log_cdf(-x)

    @staticmethod
    def log_pdf(x: Tensor) -> Tensor:
        return _Gumbel.log_pdf(-x)

    @staticmethod
    def score(x: Tensor) -> Tensor:
        return -_Gumbel.score(-x)

    @staticmethod
    def range(tail: float) -> tuple[float, float]:
        return -tail, 4.25


class _Normal:
    @staticmethod
    def log_cdf(x: Tensor) -> Tensor:
        value: Tensor = torch.special.log_ndtr(x)
        return value

    @staticmethod
    def log_sf(x: Tensor) -> Tensor:
        return _Normal.log_cdf(-x)

    @staticmethod
    def log_pdf(x: Tensor) -> Tensor:
        return -0.5 * x.square() - 0.5 * math.log(2 * math.pi)

    @staticmethod
    def score(x: Tensor) -> Tensor:
        return -x

    @staticmethod
    def range(tail: float) -> tuple[float, float]:
        return -9.75, 9.75


_Base = type[_Gumbel] | type[_NegativeGumbel] | type[_Normal]
_OTHER: dict[Noise, _Base] = {"gumbel": _Gumbel, "-gumbel": _NegativeGumbel, "normal": _Normal}
_SWAPPED: dict[Noise, tuple[_Base, _Base]] = {  # (wide, narrow) when the second noise is the wider one
    "gumbel": (_Gumbel, _Gumbel),
    "-gumbel": (_NegativeGumbel, _Gumbel),
    "normal": (_Normal, _Gumbel),
}


def tabulate(noise: Noise, scale: float | Tensor, grid: Grid, device: torch.device, *, sloped: bool = False) -> Table:
    """Tables of the noise Gumbel + scale * noise, divided by max(1, scale): one row per element of `scale`.

    Differentiable in `scale`. A scale given as a number is tabulated once and kept.
    """
    if isinstance(scale, Tensor) and constant(scale):
        scale = scale.item()
    if not isinstance(scale, Tensor):
        return Table(*(part.to(device) for part in _tabulate_number(noise, float(scale), grid, sloped)))
    scale = scale.to(device, torch.float64)
    # forward mode keeps nothing for a backward pass, and torch 2.6 does not take it through a checkpoint
    part = _tabulate if forward() else partial(checkpoint, _tabulate, use_reentrant=False)
    rows = [part(noise, some, grid, sloped) for some in scale.split(_ROWS)]
    return Table(*(torch.cat(parts) for parts in zip(*rows, strict=True)))


@kept(256)
def _tabulate_number(noise: Noise, scale: float, grid: Grid, sloped: bool) -> Table:
    return _tabulate(noise, torch.tensor([scale], dtype=torch.float64), grid, sloped)


def _tabulate(noise: Noise, scale: Tensor, grid: Grid, sloped: bool) -> Table:
    swapped = scale > 1
    narrow = torch.where(swapped, 1 / scale, scale)
    plain = _mixture(_Gumbel, _OTHER[noise], narrow, grid, sloped)
    if not torch.compiler.is_compiling() and not swapped.any():
        return plain
    reverse = plain if noise == "gumbel" else _mixture(*_SWAPPED[noise], narrow, grid, sloped)
    reverse = reverse._replace(drift=-(narrow[:, None] ** 2) * reverse.drift)
    return Table(*(torch.where(swapped[:, None], b, a) for a, b in zip(plain, reverse, strict=True)))


def _mixture(wide: _Base, narrow: _Base, width: Tensor, grid: Grid, sloped: bool) -> Table:
    x = grid.start + grid.step * torch.arange(grid.points, dtype=torch.float64, device=width.device)
    low, high = narrow.range(grid.tail)
    y = torch.arange(low, high, _STEP, dtype=torch.float64, device=width.device)
    log_weight = torch.log_softmax(narrow.log_pdf(y), -1)
    z = x[:, None] - width[:, None, None] * y
    # each form where it keeps its relative accuracy: here no CDF is near zero or one
    split = min(max(math.ceil((_MIDDLE - grid.start) / grid.step), 0), grid.points)
    log_cdf = torch.logsumexp(log_weight + wide.log_cdf(z[:, :split]), -1)
    sf = torch.exp(log_weight + wide.log_sf(z[:, split:])).sum(-1)
    exponent = torch.cat([-log_cdf, -torch.log1p(-sf)], -1)
    density = torch.exp(log_weight + wide.log_pdf(z) + exponent[..., None])
    slope = (density * wide.score(z)).sum(-1) if sloped else exponent.new_empty(len(exponent), 0)
    return Table(exponent, density.sum(-1), slope, (density * y).sum(-1))
