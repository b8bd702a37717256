r"""The log-density of relaxed one-hot variables, with its gradient.

With scores :math:`s = \ell - t y` at a point :math:`z = e^y`, and w their softmax over the classes,

.. math:: \log q = \log\Gamma(K) + (K - 1) \log t + \textstyle\sum_k (s_k - y_k) - K \operatorname{logsumexp}(s)

    \frac{\partial \log q}{\partial \ell} = 1 - K w, \qquad \frac{\partial \log q}{\partial y} = t K w - (t + 1), \qquad
    \frac{\partial \log q}{\partial t} = \frac{K - 1}{t} + \textstyle\sum_k (K w_k - 1) y_k

Impossible classes do not count. On the boundary, where entries of z are zero, it is the limit as they fall together.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from softhot.kernels.parallel import run
from softhot.kernels.routes import again, compiled, direct, needs_gradient, route
from softhot.kernels.temper import by_row, column

__all__ = ["log_density", "log_density_reference"]


def log_density(points: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
    """The log-density, differentiable.

    Arguments:
        points: y, of shape (*batch, K).
        logits: of the same shape and dtype.
        temperature: t, a float or a tensor that broadcasts with the batch.
    """
    if route(points, logits, temperature) != "direct" or not points.numel() or compiled("density_cpu") is None:
        return log_density_reference(points, logits, temperature)
    if not needs_gradient(points, logits, temperature):
        return _evaluate(points, logits, temperature, None)
    value: Tensor = _direct(points, logits, temperature)
    return value


def log_density_reference(points: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
    """The same in plain torch, differentiable in every mode and to every order."""
    t = temperature.to(points.dtype) if isinstance(temperature, Tensor) else temperature
    possible = logits != -math.inf
    count = possible.sum(-1).to(logits.dtype)
    zero = possible & (points == -math.inf)
    inside = possible & ~zero
    y = torch.where(inside, points, 0.0)
    score = torch.where(possible, logits, 0.0) - column(t) * y
    edge = zero.any(-1)
    # on the boundary the sum of exponentials is that of the vanishing entries alone
    dominant = torch.where(edge[..., None], zero, possible)
    value = (
        torch.lgamma(count)
        + (count - 1) * (t.log() if isinstance(t, Tensor) else math.log(t))
        + (score - y).sum(-1)
        - count * torch.logsumexp(score.masked_fill(~dominant, -math.inf), -1)
    )
    rate = zero.sum(-1) * (t + 1) - count * t
    value = torch.where(edge & (rate != 0), math.inf * rate.sign(), value)
    return torch.where((~possible & (points > -math.inf)).any(-1), -math.inf, value)


class _LogDensity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
        normaliser = torch.empty(points.shape[:-1], dtype=torch.float64)
        ctx.temperature = temperature
        ctx.save_for_backward(points, logits, normaliser, *(temperature,) if isinstance(temperature, Tensor) else ())
        return _evaluate(points, logits, temperature, normaliser)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        points, logits, normaliser, *rest = ctx.saved_tensors
        temperature = rest[0] if rest else ctx.temperature
        moving = ctx.needs_input_grad
        if torch.is_grad_enabled() or route(gradient) != "direct":
            return again(log_density_reference, (points, logits, temperature), moving, (gradient,))
        cpu: Any = compiled("density_cpu")
        number, each = by_row(temperature, points)
        by_point, by_logit = (
            torch.empty_like(x, memory_format=torch.contiguous_format) if moves else None
            for x, moves in zip((points, logits), moving, strict=False)
        )
        by_heat = torch.empty_like(normaliser) if moving[2] else None
        given = points.contiguous(), logits.contiguous(), each, normaliser, gradient.contiguous()
        run(cpu.backward_body(points.dtype), points.shape, number, *given, by_point, by_logit, by_heat)
        by_temperature = None if by_heat is None else by_heat.sum_to_size(temperature.shape).to(temperature.dtype)
        return by_point, by_logit, by_temperature


_direct = direct(_LogDensity)


def _evaluate(points: Tensor, logits: Tensor, temperature: float | Tensor, normaliser: Tensor | None) -> Tensor:
    cpu: Any = compiled("density_cpu")
    number, each = by_row(temperature, points)
    value = points.new_empty(points.shape[:-1])
    given = points.contiguous(), logits.contiguous(), each
    run(cpu.forward_body(points.dtype), points.shape, number, *given, value, normaliser)
    return value
