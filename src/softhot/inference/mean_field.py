r"""Coordinate ascent: the best product of independent variables, one variable at a time.

.. math:: q_n(k) \propto \exp E_{q_{-n}}[\log p(x, z) \mid z_n = k]

is the best of a variable given the others, so that the ELBO never falls. For a target that is linear in each variable,
as that of a Bayesian network is, the expectation is the target at the probabilities of the others.

An impossible configuration with mass makes the ELBO -inf. The ascent starts at single configurations that are possible;
a class then gets mass only where none of what the others may be makes it impossible. The larger the support is at the
start, the less it can still change: several starts, and a random order of the variables, find different ones.

Reference:
    Jordan, Ghahramani, Jaakkola, Saul (1999), "An introduction to variational methods for graphical models".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.distributions import OneHotCategorical
from softhot.estimators.integrand import numbers
from softhot.functional.check import counted, sizes
from softhot.inference.fit import LogJoint, starting, values_at

__all__ = ["MeanField", "mean_field"]

TOLERANCE = 1e-10  # of the largest rise in a sweep, relative


@dataclass(frozen=True)
class MeanField:
    """A product of independent variables.

    Attributes:
        logits: of the best ascent, -inf where there is no mass.
        elbo: its ELBO, in nats.
        elbos: of the end of each ascent.
        evaluations: of the target.
    """

    logits: Float[Tensor, "N K"]
    elbo: float
    elbos: tuple[float, ...]
    evaluations: int


@torch.no_grad()
def mean_field(
    log_joint: LogJoint,
    cardinalities: Sequence[int],
    starts: Int[Tensor, "starts N"],
    *,
    sweeps: int = 1000,
    generator: torch.Generator | None = None,
) -> MeanField:
    """The best of several ascents, all at once.

    Arguments:
        log_joint: the target, linear in each variable and defined at probabilities; see :mod:`softhot.inference.fit`.
        cardinalities: the number of classes of each of the N variables.
        starts: classes of possible configurations, such as those of :func:`softhot.inference.likeliest`.
        sweeps: the most passes through all variables; fewer if nothing changes any more.
        generator: the source of randomness of the order of variables; torch's default generator if not given.

    Raises:
        ValueError: If there is no sweep, no start is possible, or the target gives NaN.

    Example:
        >>> import torch
        >>> log_p = torch.tensor([[0.4, 0.1], [0.1, 0.4]], dtype=torch.float64).log()
        >>> fit = mean_field(lambda z: (z[..., 0, :] @ log_p * z[..., 1, :]).sum(-1), (2, 2), torch.tensor([[0, 0]]))
        >>> round(fit.elbo, 4)  # half of each: no product is better
        -0.2231
    """
    own = torch.tensor(sizes(cardinalities))
    latents, classes = len(own), int(own.max())
    counted("sweeps", sweeps, 1, "leads nowhere")
    q = one_hot(starting(starts, own), classes).double()
    target = numbers(log_joint, "log_joint")
    evaluations, elbos = len(q), values_at(starts, target(q))  # a single configuration has no entropy
    q, elbos = q[elbos > -math.inf], elbos[elbos > -math.inf]
    if not len(q):
        raise ValueError(f"none of {len(starts)} starts is possible; use those of likeliest(...).classes.")
    padding = torch.arange(classes) >= own[:, None]
    for _ in range(sweeps):
        for n in torch.randperm(latents, generator=generator).tolist():
            size = int(own[n])
            each = q[:, None].repeat(1, size, 1, 1)
            each[:, :, n] = torch.eye(classes, dtype=q.dtype)[:size]
            value = target(each)
            evaluations += value.numel()
            q[:, n, :size] = value.softmax(-1)
        before, elbos = elbos, _elbo(target, q)
        evaluations += len(q)
        if not elbos.isfinite().all():
            raise ValueError(
                f"the ELBO of an ascent is {elbos[~elbos.isfinite()][0].item()}; use a log_joint that is linear in "
                "each variable, and a number or -inf."
            )
        if ((elbos - before) <= TOLERANCE * elbos.abs().clamp(min=1.0)).all():
            break
    best = int(elbos.argmax())
    return MeanField(
        q[best].log().masked_fill(padding, -math.inf), elbos[best].item(), tuple(elbos.tolist()), evaluations
    )


def _elbo(log_joint: LogJoint, q: Tensor) -> Tensor:
    entropy: Tensor = OneHotCategorical(probs=q, validate_args=False).entropy().sum(-1)
    return log_joint(q) + entropy
