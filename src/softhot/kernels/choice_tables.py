r"""The tables of the compiled kernels, in one of two forms, stored phase by phase.

`slices` are so fine that few points interpolate. `splines` hold the coefficients of splines of the seventh degree, of
which few lie between two nodes.

A row's sum over the nodes ends where S has fallen to a small number. What is left of it, the sum of
:math:`1 - e^{-S} \approx S - S^2 / 2`, is taken from the last few S themselves: all that is left of a table A is nearly
the same combination, c, of its last values wherever it is cut, since A decays all but exponentially. The combination is
fitted once, to A and to its derivative, and with it a third of the nodes are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from softhot.kernels.choice_reference import lagrange
from softhot.kernels.constants import kept
from softhot.kernels.noise import Grid, Noise, tabulate

__all__ = ["LAST", "STRIDE", "UNITS", "Form", "Tables", "basis", "tables"]

Form = Literal["slices", "splines"]

STRIDE = 8  # numbers that a kernel returns for each row
LAST = 8  # values of S from which what is left is taken, at most
UNITS = (1.0, 2.0, 4.0)  # distances within which a kernel counts classes
_DEGREE = 7  # of the splines
_TAPS = _DEGREE + 1  # points where a spline's basis functions are not zero
_REACH = 64  # points away, at which a sample no longer matters to a coefficient: it falls by .535 for each
_ROOM = 4  # numbers of classes up to a power of 2 ** _ROOM share their tables


@dataclass(frozen=True)
class _Accuracy:
    step: float  # between nodes: the trapezoid rule's error is exp(-pi^2 / step)
    mesh: float  # between points at which a table is computed
    taps: int  # of the interpolation from those to the table
    shift: int  # of the phases between two nodes, as a power of two
    near: int  # taps of the interpolation in slices
    knots: int  # of a spline between two nodes, as a power of two, at least
    near_enough: float  # of a spline
    error: float
    cuts: tuple[float, ...]  # values of S at which to stop, the first that is good enough
    last: int  # values of S from which what is left is taken
    left: dict[Noise, float]  # where one CDF has vanished, at most


_DOUBLE = _Accuracy(
    0.27, 0.135, 14, 5, 6, 2, 2e-12, 1e-16, (1e-6, 1e-8, 1e-10), 8, {"gumbel": 8.0, "-gumbel": 42.0, "normal": 10.0}
)
_SINGLE = _Accuracy(
    0.55, 0.22, 10, 6, 3, 1, 1e-7, 1e-8, (3e-3, 3e-4, 3e-5), 4, {"gumbel": 6.0, "-gumbel": 18.0, "normal": 7.0}
)


@dataclass(frozen=True, eq=False)
class Tables:
    """One table for each of a few scales; see `choice_cpu`.

    Attributes:
        scales: those that the tables are of, in float64.
        rates: for each, how many points of a table lie in a unit of the locations.
        step: between nodes, in units of the wider noise.
        start: the first node.
        shift: of the phases between two nodes, as a power of two.
        length: of a phase.
        nodes: of the longest window.
        limit: how many points below the largest a class counts for nothing.
        room: the classes are no more than two to this power.
        decay: of -log F by one point, at least; for each scale.
        rest: what is left, as a combination of the last `LAST` values of S.
        windows: where to start and to end; see `_windows`.
        exponent, hazard, drift: the tables.
        across: of splines the hazard once more, with points one after another instead of phases.
    """

    scales: Tensor
    rates: Tensor
    step: float
    start: float
    shift: int
    length: int
    nodes: int
    limit: float
    room: int
    decay: Tensor
    rest: Tensor
    windows: Tensor
    exponent: Tensor
    hazard: Tensor
    drift: Tensor
    across: Tensor


def tables(
    noise: Noise,
    scale: float | Tensor,
    classes: int,
    dtype: torch.dtype,
    moving: bool = False,
    form: Form = "slices",
) -> Tables:
    """Those of one scale, kept if it is a number, or of several; if it is moving, good for the derivative in it too."""
    room = _ROOM * max(1, math.ceil(math.log2(classes) / _ROOM))
    if isinstance(scale, Tensor) and scale.numel() == 1:
        scale = scale.item()
    make = _tables if isinstance(scale, Tensor) else _tables_of
    return make(noise, scale, room, dtype, moving, form)  # type: ignore[arg-type]


@kept(64)
def _tables_of(noise: Noise, scale: float, room: int, dtype: torch.dtype, moving: bool, form: Form) -> Tables:
    return _tables(noise, torch.tensor([scale], dtype=torch.float64), room, dtype, moving, form)


def _tables(noise: Noise, scale: Tensor, room: int, dtype: torch.dtype, moving: bool, form: Form) -> Tables:
    accuracy = _DOUBLE if dtype == torch.float64 else _SINGLE
    most = room * math.log(2)
    # the maximum of many variables with a light right tail is sharper than one of them, by a factor of some log K
    sharp = 1.0 if noise == "gumbel" else min(max(1.0, scale.max().item()), 1 + 2 * most)
    step = accuracy.step / sharp
    mesh = accuracy.mesh / (2 if noise == "-gumbel" and sharp > 1 else 1)  # its -log F falls doubly exponentially
    phases, tail = 1 << accuracy.shift, 6 - math.log(accuracy.error)
    fine, limit = step / phases, tail + most
    knots = max(0, accuracy.knots - int(math.log2(sharp)))
    # nodes where a spline wants samples alone, and those that are loaded in vain
    more, spare = (0, 0) if form == "slices" else (_REACH >> knots, 2 * _TAPS)
    left = accuracy.left[noise] + more * step
    nodes = math.ceil((left + limit) / step) + 8
    length = nodes + math.ceil(limit / step) + 2 + spare
    start, at = -left, (accuracy.near - 1) // 2  # the first node, and its phase

    # a table is interpolated from a mesh, each cell of which holds the same few points
    cell = max(1, int(mesh / fine))
    mesh, cells, before = cell * fine, math.ceil(length * phases / cell), accuracy.taps // 2 - 1
    grid = Grid(start - at * fine - before * mesh, mesh, cells + accuracy.taps, tail + 8)
    weights = lagrange(torch.arange(cell, dtype=torch.float64) / cell, accuracy.taps)

    def dense(part: Tensor) -> Tensor:
        points = (part.unfold(-1, accuracy.taps, 1) @ weights.mT).flatten(-2)
        return points[:, : length * phases].view(-1, length, phases).mT

    made = tabulate(noise, scale, grid, scale.device)
    a, d, b = map(dense, (made.exponent, made.hazard, made.drift))
    cut, rest = _rest((a, d, b) if moving else (a, d), step, accuracy)
    windows = _windows(a[:, at], cut, room, step, -math.log(accuracy.error))
    nodes = int(windows[:, -1].max()) + 8
    length = nodes + math.ceil(limit / step) + 2 + spare
    rates = torch.where((a <= cut) & (a > 1e-30), d / a, 1.0).flatten(1).amin(-1)

    def sliced(part: Tensor) -> Tensor:
        part = part[..., :length]
        again = torch.nn.functional.pad(part[:, : accuracy.near - 1, 1:], (0, 1))
        return torch.cat([part, again], 1)

    shift, across = accuracy.shift, a.new_empty(0)
    if form == "slices":
        a, d, b = map(sliced, (a, d, b))
    else:
        shift, (a, d, b) = _splines([part.mT.flatten(-2)[:, at:] for part in (a, d, b)], knots, room, accuracy, moving)
        a, d, b = (part.unflatten(-1, (-1, 1 << shift)).mT[..., :length] for part in (a, d, b))
        across = d.mT
    a, d, b, across = (part.to(dtype).contiguous() for part in (a, d, b, across))
    point = step / (1 << shift)
    limit, decay = limit / point, rates * point
    rates = 1 / (point * scale.clamp_min(1.0))
    return Tables(scale, rates, step, start, shift, length, nodes, limit, room, decay, rest, windows, a, d, b, across)


def _splines(
    parts: Sequence[Tensor], knots: int, room: int, accuracy: _Accuracy, moving: bool
) -> tuple[int, list[Tensor]]:
    """How many knots between two nodes, as a power of two, make splines good enough, and the coefficients."""
    for shift in range(knots, accuracy.shift + 1):
        every = 1 << (accuracy.shift - shift)
        splines = [_spline(part[:, ::every]) for part in parts]
        used = 3 if moving else 2  # the last is for the derivative in the scale alone
        if shift == accuracy.shift or _near(splines[:used], parts[:used], every, room, accuracy):
            break
    return shift, [spline[:, : spline.shape[-1] >> shift << shift] for spline in splines]


def _near(splines: Sequence[Tensor], parts: Sequence[Tensor], every: int, room: int, accuracy: _Accuracy) -> bool:
    """Whether splines through every so many of the points are near the others, where that matters to the sum.

    That is a matter of exp(-A), and where A is small of A itself, down to where so many classes do not matter, or the
    points are no better.
    """
    offsets = torch.arange(every, dtype=torch.float64) / every - 0.5
    weights = offsets[:, None] ** torch.arange(_TAPS) @ parts[0].new_tensor(basis())
    least = max(2.0**-room, accuracy.error / accuracy.near_enough)
    matters = torch.exp(-parts[0]) / (parts[0] + least)
    for spline, part in zip(splines, parts, strict=True):
        found = (spline.unfold(-1, _TAPS, 1) @ weights.mT).flatten(-2)
        errors = ((found - part[:, : found.shape[-1]]) * matters[:, : found.shape[-1]])[:, _REACH * every :]
        if errors.abs().max() > accuracy.near_enough:
            return False
    return True


def _spline(samples: Tensor) -> Tensor:
    """The coefficients of the spline through samples; those between samples k and k + 1 are from the k-th on.

    The first `_REACH` of them would want samples further to the left.
    """
    around = torch.nn.functional.pad(samples, (_REACH + _TAPS // 2 - 1, _REACH - _TAPS // 2 + 1))
    return torch.nn.functional.conv1d(around[:, None], _through()[None, None])[:, 0]


@kept(1)
def _through() -> Tensor:
    """What a coefficient is of the samples around it, so that the spline goes through them."""
    at_knots = [sum(c * (-0.5) ** power for power, c in enumerate(each)) for each in zip(*basis(), strict=True)]
    response = torch.zeros(1024, dtype=torch.float64)  # periodic: of a function that is one at a single knot
    response[torch.arange(_TAPS) - _TAPS // 2 + 1] = torch.tensor(at_knots, dtype=torch.float64)
    weights: Tensor = torch.fft.irfft(1 / torch.fft.rfft(response))[torch.arange(-_REACH, _REACH + 1)]
    return weights


@lru_cache
def basis() -> tuple[tuple[float, ...], ...]:
    """The polynomials that the eight basis functions are between two knots, in the place from the middle: by power."""
    rows = []
    for i in range(_TAPS):
        terms = [Fraction(0)] * _TAPS
        for k in range(_TAPS - i):  # the function is a sum of powers (x + a)_+ ** 7
            a = _TAPS - 1 - i - k + Fraction(1, 2)
            for power in range(_TAPS):
                by = Fraction((-1) ** k * math.comb(_TAPS, k) * math.comb(_DEGREE, power), math.factorial(_DEGREE))
                terms[power] += by * a ** (_DEGREE - power)
        rows.append([float(term) for term in terms])
    return tuple(zip(*rows, strict=True))


def _rest(parts: Sequence[Tensor], step: float, accuracy: _Accuracy) -> tuple[float, Tensor]:
    """Where to stop, and what is left there as a combination of the last values."""
    rest = torch.zeros(len(parts[0]), LAST, dtype=torch.float64)
    for cut in accuracy.cuts:
        errors = []
        for row, each in enumerate(zip(*parts, strict=True)):
            rest[row], error = _fit(each, cut, accuracy.error, accuracy.last)
            errors.append(error)
        if max(errors) * step * cut <= accuracy.error:
            return cut, rest
    return accuracy.error, torch.zeros_like(rest)


def _fit(parts: Sequence[Tensor], cut: float, error: float, last: int) -> tuple[Tensor, float]:
    """The combination that fits A and its derivatives best, and its largest error relative to what is left of A."""
    parts = [part[:: len(part) // 8] for part in parts]  # some phases tell
    here = parts[0][:, last:]
    counts = (here <= cut) & (here >= cut * error)
    systems, scale = [], parts[0].new_zeros(int(counts.sum()))
    for part in parts:
        ends = part[:, -1:] / (part[:, -2:-1] / part[:, -1:] - 1)
        wanted = (part.flip(-1).cumsum(-1).flip(-1) + ends.nan_to_num(0.0))[:, last:][counts]  # from each node on
        before = part.unfold(-1, last, 1)[:, :-1][counts]
        scale = torch.maximum(wanted.abs(), scale)
        systems.append((before / scale[:, None], wanted / scale))
    matrix, wanted = (torch.cat(each) for each in zip(*systems, strict=True))
    found = torch.linalg.lstsq(matrix, wanted[:, None], rcond=1e-13, driver="gelsd").solution[:, 0]
    return torch.nn.functional.pad(found, (LAST - last, 0)), (matrix @ found - wanted).abs().max().item()


def _windows(a: Tensor, cut: float, room: int, step: float, vanished: float) -> Tensor:
    r"""At which node a row may start and must end, by what is known of its classes.

    For each scale: how many nodes may be left out for the largest class itself; then the same for at least
    :math:`2^{q/2}` classes, :math:`q = 0, 1, \dots`, within one unit of the largest, two, and four (`UNITS`); and last
    the node from which S is no more than `cut` if :math:`\sum_k e^{-\rho d_k}`, over classes that are d below the
    largest, is no more than :math:`2^{q/2}`.
    """
    many = 2.0 ** (torch.arange(2 * room + 2, dtype=torch.float64) / 2)[:, None]
    parts = [(a >= vanished).sum(-1, keepdim=True)]
    for unit in UNITS:
        away = math.ceil(unit / step)
        parts.append((many * torch.nn.functional.pad(a, (0, away))[:, None, away:] >= vanished).sum(-1))
    return torch.cat([*parts, (many * a[:, None] > cut).sum(-1)], -1)
