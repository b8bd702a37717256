r"""The integrals of `softhot.functional.choice` in plain torch: the reference of the compiled kernels.

:math:`\sum_k A(x_i - m_k)` with :math:`A = -\log F` is wanted at equally spaced nodes :math:`x_i`.
The locations are spread over a fine mesh with the weights of Lagrange interpolation (as in particle-mesh and
non-uniform Fourier methods); what is left is the product of a small matrix with the table of A, the same for all rows.
The probabilities come back from the mesh with the same weights. Memory is of the order of the input, whatever the
number of nodes, and automatic differentiation gives exact derivatives of every order, in the locations and the scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor

from softhot.kernels.constants import kept
from softhot.kernels.noise import Grid, Noise, Table, tabulate
from softhot.kernels.temper import column, tempered

__all__ = ["EULER", "Choice", "curve", "grouped", "lagrange", "located", "survey"]

EULER = 0.577215664901532860606512090082402431

_LEFT = {
    "gumbel": 8.0,
    "-gumbel": math.inf,
    "normal": 10.0,
}  # where one CDF underflows, at most the tail's length


@dataclass(frozen=True)
class _Accuracy:
    mesh: float  # step of the mesh
    taps: int  # of the interpolation
    tail: float  # exp(-tail) is what the range leaves out


# nodes are twice as far apart as mesh points: the trapezoid rule's error is exp(-pi^2 / (2 * mesh))
_DOUBLE = _Accuracy(mesh=0.135, taps=14, tail=42.0)
_SINGLE = _Accuracy(mesh=0.22, taps=10, tail=24.0)


class Choice:
    """One choice problem: locations spread over the mesh, and the product of the CDFs at every node.

    Values are in float64, good to rounding if the wanted dtype is float64 and to about 1e-8 otherwise. Rows are grouped
    as (temperatures, rows of that temperature), so that one table serves all rows that share it.
    """

    def __init__(
        self, locations: Tensor, scale: float | Tensor, noise: Noise, dtype: torch.dtype | None = None
    ) -> None:
        self.shape = locations.shape
        accuracy = _DOUBLE if (dtype or locations.dtype) == torch.float64 else _SINGLE
        left = min(_LEFT[noise], accuracy.tail)
        self.wide, flat, rows = grouped(scale, self.shape[:-1], locations.device)
        classes = self.shape[-1]
        mesh, across, along = _spacing(noise, self.wide, classes, accuracy.mesh)
        self.strides = across, along
        self.step = mesh / across * along
        nodes = math.ceil((left + math.log(max(classes, 1)) + accuracy.tail) / self.step)
        self.taps = accuracy.taps
        self.points = math.ceil((accuracy.tail + math.log(max(classes, 1))) / mesh) + self.taps
        before = accuracy.taps // 2 - 1  # mesh points beyond the largest location
        grid = Grid(-left - before * mesh, mesh / across, (nodes - 1) * along + (self.points - 1) * across + 1)
        self.tabulate = partial(tabulate, noise, flat, grid, locations.device)
        self.table: Table = self.tabulate()
        self.nodes = -left + self.step * torch.arange(nodes, dtype=torch.float64, device=locations.device)

        self.rows = rows
        m = tempered(locations.to(torch.float64), self.wide).reshape((*rows, classes))
        self.top = m.detach().amax(-1, keepdim=True) if classes else m.new_full((*rows, 1), -math.inf)
        below = (self.top - m) / mesh
        near = below <= self.points - accuracy.taps  # the others cannot be the largest: their F is one at every node
        below = torch.where(near, below, 0.0)
        cell = below.detach().floor()
        weights = lagrange(below - cell, accuracy.taps) * near[..., None]
        taps = torch.arange(accuracy.taps, device=m.device)
        self.index = (cell.long()[..., None] + taps).flatten(-2)
        self.weights = weights.flatten(-2)
        self.mesh = self._to_mesh(self.weights)
        self.product = torch.exp(-self._sums(self.mesh, self.table.exponent))

    def expected_max(self) -> Tensor:
        gumbel = torch.exp(-torch.exp(-self.nodes))
        mean = self.top[..., 0] + EULER + self.step * (gumbel - self.product).sum(-1)
        scaled: Tensor = mean.reshape(self.shape[:-1]) * self.wide
        return scaled

    def probabilities(self) -> Tensor:
        return self._from_mesh(self.table.hazard, self.product)

    def slopes(self) -> Tensor:
        return -self._from_mesh(self.tabulate(sloped=True).slope, self.product) / column(self.wide)

    def drift(self) -> Tensor:
        """The derivative of the expected maximum in the scale, in units of the wider noise as the locations are."""
        return self.step * (self.product * self._sums(self.mesh, self.table.drift)).sum(-1).reshape(self.shape[:-1])

    def curve(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The derivative of the probabilities along a gradient g, in the locations and, as in `drift`, in the scale.

        Integrated by parts, both are sums over pairs of classes, weighted by the product of the CDFs:
        :math:`(g_j - g_k) D_j D_k` for location j, and :math:`(g_k - g_j) B_k D_j` for the scale.
        """
        g = gradient.to(torch.float64).reshape((*self.rows, -1))
        along = self._to_mesh((self.weights.unflatten(-1, (-1, self.taps)) * g[..., None]).flatten(-2))
        hazard, hazard_along = (self._sums(mesh, self.table.hazard) for mesh in (self.mesh, along))
        drift, drift_along = (self._sums(mesh, self.table.drift) for mesh in (self.mesh, along))
        own = self._from_mesh(self.table.hazard, self.product * hazard)
        others = self._from_mesh(self.table.hazard, self.product * hazard_along)
        in_scale = self.step * (self.product * (drift_along * hazard - drift * hazard_along)).sum(-1)
        return (g.reshape(self.shape) * own - others) / column(self.wide), in_scale.reshape(self.shape[:-1])

    def _to_mesh(self, weights: Tensor) -> Tensor:
        return weights.new_zeros((*self.rows, self.points)).scatter_add(-1, self.index, weights)

    def _sums(self, mesh: Tensor, part: Tensor) -> Tensor:
        """Those of a table over the classes, at the nodes."""
        return mesh @ self._shifted(part).mT

    def _shifted(self, part: Tensor) -> Tensor:
        """(temperatures, nodes, mesh): the table as seen from every mesh point."""
        across, along = self.strides
        return part.unfold(-1, (self.points - 1) * across + 1, along)[..., ::across]

    def _from_mesh(self, part: Tensor, field: Tensor) -> Tensor:
        undefined = self.top - self.top  # NaN where the largest location is not a number
        field = (self.step * field + undefined) @ self._shifted(part)
        values = self.weights * field.gather(-1, self.index)
        return values.reshape((*self.shape, self.taps)).sum(-1)


def _spacing(noise: Noise, wide: float | Tensor, classes: int, mesh: float) -> tuple[float, int, int]:
    """The step of the mesh, and how many table points a mesh point and a node are apart (one of them is 1).

    The maximum of many variables with a light right tail (normal, negative Gumbel) is sharper than one of them, by a
    factor of log K at most; the Gumbel variable beside them keeps its own width, 1 / scale of theirs.
    """
    widest = (wide.max().item() if wide.numel() else 1.0) if isinstance(wide, Tensor) else wide
    if noise == "gumbel" or widest <= 1:
        return mesh, 1, 2
    step = 2 * mesh / min(widest, 1 + math.log(max(classes, 1)))
    if noise == "-gumbel":
        mesh = 2 * mesh / 3  # its -log F falls doubly exponentially
    return (mesh, 1, int(step / mesh)) if step >= mesh else (mesh, math.ceil(mesh / step), 1)


def located(
    locations: Tensor, other: Tensor | None, scale: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The locations m or b in float64; with zeros for impossible classes; which are possible, and in which rows alike.

    Rows that are not alike are located anywhere.
    """
    m = locations.to(torch.float64)
    impossible, alike = m == -math.inf, None
    if other is not None:
        o = other.to(torch.float64)
        alike = (impossible == (o == -math.inf)).all(-1)
        impossible = impossible | (o == -math.inf)
        s = scale.to(torch.float64) if isinstance(scale, Tensor) else scale
        m = o.masked_fill(impossible, 0.0) - column(s) * m.masked_fill(impossible, 0.0)
    finite = m.masked_fill(impossible, 0.0)
    anywhere = impossible.all(-1) & (alike is not None)
    return finite.masked_fill(impossible & ~anywhere[..., None], -math.inf), finite, ~impossible, alike


def survey(
    locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    """The numbers of each row, see `choice_cpu`, and the choice probabilities if they are wanted."""
    m, finite, possible, alike = located(locations, other, scale)
    choice = Choice(m, scale, noise, locations.dtype)
    value, total, count = choice.expected_max(), finite.sum(-1), possible.sum(-1).to(torch.float64)
    value = value if alike is None else torch.where(alike, value, math.inf)
    p = choice.probabilities() if probable else m.new_empty(0)
    slopes = []
    if moving:
        own = locations.to(torch.float64).masked_fill(~possible, 0.0)
        slopes = [choice.drift(), (p * finite).sum(-1), (p * own).sum(-1), own.sum(-1)]
    return torch.stack([value, count * value - total, total, count, *slopes]), p.to(locations.dtype)


def curve(
    locations: Tensor, scale: float | Tensor, noise: Noise, gradient: Tensor, moving: bool
) -> tuple[Tensor, Tensor]:
    """As `Choice.curve`, in the dtype of the locations; the second if it is wanted."""
    in_locations, in_scale = Choice(locations, scale, noise).curve(gradient)
    return in_locations.to(locations.dtype).contiguous(), in_scale if moving else in_scale.new_empty(0)


def grouped(
    scale: float | Tensor, batch: torch.Size, device: torch.device
) -> tuple[float | Tensor, float | Tensor, tuple[int, int]]:
    """max(1, scale), the scales one by one, and the shape (scales, rows of each scale) of the batch."""
    if not isinstance(scale, Tensor):
        return max(1.0, scale), scale, (1, batch.numel())
    scale = scale.to(device, torch.float64)
    if scale.numel() == 1:
        full = scale.reshape(())
        flat = scale.reshape(1)
    else:
        full = scale.expand(batch)
        shared = 0
        while scale.shape[-1 - shared] == 1:
            shared += 1
        flat = scale[(...,) + (0,) * shared].expand(batch[: len(batch) - shared]).reshape(-1)
    return torch.where(full > 1, full, 1.0), flat, (flat.numel(), batch.numel() // max(flat.numel(), 1))


@kept(8)
def _lagrange_coefficients(taps: int) -> Tensor:
    """(powers, taps): the Lagrange polynomials on 1 - taps / 2, ..., taps / 2 in powers of x - 1/2, from integers."""
    nodes = [Fraction(1 - taps + 2 * i, 2) for i in range(taps)]
    columns = []
    for node in nodes:
        column = [Fraction(1)]
        for other in nodes:
            if other != node:  # times (x - other) / (node - other)
                shifted = zip([Fraction(0), *column], [*column, Fraction(0)], strict=True)
                column = [(up - other * same) / (node - other) for up, same in shifted]
        columns.append([float(coefficient) for coefficient in column])
    return torch.tensor(columns, dtype=torch.float64).T.contiguous()


def lagrange(x: Tensor, taps: int) -> Tensor:
    powers = (x[..., None] - 0.5) ** torch.arange(taps, dtype=x.dtype, device=x.device)
    return powers @ _lagrange_coefficients(taps).to(x.device)
