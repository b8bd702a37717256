r"""Discrete choices: expected maxima and choice probabilities, each with its analytic derivative.

The locations are :math:`m`, or :math:`b = o - s m` where there are others, o, and s is also the scale of the noise:
with those the divergence of two relaxed variables needs no pass over memory of its own. A class impossible in both,
-inf, does not count; one that is impossible in one of the two makes the value infinite.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softhot.kernels.choice_reference import Choice, grouped
from softhot.kernels.choice_tables import STRIDE, Tables, tables
from softhot.kernels.noise import Noise
from softhot.kernels.parallel import run
from softhot.kernels.routes import again, compiled, needs_gradient, route
from softhot.kernels.temper import column

__all__ = ["Expected", "expected", "expected_reference", "probabilities"]

_TABLES = 32  # built at once: bounds the working memory where every row has its own scale


class Expected(NamedTuple):
    """Of each row, in float64: the expected maximum, the sum of the locations, and the number of possible classes.

    That number is a float where all classes of all rows are possible.
    """

    value: Tensor
    total: Tensor
    possible: Tensor | float


def expected(locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise) -> Expected:
    """The expected maximum with what else a row is surveyed for; differentiable."""
    wide = locations.to(torch.promote_types(locations.dtype, torch.float32))
    other = None if other is None else other.to(wide.dtype)
    if route(wide, other, scale) != "direct" or not locations.numel() or compiled("choice_cpu") is None:
        return expected_reference(wide, other, scale, noise)
    return Expected(*_Expected.apply(wide, other, scale, noise))  # type: ignore[no-untyped-call]


def expected_reference(locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise) -> Expected:
    """The same in plain torch, differentiable in every mode and to every order."""
    m = locations.to(torch.float64)
    impossible = m == -math.inf
    alike: Tensor | None = None
    if other is not None:
        o = other.to(torch.float64)
        alike = (impossible == (o == -math.inf)).all(-1)
        impossible = impossible | (o == -math.inf)
        s = scale.to(torch.float64) if isinstance(scale, Tensor) else scale
        m = o.masked_fill(impossible, 0.0) - column(s) * m.masked_fill(impossible, 0.0)
    finite = m.masked_fill(impossible, 0.0)
    count = (~impossible).sum(-1).to(torch.float64)
    unknown = impossible.all(-1) & (alike is not None)
    m = finite.masked_fill(impossible & ~unknown[..., None], -math.inf)
    value = Choice(m, scale, noise, locations.dtype).expected_max()
    return Expected(value if alike is None else torch.where(alike, value, math.inf), finite.sum(-1), count)


def probabilities(locations: Tensor, scale: float | Tensor, noise: Noise) -> Tensor:
    """The choice probabilities, in the dtype of the locations; differentiable."""
    wide = locations.to(torch.promote_types(locations.dtype, torch.float32))
    if route(wide, scale) != "direct" or not locations.numel() or compiled("choice_cpu") is None:
        return _probabilities_reference(locations, scale, noise)
    if not needs_gradient(wide, scale):
        return _survey(wide, None, scale, noise, True, False)[1].to(locations.dtype)
    result: Tensor = _Probabilities.apply(wide, scale, noise)  # type: ignore[no-untyped-call]
    return result.to(locations.dtype)


# ---- derivatives ---------------------------------------------------------------------------------------------------


class _Expected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor, Tensor | float]:
        moving = ctx.needs_input_grad[:3]
        rows, probable = _survey(locations, other, scale, noise, any(moving), moving[2])
        batch = locations.shape[:-1]
        above, _, total, count, *slopes = (part.reshape(batch) for part in rows.unbind(-1))
        ctx.noise, ctx.scale = noise, scale
        ctx.full = bool((count == locations.shape[-1]).all())
        ctx.save_for_backward(locations, other, probable, *(scale, above, *slopes) if isinstance(scale, Tensor) else ())
        if ctx.full:
            return above, total, float(locations.shape[-1])
        ctx.mark_non_differentiable(count)
        return above, total, count

    @staticmethod
    def backward(ctx: Any, by_value: Tensor, by_total: Tensor, _: Any) -> Any:
        locations, other, probable, *rest = ctx.saved_tensors
        scale = rest[0] if rest else ctx.scale
        moving = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            call = locations, other, scale, ctx.noise
            return again(expected_reference, call, (*moving, False), (by_value, by_total))
        in_other = in_locations = in_scale = None
        if other is None:
            in_locations = _spread(probable, by_value, by_total, None if ctx.full else locations)
        else:
            impossible = None if ctx.full else locations
            if moving[1]:
                in_other = _spread(probable, by_value, by_total, impossible)
            if moving[0]:
                in_locations = _spread(probable, -scale * by_value, -scale * by_total, impossible)
        if moving[2]:
            _, value, drift, mean, own, sum_ = rest
            s = scale.to(torch.float64)
            wider = s > 1
            in_scale = by_value * (torch.where(wider, s, 1.0) * drift + wider * (value - mean) / s.clamp_min(1.0))
            if other is not None:
                in_scale = in_scale - by_value * own - by_total * sum_
            in_scale = in_scale.sum_to_size(scale.shape).to(scale.dtype)
        return in_locations, in_other, in_scale, None


class _Probabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, locations: Tensor, scale: float | Tensor, noise: Noise) -> Tensor:
        ctx.noise, ctx.scale = noise, scale
        ctx.save_for_backward(locations, *(scale,) if isinstance(scale, Tensor) else ())
        return _survey(locations, None, scale, noise, True, False)[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        locations, *rest = ctx.saved_tensors
        scale = rest[0] if rest else ctx.scale
        moving = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or moving[1] or route(gradient) != "direct":
            return again(_probabilities_reference, (locations, scale, ctx.noise), (*moving, False), (gradient,))
        return _curve(locations, scale, ctx.noise, gradient), None, None


def _probabilities_reference(locations: Tensor, scale: float | Tensor, noise: Noise) -> Tensor:
    return Choice(locations, scale, noise).probabilities().to(locations.dtype)


def _spread(probable: Tensor, by_value: Tensor, by_total: Tensor, locations: Tensor | None) -> Tensor:
    parts = (x.to(probable.dtype)[..., None] for x in (by_total, by_value))
    gradient = torch.addcmul(next(parts), probable, next(parts))
    return gradient if locations is None else gradient.masked_fill_(locations == -math.inf, 0.0)


# ---- the compiled kernels ------------------------------------------------------------------------------------------


def _survey(
    locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise, probable: bool, drift: bool
) -> tuple[Tensor, Tensor]:
    """The numbers of each row, the first turned into the expected maximum, and the choice probabilities if wanted."""
    cpu: Any = compiled("choice_cpu")
    rows = torch.empty((*locations.shape[:-1], STRIDE), dtype=torch.float64)
    chances = torch.empty_like(locations, memory_format=torch.contiguous_format) if probable else locations.new_empty(0)
    for part, table, scales in _parts(locations, scale, noise, drift):
        m, numbers = _rows(locations, part), _rows(rows, part)
        run(
            cpu.expected_body(m.dtype),
            m.shape,
            *_shared(table, scales),
            table.drift if drift else None,
            *(m, None if other is None else _rows(other, part), scales),
            *(_rows(chances, part) if probable else None, numbers),
        )
        numbers[:, 0] *= scales.clamp_min(1.0).repeat_interleave(len(m) // len(scales))
    rows[..., 0] += rows[..., 1]
    return rows, chances


def _curve(locations: Tensor, scale: float | Tensor, noise: Noise, gradient: Tensor) -> Tensor:
    """The product of the gradient in the choice probabilities with their derivatives in the locations."""
    cpu: Any = compiled("choice_cpu")
    out = torch.empty_like(locations, memory_format=torch.contiguous_format)
    for part, table, scales in _parts(locations, scale, noise):
        m = _rows(locations, part)
        run(
            cpu.probabilities_backward_body(m.dtype),
            m.shape,
            *_shared(table, scales),
            *(m, _rows(gradient, part), _rows(out, part)),
        )
    return out


def _shared(table: Tables, scales: Tensor) -> tuple[float | Tensor, ...]:
    """The arguments that both kernels begin with."""
    item, entries = table.exponent.element_size(), table.exponent[0].numel()
    numbers = (item, table.step, table.start, table.shift, table.length, entries, table.nodes, table.limit, table.room)
    rows = (table.rates(scales), table.decay, table.rest, table.windows, table.exponent, table.hazard)
    return *numbers, len(scales), *rows


def _rows(x: Tensor, part: slice) -> Tensor:
    return x.detach().contiguous().view(-1, x.shape[-1])[part]


def _parts(locations: Tensor, scale: float | Tensor, noise: Noise, moving: bool = False) -> Any:
    """Rows that share few scales, with their tables and the scales."""
    scale = scale.detach() if isinstance(scale, Tensor) else scale
    _, flat, (scales, each) = grouped(scale, locations.shape[:-1], locations.device)
    for first in range(0, scales, _TABLES):
        here = flat if not isinstance(flat, Tensor) else flat[first : first + _TABLES]
        some = torch.tensor([here], dtype=torch.float64) if not isinstance(here, Tensor) else here.contiguous()
        yield (
            slice(first * each, (first + len(some)) * each),
            tables(noise, here, locations.shape[-1], locations.dtype, moving),
            some,
        )
