r"""The divergence of one-hot variables, with its gradient.

With logits :math:`\ell` and :math:`\ell'`, :math:`\log p = \ell - \operatorname{logsumexp}(\ell)`, and p' likewise,

.. math:: KL = \sum_k p_k \log\frac{p_k}{p'_k}, \qquad
    \frac{\partial KL}{\partial \ell_k} = p_k \Big( \log\frac{p_k}{p'_k} - KL \Big), \qquad
    \frac{\partial KL}{\partial \log p'_k} = -p_k

Impossible classes do not count. It is infinite, without gradient, where a class that the prior excludes is possible.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from softhot.kernels.parallel import run
from softhot.kernels.routes import again, at_once, compiled, direct, mapped, needs_gradient, repeats, route, rows_beside

__all__ = ["divergence", "divergence_reference"]


def divergence(logits: Tensor, prior_logits: Tensor) -> Tensor:
    r"""The divergence in nats, differentiable.

    Arguments:
        logits: of shape (\*sample, \*batch, K).
        prior_logits: of shape (\*batch, K), or any that broadcasts with the logits.

    Example:
        >>> import torch
        >>> divergence(torch.tensor([0.0, -torch.inf]), torch.zeros(2))
        tensor(0.6931)
    """
    if mapped(logits):  # the prior of a run is normalised once, not beside every row
        found: Tensor = at_once(lambda q, p: _kernel(q, rows_beside(p.log_softmax(-1), q)), logits, prior_logits)
        return found
    return _kernel(logits, prior_logits.log_softmax(-1))


def _kernel(logits: Tensor, log_prior: Tensor) -> Tensor:
    ready = repeats(log_prior, logits) and logits.numel() and route(logits, log_prior) == "direct"
    if not ready or compiled("divergence_cpu") is None:
        return divergence_reference(logits, log_prior)
    if not needs_gradient(logits, log_prior):
        return _evaluate(logits, log_prior, None)
    value: Tensor = _direct(logits, log_prior)
    return value


def divergence_reference(logits: Tensor, prior_logits: Tensor) -> Tensor:
    """The same in plain torch, differentiable in every mode and to every order."""
    log_q, log_p = torch.broadcast_tensors(logits.log_softmax(-1), prior_logits.log_softmax(-1))
    possible, allowed = log_q != -math.inf, log_p != -math.inf  # NaN counts, to be seen in the result
    both = possible & allowed
    ratio = torch.where(both, log_q, 0.0) - torch.where(both, log_p, 0.0)
    value: Tensor = (log_q.exp() * ratio).sum(-1)
    return value.masked_fill((possible & ~allowed).any(-1), math.inf)


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, log_prior: Tensor) -> Tensor:
        normaliser = torch.empty(2, *logits.shape[:-1], dtype=torch.float64)
        ctx.save_for_backward(logits, log_prior, normaliser)
        return _evaluate(logits, log_prior, normaliser)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        logits, log_prior, normaliser = ctx.saved_tensors
        if torch.is_grad_enabled() or route(gradient) != "direct":
            return again(divergence_reference, (logits, log_prior), ctx.needs_input_grad, (gradient,))
        cpu: Any = compiled("divergence_cpu")
        by_logit, by_prior = (
            torch.empty_like(logits, memory_format=torch.contiguous_format) if moves else None
            for moves in ctx.needs_input_grad
        )
        given = (
            math.prod(log_prior.shape[:-1]),
            logits.contiguous(),
            log_prior.contiguous(),
            normaliser,
            gradient.contiguous(),
        )
        run(cpu.backward_body(logits.dtype), logits.shape, *given, by_logit, by_prior)
        return by_logit, None if by_prior is None else by_prior.sum_to_size(log_prior.shape)


_direct = direct(_Divergence)


def _evaluate(logits: Tensor, log_prior: Tensor, normaliser: Tensor | None) -> Tensor:
    cpu: Any = compiled("divergence_cpu")
    value = logits.new_empty(logits.shape[:-1])
    given = math.prod(log_prior.shape[:-1]), logits.contiguous(), log_prior.contiguous(), value, normaliser
    run(cpu.forward_body(logits.dtype), logits.shape, *given)
    return value
