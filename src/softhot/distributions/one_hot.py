"""The one-hot categorical distribution."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from softhot.distributions.parameters import Categorical
from softhot.functional.sampling import one_hot_sample
from softhot.kernels.sampler import largest

__all__ = ["OneHotCategorical"]


class OneHotCategorical(Categorical):
    r"""One-hot vectors z with :math:`P(z_k = 1) = p_k`.

    As :class:`torch.distributions.OneHotCategorical`, with a generator, and with logits of -inf in entropy and KL.

    Arguments:
        probs: probabilities of shape (\*batch, K), of any normalisation.
        logits: unnormalised log-probabilities of that shape; -inf marks an impossible class.

    Raises:
        ValueError: If not exactly one of probs and logits is given, or it holds NaN, or probs are negative, or a row of
            them sums to zero or to infinity.

    Example:
        >>> import torch, softhot
        >>> softhot.distributions.OneHotCategorical(probs=torch.tensor([0.5, 0.25, 0.125, 0.125])).entropy()
        tensor(1.2130)
    """

    support = constraints.one_hot
    has_enumerate_support = True

    @property
    def mean(self) -> Float[Tensor, "*batch K"]:
        """The probabilities."""
        return self.probs

    @property
    def variance(self) -> Float[Tensor, "*batch K"]:
        """p (1 - p)."""
        return self.probs * (1 - self.probs)

    @property
    def mode(self) -> Float[Tensor, "*batch K"]:
        """The one-hot vector of the likeliest class."""
        return largest(self.probs)

    def sample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch K"]:
        """One-hot draws of shape (*sample_shape, *batch, K), without gradient."""
        return one_hot_sample(self._expanded(sample_shape).detach(), generator=generator)

    def log_prob(self, value: Float[Tensor, "*value K"]) -> Float[Tensor, "*value_batch"]:
        """The log-probability of one-hot vectors."""
        if self._validate_args:
            self._validate_sample(value)
        value, logits = torch.broadcast_tensors(value, self.logits)
        log_prob: Tensor = (value * logits.masked_fill(value == 0, 0.0)).sum(-1)
        return log_prob

    def entropy(self) -> Float[Tensor, "*batch"]:
        r""":math:`-\sum_k p_k \log p_k`, in nats."""
        possible = self.logits > -math.inf
        return -(self.probs * torch.where(possible, self.logits, 0.0)).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Float[Tensor, "K *batch K"]:
        """The K one-hot vectors, of shape (K, *batch, K), or (K, 1, ..., K) without expand."""
        classes = self.event_shape[0]
        identity = torch.eye(classes, dtype=self.logits.dtype, device=self.logits.device)
        values = identity.reshape((classes,) + (1,) * len(self.batch_shape) + (classes,))
        return values.expand((classes, *self.batch_shape, classes)) if expand else values
