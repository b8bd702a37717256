"""The tables of the compiled kernels: fine enough that few points interpolate, stored phase by phase."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from softhot.kernels.choice_reference import lagrange
from softhot.kernels.constants import kept
from softhot.kernels.noise import Grid, Noise, tabulate

__all__ = ["STRIDE", "Tables", "tables"]

STRIDE = 8  # numbers that a kernel returns for each row
_SHIFT = 5  # of the phases between two nodes, as a power of two


@dataclass(frozen=True)
class _Accuracy:
    step: float  # between nodes: the trapezoid rule's error is exp(-pi^2 / step)
    mesh: float  # between points at which a table is computed
    taps: int  # of the interpolation from those to the table
    near: int  # of the interpolation in the table
    tail: float  # exp(-tail) is what the range leaves out
    left: dict[Noise, float]  # where one CDF is as small, at most the tail's length


_DOUBLE = _Accuracy(0.27, 0.135, 14, 6, 42.0, {"gumbel": 8.0, "-gumbel": 42.0, "normal": 10.0})
_SINGLE = _Accuracy(0.55, 0.22, 10, 4, 18.0, {"gumbel": 6.0, "-gumbel": 18.0, "normal": 7.0})


@dataclass(frozen=True)
class Tables:
    """One table for each of a few scales; see `choice_cpu`.

    `gumbel` is the sum of a Gumbel variable's CDF at the nodes, and `bend` the table of D'.
    """

    step: float
    shift: int
    length: int
    nodes: int
    limit: float
    tail: float
    gumbel: float
    exponent: Tensor
    hazard: Tensor
    bend: Tensor
    drift: Tensor

    def rates(self, scales: Tensor) -> Tensor:
        """How many points of a table lie in a unit of the locations."""
        return (1 << self.shift) / (self.step * scales.clamp_min(1.0))


def tables(noise: Noise, scale: float | Tensor, classes: int, dtype: torch.dtype) -> Tables:
    """Those of one scale, kept if it is a number, or of several."""
    room = 2.0 ** math.ceil(math.log2(1 + math.log(classes)))  # for log K, so that few sizes are made
    if isinstance(scale, Tensor) and scale.numel() == 1:
        scale = scale.item()
    return _tables(noise, scale, room, dtype) if isinstance(scale, Tensor) else _tables_of(noise, scale, room, dtype)


@kept(64)
def _tables_of(noise: Noise, scale: float, room: float, dtype: torch.dtype) -> Tables:
    return _tables(noise, torch.tensor([scale], dtype=torch.float64), room, dtype)


def _tables(noise: Noise, scale: Tensor, room: float, dtype: torch.dtype) -> Tables:
    accuracy = _DOUBLE if dtype == torch.float64 else _SINGLE
    # the maximum of many variables with a light right tail is sharper than one of them, by a factor of log K at most
    sharp = 1.0 if noise == "gumbel" else min(max(1.0, scale.max().item()), 1 + room)
    step = accuracy.step / sharp
    mesh = accuracy.mesh * (2 / 3 if noise == "-gumbel" and sharp > 1 else 1)  # its -log F falls doubly exponentially
    left, fine = accuracy.left[noise], step / (1 << _SHIFT)
    nodes = 8 * max(math.ceil((left + room + accuracy.tail) / step / 8), 8)
    limit = accuracy.tail / fine
    length = nodes + math.ceil((limit + accuracy.near) / (1 << _SHIFT)) + 1
    before = accuracy.taps // 2 - 1
    start = -left - (accuracy.near // 2 - 1) * fine
    place = torch.arange(length << _SHIFT, dtype=torch.float64) * (fine / mesh)
    cell = place.floor()
    grid = Grid(start - before * mesh, mesh, int(cell[-1]) + accuracy.taps)
    a, d, r, b = tabulate(noise, scale, grid, scale.device)
    weights = lagrange(place - cell, accuracy.taps)
    index = cell.long()[:, None] + torch.arange(accuracy.taps)

    def phases(part: Tensor) -> Tensor:
        dense = torch.stack([(row[index] * weights).sum(-1) for row in part])
        return dense.view(-1, length, 1 << _SHIFT).mT.to(dtype).contiguous()

    x = -left + step * torch.arange(nodes, dtype=torch.float64)
    gumbel = torch.exp(-torch.exp(-x)).sum().item()
    parts = phases(a), phases(d), phases(r - d * d), phases(b)
    return Tables(step, _SHIFT, length, nodes, limit, accuracy.tail, gumbel, *parts)
