r"""Autoregressive discrete flows: the shift and the scale of a variable depend on the variables before it.

.. math:: z_n = m_n(z_{<n}) + s_n(z_{<n})\, u_n \bmod K

with the variables in an order of choice. The inverse, and so a log-probability, takes one pass of the network; the flow
itself, and so a draw, takes N passes, one variable at a time.

References:
    Tran, Vafa, Agrawal, Dinh, Poole (2019), "Discrete flows: invertible generative models of discrete data", 4.1.
    Germain, Gregor, Murray, Larochelle (2015), "MADE: masked autoencoder for distribution estimation".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softhot.distributions.flows import Flow, Scale, Shift

__all__ = ["Autoregressive", "MaskedNetwork"]


class Autoregressive(Flow):
    r"""A location-scale flow whose logits are a function of the variables before.

    Arguments:
        network: maps z of shape (\*batch, N, K) to logits of shape (\*batch, N, K) of shifts, or (\*batch, N, 2 K) of
            shifts and scales; row n must be a function of the rows before it in the order, and of nothing else. Where
            it is not, the flow is not invertible.
        order: the order of the variables, a permutation of 0 to N - 1; as they are if not given.
        temperature: t > 0, of the straight-through gradient.
        cardinalities: the number of classes of each of the N variables; K for all if not given.

    Example:
        >>> import torch
        >>> network = MaskedNetwork(latents=3, classes=4, hidden=8, scales=True)
        >>> flow = Autoregressive(network)
        >>> z = torch.eye(4)[torch.tensor([[0, 1, 2], [3, 3, 0]])]
        >>> torch.equal(flow(flow.inv(z)), z)
        True
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        order: Sequence[int] | None = None,
        temperature: float = 1.0,
        cardinalities: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.temperature, self.cardinalities = network, temperature, cardinalities
        self.order = None if order is None else _permutation(order)

    def _call(self, x: Tensor) -> Tensor:
        z = torch.zeros_like(x)
        for n in range(x.shape[-2]) if self.order is None else self.order:
            row = torch.arange(x.shape[-2], device=x.device)[:, None] == n
            z = torch.where(row, self._shift_after_scale(x, z), z)
        return z

    def _inverse(self, y: Tensor) -> Tensor:
        shift, scale = self._layers(y)
        moved: Tensor = shift.inv(y)
        if scale is not None:
            moved = scale.inv(moved)
        return moved

    def _shift_after_scale(self, x: Tensor, z: Tensor) -> Tensor:
        shift, scale = self._layers(z)
        moved: Tensor = shift(x if scale is None else scale(x))
        return moved

    def _layers(self, z: Tensor) -> tuple[Shift, Scale | None]:
        logits, classes = self.network(z), z.shape[-1]
        if logits.shape[-1] not in (classes, 2 * classes):
            raise ValueError(
                f"the network gives {logits.shape[-1]} logits for a variable of {classes} classes; use {classes} of "
                f"them for shifts, or {2 * classes} for shifts and scales."
            )
        shift = Shift(logits[..., :classes], self.temperature, self.cardinalities)
        if logits.shape[-1] == classes:
            return shift, None
        return shift, Scale(logits[..., classes:], self.temperature, self.cardinalities)


class MaskedNetwork(nn.Module):
    r"""One hidden layer, masked so that row n of the output is a function of the rows before it.

    Each variable has H hidden units, which see the variables before it; row n of the output sees the hidden units of
    the variables up to n.

    Arguments:
        latents, classes: N and K.
        hidden: the number H of hidden units of each variable.
        order: the order of the variables, a permutation of 0 to N - 1; as they are if not given.
        components: the number B of networks side by side, for inputs of shape (\*batch, B, N, K); one for all inputs
            if not given.
        scales: whether to give logits of scales beside those of shifts.

    Example:
        >>> import torch
        >>> MaskedNetwork(latents=3, classes=4, components=5)(torch.zeros(7, 5, 3, 4)).shape
        torch.Size([7, 5, 3, 4])
    """

    before: Tensor
    upto: Tensor

    def __init__(
        self,
        latents: int,
        classes: int,
        hidden: int = 16,
        order: Sequence[int] | None = None,
        components: int | None = None,
        scales: bool = False,
    ) -> None:
        super().__init__()
        place = torch.tensor(_permutation(range(latents) if order is None else order)).argsort()
        if len(place) != latents:
            raise ValueError(f"order={order} does not name each of {latents} variables; use a permutation of them.")
        side = (1,) if components is None else (components,)
        outputs = 2 * classes if scales else classes
        self.register_buffer("before", (place[:, None] < place).float())  # from variable m to variable n
        self.register_buffer("upto", (place[:, None] <= place).float())
        fan = max(latents * classes, 1) ** -0.5
        self.first = nn.Parameter(fan * torch.randn(*side, latents, classes, latents, hidden))
        self.bias = nn.Parameter(torch.zeros(*side, latents, hidden))
        self.second = nn.Parameter(
            max(latents * hidden, 1) ** -0.5 * torch.randn(*side, latents, hidden, latents, outputs)
        )
        self.final = nn.Parameter(torch.randn(*side, latents, outputs))
        self.side = components

    def forward(self, z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*broadcast N outputs"]:
        """The logits at one-hot z."""
        each = z if self.side is not None else z.unsqueeze(-3)
        first, second = (self.first * self.before[:, None, :, None], self.second * self.upto[:, None, :, None])
        seen = torch.einsum("...bnk,bnkmh->...bmh", each, first.to(z.dtype)) + self.bias.to(z.dtype)
        logits = torch.einsum("...bnh,bnhmk->...bmk", seen.relu(), second.to(z.dtype)) + self.final.to(z.dtype)
        return logits if self.side is not None else logits.squeeze(-3)


def _permutation(order: Sequence[int]) -> list[int]:
    found = list(order)
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"order={found} is no permutation of 0 to {len(found) - 1}; use each of them once.")
    return found
