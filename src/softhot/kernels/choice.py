r"""Discrete choices: expected maxima and choice probabilities, each with its analytic derivative.

The locations are :math:`m`, or :math:`b = o - s m` where there are others, o, and s is also the scale of the noise:
with those the divergence of two relaxed variables needs no pass over memory of its own. A class impossible in both,
-inf, does not count; one that is impossible in one of the two makes the value infinite.
"""

from __future__ import annotations

# mypy: disable-error-code="untyped-decorator, no-any-return"
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softhot.kernels import choice_reference
from softhot.kernels.choice_launch import curve, expected_backward, gpu_curve, gpu_survey, in_all, numbers, survey
from softhot.kernels.choice_reference import Choice, located
from softhot.kernels.noise import Noise
from softhot.kernels.routes import again, beside, direct, front, needs_gradient, operator, route

__all__ = ["Affine", "contrast", "expected", "expected_reference", "probabilities", "probabilities_reference"]


class Affine(NamedTuple):
    """What is made of a contrast: how far the expected maximum is above the possible classes of its row, in all.

    A rate times it, and a number that is added: of the scale, and of how many classes are possible.
    """

    rate: Callable[[Any], Any]
    fixed: Callable[[Any, Any], Any]

    def of(self, above: Tensor, count: Tensor | float, scale: float | Tensor) -> Tensor:
        found: Tensor = self.rate(scale) * above + self.fixed(scale, count)
        return found

    def slope(self, above: Tensor, count: Tensor, scale: Tensor, gradient: Tensor) -> Tensor | float:
        """The derivative in the scale, of what is the same contrast."""
        with torch.enable_grad():
            leaf = scale.detach().requires_grad_()
            found = self.of(above, count, _double(leaf, above))
            return torch.autograd.grad(found, leaf, gradient.to(found.dtype))[0] if found.requires_grad else 0.0


_CONTRAST = Affine(lambda scale: 1.0, lambda scale, count: 0.0)


def expected(locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise) -> Tensor:
    """The expected maximum of each row, in float64; differentiable."""
    return _made(locations, other, scale, noise, None)


def contrast(locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise, affine: Affine) -> Tensor:
    """What is made of the contrast of each row, in the dtype of the locations; differentiable."""
    return _made(locations, other, scale, noise, affine).to(locations.dtype)


def expected_reference(
    locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise, affine: Affine | None
) -> Tensor:
    """The same in plain torch, differentiable in every mode and to every order."""
    m, finite, possible, alike = located(locations, other, scale)
    found, count = Choice(m, scale, noise, locations.dtype).expected_max(), possible.sum(-1).to(torch.float64)
    if affine is not None:
        found = affine.of(count * found - finite.sum(-1), count, _double(scale, locations))
    return found if alike is None else torch.where(alike, found, math.inf)


def _made(
    locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise, affine: Affine | None
) -> Tensor:
    wide = locations.to(torch.promote_types(locations.dtype, torch.float32))
    other = None if other is None else other.to(wide.dtype)
    way = route(wide, other, scale)
    if way == "reference" or not locations.numel():
        return expected_reference(wide, other, scale, noise, affine)
    if way == "direct":
        return _direct(wide, other, scale, noise, affine)
    probable = needs_gradient(wide, scale) or (other is not None and needs_gradient(other))
    rows, _ = _expected_op(wide, other, _tensor(scale), noise, probable, needs_gradient(scale))
    return rows[0] if affine is None else affine.of(rows[1], rows[3], _double(scale, rows))


def probabilities(locations: Tensor, scale: float | Tensor, noise: Noise) -> Tensor:
    """The choice probabilities, in the dtype of the locations; differentiable."""
    wide = locations.to(torch.promote_types(locations.dtype, torch.float32))
    way = route(wide, scale)
    if way == "reference" or not locations.numel():
        found = probabilities_reference(wide, scale, noise)
    elif way == "operator":
        found = _probabilities_op(wide, _tensor(scale), noise)
    elif needs_gradient(wide, scale):
        found = _direct_probabilities(wide, scale, noise)
    else:
        found = survey(wide, None, scale, noise, True, False)[1]
    return found.to(locations.dtype)


def probabilities_reference(locations: Tensor, scale: float | Tensor, noise: Noise) -> Tensor:
    """The same in plain torch, differentiable in every mode and to every order."""
    return Choice(locations, scale, noise).probabilities().to(locations.dtype)


def _double(scale: float | Tensor, beside: Tensor) -> float | Tensor:
    return scale.to(beside.device, torch.float64) if isinstance(scale, Tensor) else scale


def _tensor(scale: float | Tensor) -> Tensor:
    return scale if isinstance(scale, Tensor) else torch.full((), scale, dtype=torch.float64)


# ---- derivatives ---------------------------------------------------------------------------------------------------


class _Expected(torch.autograd.Function):
    """The kernel without the dispatcher, whose overhead is several times the work of a few rows."""

    @staticmethod
    def forward(
        ctx: Any,
        locations: Tensor,
        other: Tensor | None,
        scale: float | Tensor,
        noise: Noise,
        affine: Affine | None,
    ) -> Tensor:
        moving = ctx.needs_input_grad[:3]
        rows, chances, full = survey(locations, other, scale, noise, any(moving), moving[2])
        ctx.noise, ctx.scale, ctx.affine, ctx.full = noise, scale, affine, full
        ctx.save_for_backward(locations, other, rows, chances, *(scale,) if isinstance(scale, Tensor) else ())
        if affine is None:
            return rows[0]
        count = float(locations.shape[-1]) if full else rows[3]
        return affine.of(rows[1], count, _double(scale, rows)).to(locations.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        locations, other, rows, chances, *rest = ctx.saved_tensors
        affine, scale = ctx.affine, rest[0] if rest else ctx.scale
        call, moving = (locations, other, scale, ctx.noise), ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():
            return *again(expected_reference, (*call, affine), (*moving, False), (gradient,)), None
        if affine is None:
            return *_in_expected(call, moving, rows, chances, gradient, None, 1.0, ctx.full), None
        rate = affine.rate(_double(scale, rows))
        *found, in_scale, _ = _in_expected(call, moving, rows, chances, None, gradient, rate, ctx.full)
        if moving[2]:
            in_scale = in_scale + affine.slope(rows[1], rows[3], scale, gradient)
        return *found, in_scale, None, None


_direct = direct(_Expected)


class _Probabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, locations: Tensor, scale: float | Tensor, noise: Noise) -> Tensor:
        ctx.noise, ctx.scale = noise, scale
        ctx.save_for_backward(locations, *(scale,) if isinstance(scale, Tensor) else ())
        return survey(locations, None, scale, noise, True, False)[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        locations, *rest = ctx.saved_tensors
        return _in_probabilities((locations, rest[0] if rest else ctx.scale, ctx.noise), ctx.needs_input_grad, gradient)


_direct_probabilities = direct(_Probabilities)


def _in_expected(
    call: Any,
    moving: Any,
    rows: Tensor,
    chances: Tensor,
    by_value: Tensor | None,
    by_contrast: Tensor | None,
    rate: float | Tensor,
    full: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients in the arguments of `expected`, from a rate times those in the maximum and in the contrast."""
    locations, other, scale, _ = call
    counts, impossible = (None, None) if full else (rows[3], locations)
    given = chances, by_value, by_contrast
    in_other = in_locations = in_scale = None
    if other is None:
        in_locations = expected_backward(*given, rate, counts, impossible)
    else:
        if moving[1]:
            in_other = expected_backward(*given, rate, counts, impossible)
        if moving[0]:
            in_locations = expected_backward(*given, -scale * rate, counts, impossible)
    if moving[2]:
        value, _, _, count, drift, mean, own, sum_ = rows
        s = scale.to(torch.float64)
        wider = s > 1
        by_all, above = in_all(by_value, by_contrast, rate, count)
        in_scale = by_all * (torch.where(wider, s, 1.0) * drift + wider * (value - mean) / s.clamp_min(1.0))
        if other is not None:
            in_scale = in_scale - by_all * own + above * sum_
        in_scale = in_scale.sum_to_size(scale.shape).to(scale.dtype)
    return in_locations, in_other, in_scale, None


def _in_probabilities(call: Any, moving: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients in the arguments of `probabilities`."""
    if torch.is_grad_enabled():
        return again(probabilities_reference, call, moving[:3], (gradient,))
    locations, scale, noise = call
    if route(gradient) == "direct":
        in_locations, drift = curve(locations, scale, noise, gradient, moving[1])
    else:
        in_locations, drift = _curve_op(locations, _tensor(scale), noise, gradient, moving[1])
    if not moving[1]:
        return in_locations, None, None
    s = scale.to(torch.float64)
    own = (in_locations * locations.masked_fill(locations == -math.inf, 0.0)).sum(-1, dtype=torch.float64)
    in_scale = drift - (s > 1) * own / s
    return in_locations if moving[0] else None, in_scale.sum_to_size(scale.shape).to(scale.dtype), None


def _rows_reference(locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise) -> Tensor:
    """The maximum and the contrast, differentiable in every mode and to every order."""
    return torch.stack([expected_reference(locations, other, scale, noise, affine) for affine in (None, _CONTRAST)])


# ---- operators -----------------------------------------------------------------------------------------------------


@operator(
    "softhot::expected_max",
    "(Tensor locations, Tensor? other, Tensor scale, str noise, bool probable, bool moving) -> (Tensor, Tensor)",
)
def _expected_op(
    locations: Tensor, other: Tensor | None, scale: Tensor, noise: Noise, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    """Numbers of each row, see `choice_cpu`, and the choice probabilities if wanted: without gradient, unlike those."""
    return choice_reference.survey(locations, other, scale, noise, probable, moving)


@operator("softhot::choice_probabilities", "(Tensor locations, Tensor scale, str noise) -> Tensor")
def _probabilities_op(locations: Tensor, scale: Tensor, noise: Noise) -> Tensor:
    return probabilities_reference(locations, scale, noise).contiguous()


@operator(
    "softhot::choice_probabilities_backward",
    "(Tensor locations, Tensor scale, str noise, Tensor gradient, bool moving) -> (Tensor, Tensor)",
)
def _curve_op(locations: Tensor, scale: Tensor, noise: Noise, gradient: Tensor, moving: bool) -> tuple[Tensor, Tensor]:
    """The derivative along a gradient in the locations, and for each row in the scale while the noise is no wider."""
    return choice_reference.curve(locations, scale, noise, gradient, moving)


@_expected_op.register_fake
def _(
    locations: Tensor, other: Tensor | None, scale: Tensor, noise: Noise, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    rows = locations.new_empty((numbers(moving), *locations.shape[:-1]), dtype=torch.float64)
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
    if torch.is_grad_enabled():
        return *again(_rows_reference, call, (*ctx.needs_input_grad[:3], False), (by_rows[:2],)), None, None
    return *_in_expected(call, ctx.needs_input_grad, rows, chances, by_rows[0], by_rows[1], 1.0, False), None, None


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


# ---- what they run ---------------------------------------------------------------------------------------------------


@_expected_op.register_kernel("cpu")
def _(locations: Tensor, other: Tensor | None, scale: Tensor, noise: Noise, probable: bool, moving: bool) -> Any:
    return survey(locations, other, scale, noise, probable, moving)[:2]


@_probabilities_op.register_kernel("cpu")
def _(locations: Tensor, scale: Tensor, noise: Noise) -> Tensor:
    return survey(locations, None, scale, noise, True, False)[1]


@_probabilities_op.register_kernel("cuda")
def _(locations: Tensor, scale: Tensor, noise: Noise) -> Tensor:
    return gpu_survey(locations, None, scale, noise, True, False)[1]


_curve_op.register_kernel("cpu", curve)
_expected_op.register_kernel("cuda", gpu_survey)
_curve_op.register_kernel("cuda", gpu_curve)
