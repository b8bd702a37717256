r"""Discrete choices: expected maxima and choice probabilities, each with its analytic derivative.

The locations are :math:`m`, or :math:`b = o - s m` where there are others, o, and s is also the scale of the noise:
with those the divergence of two relaxed variables needs no pass over memory of its own. A class impossible in both,
-inf, does not count; one that is impossible in one of the two makes the value infinite.
"""

from __future__ import annotations

# mypy: disable-error-code="untyped-decorator, no-any-return"
import math
from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from softhot.kernels.choice_reference import Choice, grouped
from softhot.kernels.choice_tables import STRIDE, Form, Tables, tables
from softhot.kernels.noise import Noise
from softhot.kernels.parallel import integers, run
from softhot.kernels.routes import again, beside, compiled, front, needs_gradient, operator, route
from softhot.kernels.temper import column

__all__ = ["Expected", "expected", "expected_reference", "probabilities", "probabilities_reference"]

_TABLES = 32  # built at once: bounds the working memory where every row has its own scale


class Expected(NamedTuple):
    """Of each row, in float64: the expected maximum, the sum of the locations, and the number of possible classes.

    That number is a float where all classes of all rows are known to be possible.
    """

    value: Tensor
    total: Tensor
    possible: Tensor | float


def expected(locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise) -> Expected:
    """The expected maximum with what else a row is surveyed for; differentiable."""
    wide = locations.to(torch.promote_types(locations.dtype, torch.float32))
    other = None if other is None else other.to(wide.dtype)
    way = route(wide, other, scale)
    if way == "reference" or not locations.numel():
        return expected_reference(wide, other, scale, noise)
    if way == "direct":
        return Expected(*_Expected.apply(wide, other, scale, noise))  # type: ignore[no-untyped-call]
    probable = needs_gradient(wide, scale) or (other is not None and needs_gradient(other))
    rows, _ = _expected_op(wide, other, _tensor(scale), noise, probable, needs_gradient(scale))
    return Expected(rows[0], rows[2], rows[3])


def expected_reference(locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise) -> Expected:
    """The same in plain torch, differentiable in every mode and to every order."""
    located, finite, possible, alike = _located(locations, other, scale)
    value = Choice(located, scale, noise, locations.dtype).expected_max()
    value = value if alike is None else torch.where(alike, value, math.inf)
    return Expected(value, finite.sum(-1), possible.sum(-1).to(torch.float64))


def probabilities(locations: Tensor, scale: float | Tensor, noise: Noise) -> Tensor:
    """The choice probabilities, in the dtype of the locations; differentiable."""
    wide = locations.to(torch.promote_types(locations.dtype, torch.float32))
    way = route(wide, scale)
    if way == "reference" or not locations.numel():
        found = probabilities_reference(wide, scale, noise)
    elif way == "operator":
        found = _probabilities_op(wide, _tensor(scale), noise)
    elif needs_gradient(wide, scale):
        found = _Probabilities.apply(wide, scale, noise)  # type: ignore[no-untyped-call]
    else:
        found = _survey(wide, None, scale, noise, True, False)[1]
    return found.to(locations.dtype)


def probabilities_reference(locations: Tensor, scale: float | Tensor, noise: Noise) -> Tensor:
    """The same in plain torch, differentiable in every mode and to every order."""
    return Choice(locations, scale, noise).probabilities().to(locations.dtype)


def _located(
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


def _tensor(scale: float | Tensor) -> Tensor:
    return scale if isinstance(scale, Tensor) else torch.full((), scale, dtype=torch.float64)


# ---- derivatives ---------------------------------------------------------------------------------------------------


class _Expected(torch.autograd.Function):
    """The kernel without the dispatcher, whose overhead is several times the work of a few rows."""

    @staticmethod
    def forward(
        ctx: Any, locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor, Tensor | float]:
        moving = ctx.needs_input_grad[:3]
        rows, chances = _survey(locations, other, scale, noise, any(moving), moving[2])
        ctx.noise, ctx.scale, ctx.full = noise, scale, bool((rows[3] == locations.shape[-1]).all())
        ctx.save_for_backward(locations, other, rows, chances, *(scale,) if isinstance(scale, Tensor) else ())
        if ctx.full:
            return rows[0], rows[2], float(locations.shape[-1])
        possible = rows[3]
        ctx.mark_non_differentiable(possible)
        return rows[0], rows[2], possible

    @staticmethod
    def backward(ctx: Any, by_value: Tensor, by_total: Tensor, _: Any) -> Any:
        locations, other, rows, chances, *rest = ctx.saved_tensors
        call = locations, other, rest[0] if rest else ctx.scale, ctx.noise
        return _in_expected(call, ctx.needs_input_grad, rows, chances, by_value, by_total, ctx.full)


class _Probabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, locations: Tensor, scale: float | Tensor, noise: Noise) -> Tensor:
        ctx.noise, ctx.scale = noise, scale
        ctx.save_for_backward(locations, *(scale,) if isinstance(scale, Tensor) else ())
        return _survey(locations, None, scale, noise, True, False)[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        locations, *rest = ctx.saved_tensors
        return _in_probabilities((locations, rest[0] if rest else ctx.scale, ctx.noise), ctx.needs_input_grad, gradient)


def _in_expected(
    call: Any, moving: Any, rows: Tensor, chances: Tensor, by_value: Tensor, by_total: Tensor, full: bool
) -> tuple[Tensor | None, ...]:
    """Gradients in the arguments of `expected`."""
    if torch.is_grad_enabled():
        return again(expected_reference, call, moving[:4], (by_value, by_total))
    locations, other, scale, _ = call
    impossible = None if full else locations
    in_other = in_locations = in_scale = None
    if other is None:
        in_locations = _expected_backward(chances, by_value, by_total, impossible)
    else:
        if moving[1]:
            in_other = _expected_backward(chances, by_value, by_total, impossible)
        if moving[0]:
            in_locations = _expected_backward(chances, -scale * by_value, -scale * by_total, impossible)
    if moving[2]:
        value, _, _, _, drift, mean, own, sum_ = rows
        s = scale.to(torch.float64)
        wider = s > 1
        in_scale = by_value * (torch.where(wider, s, 1.0) * drift + wider * (value - mean) / s.clamp_min(1.0))
        if other is not None:
            in_scale = in_scale - by_value * own - by_total * sum_
        in_scale = in_scale.sum_to_size(scale.shape).to(scale.dtype)
    return in_locations, in_other, in_scale, None


def _in_probabilities(call: Any, moving: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients in the arguments of `probabilities`."""
    if torch.is_grad_enabled():
        return again(probabilities_reference, call, moving[:3], (gradient,))
    locations, scale, noise = call
    if route(gradient) == "direct":
        in_locations, drift = _curve(locations, scale, noise, gradient, moving[1])
    else:
        in_locations, drift = _curve_op(locations, _tensor(scale), noise, gradient, moving[1])
    if not moving[1]:
        return in_locations, None, None
    s = scale.to(torch.float64)
    own = (in_locations * locations.masked_fill(locations == -math.inf, 0.0)).sum(-1, dtype=torch.float64)
    in_scale = drift - (s > 1) * own / s
    return in_locations if moving[0] else None, in_scale.sum_to_size(scale.shape).to(scale.dtype), None


def _expected_backward(chances: Tensor, by_value: Tensor, by_total: Tensor, impossible: Tensor | None) -> Tensor:
    """What a class has of the derivatives: that of the total and its chance of that of the value.

    Nothing, if it is impossible: -inf among the locations, where these are given.
    """
    cpu = compiled("choice_cpu") if route(chances, by_value, by_total) == "direct" else None
    if cpu is None or not chances.numel():
        value, total = (x.to(chances.dtype)[..., None] for x in (by_value, by_total))
        gradient = torch.addcmul(total, chances, value)
        return gradient if impossible is None else gradient.masked_fill_(impossible == -math.inf, 0.0)
    out = torch.empty_like(chances)
    rows = (x.to(torch.float64).contiguous() for x in (by_value, by_total))
    locations = None if impossible is None else impossible.detach().contiguous()
    run(cpu.expected_backward_body(chances.dtype), chances.shape, *rows, chances, locations, out)
    return out


def _survey_reference(
    locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    m, finite, possible, alike = _located(locations, other, scale)
    choice = Choice(m, scale, noise, locations.dtype)
    value, count = choice.expected_max(), possible.sum(-1).to(torch.float64)
    value = value if alike is None else torch.where(alike, value, math.inf)
    p = choice.probabilities() if probable else m.new_empty(0)
    slopes = []
    if moving:
        own = locations.to(torch.float64).masked_fill(~possible, 0.0)
        slopes = [choice.drift(), (p * finite).sum(-1), (p * own).sum(-1), own.sum(-1)]
    return torch.stack([value, m.amax(-1), finite.sum(-1), count, *slopes]), p.to(locations.dtype)


def _curve_reference(
    locations: Tensor, scale: float | Tensor, noise: Noise, gradient: Tensor, moving: bool
) -> tuple[Tensor, Tensor]:
    in_locations, in_scale = Choice(locations, scale, noise).curve(gradient)
    return in_locations.to(locations.dtype).contiguous(), in_scale if moving else in_scale.new_empty(0)


# ---- operators -----------------------------------------------------------------------------------------------------


@operator(
    "softhot::expected_max",
    "(Tensor locations, Tensor? other, Tensor scale, str noise, bool probable, bool moving) -> (Tensor, Tensor)",
)
def _expected_op(
    locations: Tensor, other: Tensor | None, scale: Tensor, noise: Noise, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    """Numbers of each row, see `choice_cpu`, and the choice probabilities if wanted: without gradient, unlike those."""
    return _survey_reference(locations, other, scale, noise, probable, moving)


@operator("softhot::choice_probabilities", "(Tensor locations, Tensor scale, str noise) -> Tensor")
def _probabilities_op(locations: Tensor, scale: Tensor, noise: Noise) -> Tensor:
    return probabilities_reference(locations, scale, noise).contiguous()


@operator(
    "softhot::choice_probabilities_backward",
    "(Tensor locations, Tensor scale, str noise, Tensor gradient, bool moving) -> (Tensor, Tensor)",
)
def _curve_op(locations: Tensor, scale: Tensor, noise: Noise, gradient: Tensor, moving: bool) -> tuple[Tensor, Tensor]:
    """The derivative along a gradient in the locations, and for each row in the scale while the noise is no wider."""
    return _curve_reference(locations, scale, noise, gradient, moving)


@_expected_op.register_fake
def _(
    locations: Tensor, other: Tensor | None, scale: Tensor, noise: Noise, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    rows = locations.new_empty((_numbers(moving), *locations.shape[:-1]), dtype=torch.float64)
    return rows, _like(locations) if probable else locations.new_empty(0)


@_probabilities_op.register_fake
def _(locations: Tensor, scale: Tensor, noise: Noise) -> Tensor:
    return _like(locations)


@_curve_op.register_fake
def _(locations: Tensor, scale: Tensor, noise: Noise, gradient: Tensor, moving: bool) -> tuple[Tensor, Tensor]:
    return _like(locations), locations.new_empty(locations.shape[:-1] if moving else (0,), dtype=torch.float64)


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _expected_context(ctx: Any, inputs: Any, output: Any) -> None:
    locations, other, scale, ctx.noise, _, _ = inputs
    ctx.save_for_backward(locations, other, scale, *output)


def _expected_gradient(ctx: Any, by_rows: Tensor, _: Any) -> Any:
    locations, other, scale, rows, chances = ctx.saved_tensors
    call = locations, other, scale, ctx.noise
    by_value, by_total = by_rows[0], by_rows[2]
    return *_in_expected(call, (*ctx.needs_input_grad[:3], False), rows, chances, by_value, by_total, False), None, None


def _probabilities_context(ctx: Any, inputs: Any, output: Any) -> None:
    locations, scale, ctx.noise = inputs
    ctx.save_for_backward(locations, scale)


def _probabilities_gradient(ctx: Any, gradient: Tensor) -> Any:
    return _in_probabilities((*ctx.saved_tensors, ctx.noise), (*ctx.needs_input_grad[:2], False), gradient)


_expected_op.register_autograd(_expected_gradient, setup_context=_expected_context)
_probabilities_op.register_autograd(_probabilities_gradient, setup_context=_probabilities_context)


@_expected_op.register_vmap
def _(
    info: Any,
    dims: Any,
    locations: Tensor,
    other: Tensor | None,
    scale: Tensor,
    noise: Noise,
    probable: bool,
    moving: bool,
) -> Any:
    m, s = front(info, dims[0], locations), beside(dims[2], scale, locations, dims[0])
    o = None if other is None else front(info, dims[1], other)
    return _expected_op(m, o, s, noise, probable, moving), (1, 0 if probable else None)


@_probabilities_op.register_vmap
def _(info: Any, dims: Any, locations: Tensor, scale: Tensor, noise: Noise) -> Any:
    return _probabilities_op(front(info, dims[0], locations), beside(dims[1], scale, locations, dims[0]), noise), 0


@_curve_op.register_vmap
def _(info: Any, dims: Any, locations: Tensor, scale: Tensor, noise: Noise, gradient: Tensor, moving: bool) -> Any:
    m, s = front(info, dims[0], locations), beside(dims[1], scale, locations, dims[0])
    return _curve_op(m, s, noise, front(info, dims[3], gradient), moving), (0, 0 if moving else None)


# ---- the compiled kernels ------------------------------------------------------------------------------------------


@_expected_op.register_kernel("cpu")
def _survey(
    locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise, probable: bool, drift: bool
) -> tuple[Tensor, Tensor]:
    """See the operator."""
    cpu = compiled("choice_cpu")
    if cpu is None or not locations.numel():
        return _survey_reference(locations, other, scale, noise, probable, drift)
    rows = torch.empty((_numbers(drift), *locations.shape[:-1]), dtype=torch.float64)
    numbers = rows.view(len(rows), -1)
    chances = torch.empty_like(locations, memory_format=torch.contiguous_format) if probable else locations.new_empty(0)
    for part, table in _parts(locations, scale, noise, drift, "splines"):
        m = _rows(locations, part)
        run(
            cpu.expected_body(m.dtype),
            m.shape,
            *_shared(table),
            table.drift if drift else None,
            *(m, None if other is None else _rows(other, part), table.scales),
            *(_rows(chances, part) if probable else None, numbers[:, part], numbers.stride(0)),
        )
    return rows, chances


@_probabilities_op.register_kernel("cpu")
def _probable(locations: Tensor, scale: Tensor, noise: Noise) -> Tensor:
    return _survey(locations, None, scale, noise, True, False)[1]


@_curve_op.register_kernel("cpu")
def _curve(
    locations: Tensor, scale: float | Tensor, noise: Noise, gradient: Tensor, moving: bool
) -> tuple[Tensor, Tensor]:
    """See the operator."""
    cpu = compiled("choice_cpu")
    if cpu is None or not locations.numel():
        return _curve_reference(locations, scale, noise, gradient, moving)
    out = torch.empty_like(locations, memory_format=torch.contiguous_format)
    in_scale = torch.empty(locations.shape[:-1] if moving else (0,), dtype=torch.float64)
    for part, table in _parts(locations, scale, noise, form="splines"):
        m = _rows(locations, part)
        run(
            cpu.probabilities_backward_body(m.dtype),
            m.shape,
            *_shared(table),
            table.drift if moving else None,
            *(m, _rows(gradient, part), _rows(out, part), in_scale.view(-1)[part] if moving else None),
        )
    return out, in_scale


@_expected_op.register_kernel("cuda")
def _survey_gpu(
    locations: Tensor, other: Tensor | None, scale: Tensor, noise: Noise, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    gpu = _gpu()
    if gpu is None:
        return _survey_reference(locations, other, scale, noise, probable, moving)
    found = []
    for part, table in _parts(locations, scale, noise, moving):
        m, o = _rows(locations, part), None if other is None else _rows(other, part)
        numbers, chances = gpu.survey(m, o, table.scales, table, probable, moving)
        _finish(numbers, table.scales.to(numbers.device))
        found.append((numbers, chances))
    numbers, chances = (torch.cat(parts) for parts in zip(*found, strict=True))
    rows = numbers.mT[: _numbers(moving)].reshape(-1, *locations.shape[:-1])
    return rows, chances.view(locations.shape) if probable else chances


@_probabilities_op.register_kernel("cuda")
def _probable_gpu(locations: Tensor, scale: Tensor, noise: Noise) -> Tensor:
    return _survey_gpu(locations, None, scale, noise, True, False)[1]


@_curve_op.register_kernel("cuda")
def _curve_gpu(locations: Tensor, scale: Tensor, noise: Noise, gradient: Tensor, moving: bool) -> tuple[Tensor, Tensor]:
    gpu = _gpu()
    if gpu is None or moving:  # the kernel has no derivative in the scale
        return _curve_reference(locations, scale, noise, gradient, moving)
    parts = _parts(locations, scale, noise)
    found = [gpu.curve(_rows(locations, part), table.scales, table, _rows(gradient, part)) for part, table in parts]
    return torch.cat(found).view(locations.shape), locations.new_empty(0, dtype=torch.float64)


def _gpu() -> Any:
    """The kernels for GPUs, if Triton is there and works."""
    gpu = compiled("choice_triton")
    return gpu if gpu is not None and gpu.works() else None


def _numbers(moving: bool) -> int:
    """How many numbers a row has: half of them are for the derivative in the scale."""
    return STRIDE if moving else STRIDE // 2


def _finish(numbers: Tensor, scales: Tensor) -> None:
    """From the expected maximum beyond the largest location, in units of the wider noise, the expected maximum."""
    numbers[:, 0] *= scales.clamp_min(1.0).repeat_interleave(len(numbers) // len(scales))
    numbers[:, 0] += numbers[:, 1]


_SHARED: WeakKeyDictionary[Tables, list[int]] = WeakKeyDictionary()


def _shared(table: Tables) -> list[int]:
    """The arguments that both kernels begin with; kept as long as the tables are."""
    if table not in _SHARED:
        item, entries = table.exponent.element_size(), table.exponent[0].numel()
        numbers = (item, table.step, table.start, table.shift, table.length, entries, table.nodes, table.limit)
        rows = (table.rates, table.decay, table.rest, table.windows, table.exponent, table.hazard, table.across)
        _SHARED[table] = integers(*numbers, table.room, len(table.scales), *rows)
    return _SHARED[table]


def _rows(x: Tensor, part: slice) -> Tensor:
    return x.detach().contiguous().view(-1, x.shape[-1])[part]


def _parts(
    locations: Tensor, scale: float | Tensor, noise: Noise, moving: bool = False, form: Form = "slices"
) -> Iterator[tuple[slice, Tables]]:
    """Rows that share few scales, with their tables."""
    if not isinstance(scale, Tensor) or scale.numel() == 1:
        yield slice(None), tables(noise, scale, locations.shape[-1], locations.dtype, moving, form)
        return
    _, flat, (scales, each) = grouped(scale.detach(), locations.shape[:-1], torch.device("cpu"))
    for first in range(0, scales, _TABLES):
        some = flat[first : first + _TABLES].contiguous()  # type: ignore[index]  # a tensor, as the scale is
        part = slice(first * each, (first + len(some)) * each)
        yield part, tables(noise, some, locations.shape[-1], locations.dtype, moving, form)
