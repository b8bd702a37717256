r"""The log-likelihood of binary pixels, with its gradient.

With pixels x and their logits l, and the sum over the last dimension,

.. math:: \log p = \sum_d \big( x_d \, l_d - \log(1 + e^{l_d}) \big), \qquad
    \frac{\partial \log p}{\partial l_d} = x_d - \sigma(l_d)
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from softhot.kernels.parallel import run
from softhot.kernels.routes import (
    FULL,
    again,
    at_once,
    compiled,
    direct,
    mapped,
    needs_gradient,
    repeats,
    route,
    rows_beside,
)

__all__ = ["binary", "log_likelihood", "log_likelihood_reference"]


def log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    r"""The log-likelihood in nats, differentiable.

    Arguments:
        x: of shape (\*batch, D).
        logits: of shape (\*sample, \*batch, D), or any that broadcasts with x.

    Example:
        >>> import torch
        >>> log_likelihood(torch.tensor([0.0, 1.0]), torch.zeros(2))
        tensor(-1.3863)
    """
    if mapped(logits):
        found: Tensor = at_once(lambda x, logits: log_likelihood(rows_beside(x, logits), logits), x, logits)
        return found
    ready = repeats(x, logits) and logits.numel() and not needs_gradient(x) and route(x, logits) == "direct"
    if not ready or compiled("bernoulli_cpu") is None:
        return log_likelihood_reference(x, logits)
    if not needs_gradient(logits):
        return _evaluate(x, logits)
    value: Tensor = _direct(x, logits)
    return value


def log_likelihood_reference(x: Tensor, logits: Tensor) -> Tensor:
    """The same in plain torch, differentiable in every mode and to every order."""
    return _inner(x, logits) + F.logsigmoid(-logits).sum(-1)


def _inner(x: Tensor, logits: Tensor) -> Tensor:
    """The sum of the products; of logits that all of the batch share, as one product of matrices."""
    if x.dim() == 2 and logits.dim() > 2 and logits.shape[-2] == 1:
        return logits.squeeze(-2) @ x.mT
    return (x * logits).sum(-1)


def binary(x: Tensor) -> bool:
    """Whether every pixel is 0 or 1.

    Example:
        >>> import torch
        >>> binary(torch.tensor([0.0, 1.0])), binary(torch.tensor([0.0, 0.5]))
        (True, False)
    """
    if not x.numel() or x.dtype not in FULL or route(x) != "direct" or compiled("bernoulli_cpu") is None:
        return bool(((x == 0) | (x == 1)).all())
    cpu: Any = compiled("bernoulli_cpu")
    grey = torch.zeros((), dtype=torch.int64)
    run(cpu.grey_body(x.dtype), x.shape, x.contiguous(), grey)
    return not grey.item()


class _LogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, logits: Tensor) -> Tensor:
        ctx.save_for_backward(x, logits)
        return _evaluate(x, logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, logits = ctx.saved_tensors
        if torch.is_grad_enabled() or route(gradient) != "direct":
            return again(log_likelihood_reference, (x, logits), (False, True), (gradient,))
        cpu: Any = compiled("bernoulli_cpu")
        by_logit = torch.empty_like(logits, memory_format=torch.contiguous_format)
        given = prod(x.shape[:-1]), x.contiguous(), logits.contiguous(), gradient.contiguous()
        run(cpu.backward_body(x.dtype), logits.shape, *given, by_logit)
        return None, by_logit


_direct = direct(_LogLikelihood)


def _evaluate(x: Tensor, logits: Tensor) -> Tensor:
    cpu: Any = compiled("bernoulli_cpu")
    value = logits.new_empty(logits.shape[:-1])
    run(cpu.forward_body(x.dtype), logits.shape, prod(x.shape[:-1]), x.contiguous(), logits.contiguous(), value)
    return value
