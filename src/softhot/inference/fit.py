r"""What inference is given and what it gives.

The target is a function that maps one-hot z of shape (\*sample, N, K) to :math:`\log p(x, z)`, of shape (\*sample),
for an observed x; -inf where z is impossible. With the evidence :math:`\log p(x)` known, the divergence to the
posterior is

.. math:: KL(q(z) \,\|\, p(z \mid x)) = \log p(x) - \mathrm{ELBO}, \qquad
    \mathrm{ELBO} = E_q[\log p(x, z) - \log q(z)]

Variables may have different numbers of classes, their cardinalities: K is the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softhot.distributions import MixtureOfDiscreteFlows
from softhot.functional.check import tensor

__all__ = ["Fit", "LogJoint", "starting", "values_at"]

LogJoint = Callable[[Tensor], Tensor]
r"""The function z -> log p(x, z) of one-hot z, from shape (\*sample, N, K) to (\*sample)."""


@dataclass(frozen=True)
class Fit:
    """An approximate posterior.

    Attributes:
        q: the approximation.
        elbo: its ELBO, in nats.
        error: the standard error of that; zero where it is a sum.
        history: the ELBO as it went: after each component, or after each step.
        evaluations: of the target while it was fitted, at one configuration each.
        proven: whether no mixture of this kind has a larger ELBO.
    """

    q: MixtureOfDiscreteFlows
    elbo: float
    error: float
    history: tuple[float, ...]
    evaluations: int
    proven: bool


def starting(starts: Tensor, own: Int[Tensor, " N"]) -> Int[Tensor, "starts N"]:
    """The starts, if each row has the classes of variables that have so many.

    Example:
        >>> starting(torch.tensor([[1, 2]]), torch.tensor([2, 3]))
        tensor([[1, 2]])
    """
    tensor("starts", starts)
    if starts.dtype != torch.long or starts.dim() != 2 or starts.shape[1] != len(own):
        raise ValueError(
            f"starts of {starts.dtype} and shape {tuple(starts.shape)} are no configurations of {len(own)} variables; "
            f"use classes in a tensor of torch.long, of shape (starts, {len(own)})."
        )
    outside = ((starts < 0) | (starts >= own)).any(-1)
    if outside.any():
        raise ValueError(
            f"starts have the row {starts[outside][0].tolist()}, and the numbers of classes are {own.tolist()}; use "
            "classes from 0 to one less."
        )
    return starts


def values_at(classes: Int[Tensor, "M N"], value: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """The values of the target at configurations, if each is a number or -inf.

    Example:
        >>> values_at(torch.tensor([[0, 1]]), torch.tensor([-1.0]))
        tensor([-1.])
    """
    bad = value.isnan() | (value == math.inf)
    if bad.any():
        raise ValueError(
            f"the target is NaN or +inf at the configuration {classes[bad][0].tolist()}; log_joint must be a number or "
            "-inf."
        )
    return value
