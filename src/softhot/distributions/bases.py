r"""What the components of a mixture of discrete flows start from: B products of N categorical variables.

A base is a tensor of logits of shape (B, N, K). Logits of -inf exclude a class; with one class left for each variable
the base is a delta, and its component one configuration. Variables with fewer classes than K have -inf in the others.
Only :func:`dirichlet` is random, once: the logits are fixed after that, or learned.

Reference:
    Kuśmierczyk, Klami (2020), "Reliable categorical variational inference with mixture of discrete normalizing flows".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.functional.check import counted, positive, sizes

__all__ = ["delta", "dirichlet", "enumerated", "uniform"]


def delta(configurations: Int[Tensor, "*batch B N"], classes: int) -> Float[Tensor, "*batch B N K"]:
    """All mass of component b at configuration b, given by its classes.

    Example:
        >>> import torch
        >>> delta(torch.tensor([[0, 1]]), classes=2)
        tensor([[[0., -inf],
                 [-inf, 0.]]])
    """
    if configurations.numel() and not (configurations.min() >= 0 and configurations.max() < classes):
        low, high = (value.item() for value in configurations.aminmax())
        raise ValueError(f"configurations holds classes from {low} to {high}, outside 0 to {classes - 1}.")
    return one_hot(configurations, classes).to(torch.get_default_dtype()).log()


def enumerated(components: int, cardinalities: Sequence[int]) -> Float[Tensor, "B N K"]:
    """Deltas at the first configurations in turn, the first variable the fastest; from the first again after the last.

    Example:
        >>> enumerated(5, (2, 2)).argmax(-1).tolist()
        [[0, 0], [1, 0], [0, 1], [1, 1], [0, 0]]
    """
    own = _own(components, cardinalities)
    place = torch.cat([torch.ones(1, dtype=torch.long), own.cumprod(0)[:-1]])
    return delta(torch.arange(components)[:, None] // place % own, int(own.max()))


def uniform(components: int, cardinalities: Sequence[int]) -> Float[Tensor, "B N K"]:
    """Every configuration alike.

    Example:
        >>> uniform(1, (2, 3)).exp()
        tensor([[[0.5000, 0.5000, 0.0000],
                 [0.3333, 0.3333, 0.3333]]])
    """
    own = _own(components, cardinalities)
    possible = torch.arange(int(own.max())) < own[:, None]
    logits = torch.where(possible, 0.0, -math.inf).log_softmax(-1)
    return logits.expand(components, *logits.shape).clone()


def dirichlet(
    components: int,
    cardinalities: Sequence[int],
    concentration: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "B N K"]:
    """The probabilities of each variable of each component drawn from a symmetric Dirichlet distribution.

    Arguments:
        components: B.
        cardinalities: the number of classes of each of the N variables; K is the largest.
        concentration: of the Dirichlet distribution; near zero the components are nearly deltas.
        generator: the source of randomness; torch's default generator if not given.

    Example:
        >>> import torch
        >>> dirichlet(4, (2, 3)).exp().sum(-1).allclose(torch.ones(4, 2))
        True
    """
    positive("concentration", concentration, torch.Size())
    logits = uniform(components, cardinalities)
    shape = torch.full(logits.shape, float(concentration), dtype=torch.float64)
    # the logarithm of Gamma(a) is that of Gamma(a + 1) plus log(U) / a: no underflow at a small a
    gamma = torch._standard_gamma(shape + 1, generator=generator).log()
    uniforms = torch.rand(shape.shape, dtype=torch.float64, generator=generator)
    drawn = gamma + torch.log1p(-uniforms) / shape
    return drawn.masked_fill(logits == -math.inf, -math.inf).log_softmax(-1).to(logits.dtype)


def _own(components: int, cardinalities: Sequence[int]) -> Tensor:
    counted("components", components, 1, "leaves nothing to draw")
    return torch.tensor(sizes(cardinalities))
