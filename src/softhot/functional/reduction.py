"""From the divergence of every variable to a loss, with a floor under it ("free bits")."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import floating

__all__ = ["reduce_kl"]

_REDUCTIONS = ("none", "mean", "sum")
_FLOORS = ("variable", "example")


def reduce_kl(
    kl: Float[Tensor, "*batch N"], reduction: str, *, free_nats: float = 0.0, floor: str = "example"
) -> Float[Tensor, "*out"]:
    r"""The divergences of N variables summed, and reduced over the batch, with a part that costs nothing.

    A loss below the floor :math:`\lambda` has no gradient, so that training does not close a latent variable that
    carries little. The floor is under the sum of every example, or under the batch's mean of every variable:

    .. math:: \text{example: } \max\Big(\lambda, \sum_n KL_{bn}\Big) \qquad
        \text{variable: } \sum_n \max\Big(\lambda, \frac{1}{B} \sum_b KL_{bn}\Big)

    Arguments:
        kl: the divergence of every variable, in nats, of shape (\*batch, N), as KL terms give it.
        reduction: over the batch: "mean", "sum" (the mean times the size of the batch), or "none".
        free_nats: the floor, in nats; "free bits" times log 2.
        floor: under what: "example" or "variable".

    Raises:
        ValueError: If these are no floats, a name is unknown, the floor negative, one under the batch's mean asked of
            each example, or the mean that of an empty batch.

    Example:
        >>> import torch
        >>> kl = torch.tensor([[0.5, 0.1], [1.5, 0.1]])
        >>> reduce_kl(kl, "none"), reduce_kl(kl, "mean", free_nats=1.0)
        (tensor([0.6000, 1.6000]), tensor(1.3000))
        >>> reduce_kl(kl, "mean", free_nats=0.5, floor="variable")
        tensor(1.5000)

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever, Welling (2016), "Improved variational inference with inverse
        autoregressive flow", eq. 15: a floor under every variable.
        Hafner, Pasukonis, Ba, Lillicrap (2023), "Mastering diverse domains through world models", eq. 5: under every
        example.
    """
    floating("kl", kl)
    for name, value, known in (("reduction", reduction, _REDUCTIONS), ("floor", floor, _FLOORS)):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown; use one of {', '.join(map(repr, known))}.")
    if not 0 <= free_nats < math.inf:
        raise ValueError(f"free_nats={free_nats} is not a number of nats; use free_nats=1.0, or 0.0 for no floor.")
    if 0 in kl.shape[:-1] and (reduction == "mean" or floor == "variable"):
        raise ValueError(f"a batch of shape {tuple(kl.shape)} is empty, so divergences have no mean; leave it out.")
    if floor == "example":
        each = kl.sum(-1).clamp(min=free_nats)
        return each if reduction == "none" else each.mean() if reduction == "mean" else each.sum()
    if reduction == "none":
        raise ValueError(
            "floor='variable' is under the mean of the batch, and reduction='none' asks for every example; "
            "use floor='example', or reduction='mean'."
        )
    variables = kl.flatten(0, -2) if kl.dim() > 1 else kl[None]
    mean = variables.mean(0).clamp(min=free_nats).sum()
    return mean if reduction == "mean" else mean * len(variables)
