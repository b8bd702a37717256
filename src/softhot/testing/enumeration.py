r"""The truth about :math:`E_q[f(z)]` by enumeration, and the gradients of an estimator to hold against it.

.. math:: E_q[f(z)] = \sum_z \pi(z) f(z), \qquad \nabla_\ell E_q[f(z)] = \sum_z \pi(z) f(z) (z - \pi), \qquad
    \pi(z) = \prod_n \pi_{n, z_n}

Plain sums over all K^N configurations in float64, with the score written out: nothing is shared with
:class:`softhot.estimators.Exact`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators import Estimator, Integrand

__all__ = ["exact_gradient", "exact_value", "gradient_draws", "target"]

_SOME = 2**12  # configurations at once


def exact_value(f: Integrand, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
    r"""The exact :math:`E_q[f(z)]` in float64, differentiable in the parameters of f.

    Arguments:
        f: maps one-hot z of shape (\*sample, \*batch, N, K), in float64, to (\*sample, \*batch).
        logits: of shape (\*batch, N, K); what f does at impossible configurations does not matter.

    Example:
        >>> import torch
        >>> exact_value(lambda z: z[..., 0].sum(-1) ** 2, torch.zeros(2, 2))
        tensor(1.5000, dtype=torch.float64)
    """
    total = logits.new_zeros(logits.shape[:-2], dtype=torch.float64)
    for z, mass in _configurations(logits):
        total = total + (mass * _inside(f(z), mass)).sum(0)
    return total


def exact_gradient(f: Integrand, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch N K"]:
    """The exact gradient of E_q[f(z)] to the logits, in float64; arguments as in :func:`exact_value`.

    Example:
        >>> import torch
        >>> exact_gradient(lambda z: z[..., 0].sum(-1), torch.zeros(1, 2))
        tensor([[ 0.2500, -0.2500]], dtype=torch.float64)
    """
    probs = logits.detach().to(torch.float64).softmax(-1)
    total = torch.zeros_like(probs)
    for z, mass in _configurations(logits.detach()):
        total = total + ((mass * _inside(f(z), mass))[..., None, None] * (z - probs)).sum(0)
    return total.detach()


def target(
    estimator: Estimator, f: Integrand, logits: Float[Tensor, "*batch N K"]
) -> tuple[Integrand, Float[Tensor, "*batch M K"]]:
    """What an estimator estimates the mean of, and the logits of its variables.

    They are f and the logits themselves; of an estimator of the bound of n draws, log mean exp f of n copies of them.

    Example:
        >>> import torch, softhot
        >>> bound, logits = target(softhot.estimators.Vimco(samples=3), lambda z: z[..., 0].sum(-1), torch.zeros(1, 2))
        >>> exact_value(bound, logits)
        tensor(0.5811, dtype=torch.float64)
    """
    n = getattr(estimator, "samples", 1) if estimator.multi_sample else 1
    if n == 1:
        return f, logits

    def bound(z: Tensor) -> Tensor:
        return torch.stack([f(part) for part in z.chunk(n, -2)]).logsumexp(0) - math.log(n)

    return bound, torch.cat([logits] * n, -2)


def gradient_draws(
    estimator: Estimator,
    f: Integrand,
    logits: Float[Tensor, "*batch N K"],
    draws: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "draws *batch N K"]:
    r"""Independent gradients to the logits, each that of one call of the estimator.

    They are one call in truth, on logits repeated along a leading dimension of the batch. f must therefore treat the
    elements of a batch one by one, and draws broadcast with what it closes over.

    Example:
        >>> import torch, softhot
        >>> exact = softhot.estimators.Exact()
        >>> gradient_draws(exact, lambda z: z[..., 0].sum(-1), torch.zeros(1, 2), draws=2)
        tensor([[[ 0.2500, -0.2500]],
        <BLANKLINE>
                [[ 0.2500, -0.2500]]])
    """
    repeated = logits.detach().expand(draws, *logits.shape).clone().requires_grad_()
    with torch.enable_grad():
        estimate = estimator(f, repeated, generator=generator)
    (gradient,) = torch.autograd.grad(estimate.sum(), repeated)
    return gradient


def _configurations(logits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Every z, some at a time, of shape (some, *batch, N, K), and its probability, of shape (some, *batch)."""
    latents, classes = logits.shape[-2:]
    probs = logits.to(torch.float64).softmax(-1)
    places = torch.arange(classes, device=logits.device)
    every = torch.cartesian_prod(*[places] * latents).reshape(-1, *(1,) * (logits.dim() - 2), latents, 1)
    for some in every.split(_SOME):
        z = (some == places).to(torch.float64).expand(-1, *logits.shape)
        yield z, (z * probs).sum(-1).prod(-1)


def _inside(value: Tensor, mass: Tensor) -> Tensor:
    return torch.where(mass > 0, value, 0.0)
