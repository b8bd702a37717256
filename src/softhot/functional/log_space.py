"""Relaxed samples and the log-space samples they came from.

At a low temperature most entries of a relaxed one-hot sample underflow to zero, and its density, which is a function
of their logarithms, can no longer be computed from it. Whoever draws a relaxed sample therefore leaves its logarithm
here; it is found again by the identity of the tensor, and goes when the tensor goes. The sample stays a plain tensor.
A slice, a copy or a detached view of it is another tensor, and its logarithm is computed from it, and so it is inside
torch.compile: keep samples in log space (ExpRelaxedOneHotCategorical) where that matters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softhot.functional.kept import Kept
from softhot.kernels.routes import needs_gradient, route

__all__ = ["log_of", "log_rest_of", "remember_log"]

_LOGS = Kept[tuple[Tensor, Tensor | None]]()
_UNDERFLOW = 1e-30


def remember_log(sample: Tensor, log_sample: Tensor, log_rest: Tensor | None = None) -> Tensor:
    """Keep the logarithm of a sample, and that of 1 - sample, for as long as the sample lives; returns the sample.

    Arguments:
        sample: any tensor; it is not changed.
        log_sample: what :func:`log_of` is to find, of the same shape.
        log_rest: what :func:`log_rest_of` is to find; computed from the sample if not given.

    Example:
        >>> import torch, softhot
        >>> z = softhot.functional.remember_log(torch.tensor([0.0, 1.0]), torch.tensor([-200.0, 0.0]))
        >>> softhot.functional.log_of(z), softhot.functional.log_of(z.clone())
        (tensor([-200.,    0.]), tensor([-inf, 0.]))
    """
    _LOGS.keep(sample, (log_sample, log_rest))
    return sample


def log_of(sample: Tensor) -> Tensor:
    """The logarithm of a sample: the one it was made from where that is known, otherwise log(sample).

    Example:
        >>> import torch, softhot
        >>> q = softhot.distributions.RelaxedOneHotCategorical(0.001, logits=torch.tensor([0.0, 9.0]))
        >>> softhot.functional.log_of(q.rsample()).isfinite().all()
        tensor(True)
    """
    log_sample, _ = _LOGS.of(sample) or (None, None)
    return sample.log() if log_sample is None else _through(sample, log_sample)


def log_rest_of(sample: Tensor) -> Tensor:
    """The logarithm of 1 - sample: the one that was kept with it, otherwise log1p(-sample).

    Example:
        >>> import torch, softhot
        >>> q = softhot.distributions.RelaxedBernoulli(0.001, logits=torch.tensor([9.0]))
        >>> softhot.functional.log_rest_of(q.rsample()).isfinite()
        tensor([True])
    """
    _, log_rest = _LOGS.of(sample) or (None, None)
    return torch.log1p(-sample) if log_rest is None else _through(1 - sample, log_rest)


def _through(sample: Tensor, log_sample: Tensor) -> Tensor:
    """The logarithm that was kept, differentiable in the sample."""
    if not needs_gradient(sample):
        return log_sample
    if route(sample, log_sample) == "direct":
        kept: Tensor = _Kept.apply(sample, log_sample)  # type: ignore[no-untyped-call]
        return kept
    return _with_gradient(sample, log_sample)


def _with_gradient(sample: Tensor, log_sample: Tensor) -> Tensor:
    """The value is the one kept; the gradient passes through the sample, where it has not underflowed."""
    inside = sample > _least(sample)
    log = torch.where(inside, sample, 1.0).to(log_sample.dtype).log()
    value: Tensor = torch.where(inside, log + (log_sample - log).detach(), log_sample)
    return value


class _Kept(torch.autograd.Function):
    """The same in one step."""

    @staticmethod
    def forward(ctx: Any, sample: Tensor, log_sample: Tensor) -> Tensor:
        ctx.save_for_backward(sample)
        return log_sample.view_as(log_sample)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (sample,) = ctx.saved_tensors
        wide = sample.to(gradient.dtype)
        return (gradient / wide).masked_fill(wide <= _least(sample), 0.0).to(sample.dtype), None


def _least(sample: Tensor) -> float:
    return max(_UNDERFLOW, torch.finfo(sample.dtype).tiny)
