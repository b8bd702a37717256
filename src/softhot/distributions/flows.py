r"""Discrete flows: invertible maps of one-hot vectors, chosen by logits and learned straight through.

A flow permutes the classes of each of N one-hot variables. With u of class j, and modulo the number K of classes,

.. math:: \text{shift:}\ z \text{ of class } j + m, \qquad \text{scale:}\ z \text{ of class } s j
    \text{ with } \gcd(s, K) = 1, \qquad \text{location-scale:}\ z \text{ of class } m + s j

where m and s are the likeliest of their logits. The map is one of a finite set onto itself, so the logarithm of its
Jacobian determinant is zero. The choice has no slope; what stands for one, straight through, is that of
:math:`\operatorname{softmax}(l / t)`, carried through the sum

.. math:: z_k = \sum_a w_a u_{T(k, a)}, \qquad w = \operatorname{one\,hot}(\arg\max l)

over shifts or scales a, with T(k, a) the class that a takes to k. The slope has a temperature t, the value has none.

Variables with fewer classes than K count modulo their own number, the first of the K; the others stay as they are.
Flows are transforms as those of :mod:`torch.distributions.transforms`: ``flow(u)``, ``flow.inv(z)``, and several layers
in a row are a ``ComposeTransform``.

References:
    Tran, Vafa, Agrawal, Dinh, Poole (2019), "Discrete flows: invertible generative models of discrete data".
    Kuśmierczyk, Klami (2020), "Reliable categorical variational inference with mixture of discrete normalizing flows".
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import ComposeTransform, Transform, constraints
from torch.distributions.constraints import Constraint
from torch.nn.functional import one_hot

from softhot.functional.check import positive, sizes, variables, wide
from softhot.functional.sampling import with_gradient_of
from softhot.kernels.constants import kept
from softhot.kernels.routes import broadcast, unseen

__all__ = ["Flow", "Scale", "Shift", "location_scale", "one_hots", "separable"]


class _OneHots(Constraint):
    """Matrices of which every row is one-hot."""

    event_dim = 2
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        checked: Tensor = constraints.one_hot.check(value).all(-1)
        return checked


one_hots = _OneHots()


class Flow(Transform, ABC):
    r"""An invertible map of one-hot vectors of shape (\*batch, N, K); abstract.

    Attributes:
        separable: whether each variable is mapped alone, by a permutation that is a function of no other.
    """

    separable: ClassVar[bool] = False
    domain = one_hots
    codomain = one_hots
    bijective = True

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Zero: a discrete flow moves mass, and never stretches it."""
        return x.new_zeros(torch.broadcast_shapes(x.shape, y.shape)[:-2])


class _Chosen(Flow, ABC):
    """One permutation of the classes for each variable, the likeliest of its logits; abstract."""

    separable: ClassVar[bool] = True

    def __init__(
        self,
        logits: Float[Tensor, "*batch N K"],
        temperature: float | Tensor = 1.0,
        cardinalities: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        variables("logits", logits)
        latents, classes = logits.shape[-2:]
        self.logits, self.temperature = logits, positive("temperature", temperature, torch.Size())
        own = None if cardinalities is None else sizes(cardinalities, latents, classes)
        self._allowed, self._forward, self._backward = (
            table.to(logits.device) for table in _tables(type(self), own or (classes,), classes)
        )
        usable = ((logits > -math.inf) & (logits < math.inf) & self._allowed).any(-1) & ~logits.isnan().any(-1)
        if not unseen(usable) and not usable.all():
            raise ValueError(
                f"{type(self).__name__} has a row of logits with NaN, or without a finite entry for what is allowed; "
                "use torch.isfinite(logits) to find where, and finite logits."
            )

    @property
    def choice(self) -> Float[Tensor, "*batch N K"]:
        """The one-hot choice, with the gradient of softmax(logits / temperature)."""
        logits = wide(self.logits).masked_fill(~self._allowed, -math.inf)
        hard = one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
        return with_gradient_of(hard, (logits / self.temperature).softmax(-1)).to(self.logits.dtype)

    def forward_shape(self, shape: Any) -> torch.Size:
        """The shape of the flow at an input of a shape: that with the batch of the logits."""
        both = broadcast(torch.Size(shape), self.logits.shape)
        if both is None or both[-1] != shape[-1] or both[-1] != self.logits.shape[-1]:
            raise ValueError(
                f"vectors of shape {tuple(shape)} do not go with a flow of logits of shape {tuple(self.logits.shape)}; "
                "use vectors and logits of as many variables and classes, in their last two dimensions."
            )
        return torch.Size(both)

    inverse_shape = forward_shape

    @staticmethod
    @abstractmethod
    def table(own: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which choices each variable has, and T(k, a) of the flow and of its inverse, of shape (N, K) and (N, K, K).

        ``own`` is the number of classes of each variable, ``classes`` is 0 to K - 1.
        """

    def _call(self, x: Tensor) -> Tensor:
        self.forward_shape(x.shape)
        return _permuted(x, self.choice, self._forward)

    def _inverse(self, y: Tensor) -> Tensor:
        self.inverse_shape(y.shape)
        return _permuted(y, self.choice, self._backward)


class Shift(_Chosen):
    r"""A location flow: class j goes to :math:`j + m \bmod K`, with m the likeliest of the logits.

    Arguments:
        logits: of the K shifts, of shape (\*batch, N, K); -inf forbids one.
        temperature: t > 0, of the straight-through gradient.
        cardinalities: the number of classes of each of the N variables; K for all if not given.

    Raises:
        ValueError: If the logits have a row with nothing to choose, or the others are out of range.

    Example:
        >>> import torch
        >>> flow = Shift(torch.tensor([[0.0, 0.0, 1.0]]))  # by two
        >>> z = flow(torch.tensor([[0.0, 1.0, 0.0]]))
        >>> z, flow.inv(z)
        (tensor([[1., 0., 0.]]), tensor([[0., 1., 0.]]))
    """

    @staticmethod
    def table(own: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, m, size = classes[:, None], classes, own[:, None, None]
        return classes < own[:, None], _within(k - m, size, k), _within(k + m, size, k)


class Scale(_Chosen):
    r"""A scale flow: class j goes to :math:`s j \bmod K`, with s the likeliest of the logits that is coprime with K.

    Arguments:
        logits: of the scales 0 to K - 1, of shape (\*batch, N, K); those that are not coprime with K have no part.
        temperature: t > 0, of the straight-through gradient.
        cardinalities: the number of classes of each of the N variables; K for all if not given.

    Raises:
        ValueError: If the logits have a row with nothing to choose, or the others are out of range.

    Example:
        >>> import torch
        >>> Scale(torch.tensor([[0.0, 0.0, 1.0]]))(torch.tensor([[0.0, 1.0, 0.0]]))  # 2 x 1 = 2
        tensor([[0., 0., 1.]])
    """

    @staticmethod
    def table(own: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, s, size = classes[:, None], classes, own[:, None, None]
        coprime = (torch.gcd(classes, own[:, None]) == 1) & (classes < own[:, None])
        product = (s[:, None] * s) % size  # (N, s, r): r is the inverse of s where it is 1
        inverse = (product == 1 % size).int().argmax(-1)[:, None, :]
        return coprime, _within(k * inverse, size, k), _within(k * s, size, k)


def location_scale(
    shift_logits: Float[Tensor, "*batch N K"],
    scale_logits: Float[Tensor, "*batch N K"],
    temperature: float = 1.0,
    cardinalities: Sequence[int] | None = None,
) -> ComposeTransform:
    r"""The flow :math:`j \to m + s j \bmod K`: a :class:`Scale`, then a :class:`Shift`.

    Example:
        >>> import torch
        >>> flow = location_scale(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]))  # 1 + 2 j
        >>> flow(torch.eye(3)[:, None]).argmax(-1).flatten()
        tensor([1, 0, 2])
    """
    return ComposeTransform(
        [Scale(scale_logits, temperature, cardinalities), Shift(shift_logits, temperature, cardinalities)]
    )


def separable(flow: Transform) -> bool:
    """Whether a flow, or each layer of it, maps every variable alone.

    Example:
        >>> import torch
        >>> separable(location_scale(torch.zeros(2, 3), torch.zeros(2, 3)))
        True
    """
    if isinstance(flow, ComposeTransform):
        return all(separable(part) for part in flow.parts)
    return isinstance(flow, Flow) and flow.separable


def _within(moved: Tensor, size: Tensor, stay: Tensor) -> Tensor:
    """The class modulo the size, or the class itself where there is no such class."""
    return torch.where(stay < size, moved % size, stay)


@kept(64)
def _tables(kind: type[_Chosen], own: tuple[int, ...], classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which choices there are, and of the flow and its inverse the 0 or 1 of (class, choice) to class: (N, K K, K)."""
    allowed, there, back = kind.table(torch.tensor(own), torch.arange(classes))
    spread = [one_hot(table, classes).permute(0, 3, 2, 1).flatten(1, 2).float() for table in (there, back)]
    return allowed, spread[0], spread[1]


def _permuted(vectors: Tensor, choice: Tensor, table: Tensor) -> Tensor:
    pairs = (vectors[..., :, None] * choice[..., None, :]).flatten(-2)
    table = table.to(pairs.dtype)
    moved: Tensor = pairs @ table[0] if len(table) == 1 else torch.einsum("...nc,nck->...nk", pairs, table)
    return moved
