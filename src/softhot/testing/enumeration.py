r"""The truth about :math:`E_q[f(z)]` by enumeration, and the gradients of an estimator to hold against it.

.. math:: E_q[f(z)] = \sum_z \pi(z) f(z), \qquad \nabla_\ell E_q[f(z)] = \sum_z \pi(z) f(z) (z - \pi), \qquad
    \pi(z) = \prod_n \pi_{n, z_n}

Plain loops over all K^N configurations in float64, with the score written out: nothing is shared with
:class:`softhot.estimators.Exact`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators import Estimator, Integrand

__all__ = ["exact_gradient", "exact_value", "gradient_draws"]


def exact_value(f: Integrand, logits: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch"]:
    r"""The exact :math:`E_q[f(z)]` in float64, differentiable in the parameters of f.

    Arguments:
        f: maps one-hot z of shape (\*batch, N, K), in float64, to (\*batch).
        logits: of shape (\*batch, N, K); what f does at impossible configurations does not matter.

    Example:
        >>> import torch
        >>> exact_value(lambda z: z[..., 0].sum(-1) ** 2, torch.zeros(2, 2))
        tensor(1.5000, dtype=torch.float64)
    """
    total = logits.new_zeros(logits.shape[:-2], dtype=torch.float64)
    for z, mass in _configurations(logits):
        total = total + mass * _inside(f(z), mass)
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
        total = total + (mass * _inside(f(z), mass))[..., None, None] * (z - probs)
    return total.detach()


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
    """Every z, of the shape of the logits, and its probability, of the shape of the batch."""
    latents, classes = logits.shape[-2:]
    probs = logits.to(torch.float64).softmax(-1)
    for chosen in itertools.product(range(classes), repeat=latents):
        z = torch.zeros_like(probs.detach())
        mass = probs.new_ones(probs.shape[:-2])
        for n, k in enumerate(chosen):
            z[..., n, k] = 1.0
            mass = mass * probs[..., n, k]
        yield z, mass


def _inside(value: Tensor, mass: Tensor) -> Tensor:
    return torch.where(mass > 0, value, 0.0)
