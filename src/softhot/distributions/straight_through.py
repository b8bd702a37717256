r"""Variables whose samples are one-hot, or 0 or 1, and pass a gradient straight through to something soft.

With a hard draw z and a soft vector s that depends on parameters,

.. math:: z + s - \operatorname{stop}(s)

is exactly z, and has the gradient of s: a biased one. The soft vector is the probabilities of z, or the relaxed sample
whose largest entry z marks.

References:
    Bengio, Léonard, Courville (2013), "Estimating or propagating gradients through stochastic neurons".
    Jang, Gu, Poole (2017), "Categorical reparameterization with Gumbel-softmax".
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from softhot.distributions.one_hot import OneHotCategorical
from softhot.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical

__all__ = [
    "OneHotCategoricalStraightThrough",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategoricalStraightThrough",
]

_SOFT = WeakTensorKeyDictionary()  # the relaxed sample of every hard one that lives


class OneHotCategoricalStraightThrough(OneHotCategorical):
    r"""One-hot vectors z with :math:`P(z_k = 1) = p_k`, and samples :math:`z + p - \operatorname{stop}(p)`.

    As :class:`torch.distributions.OneHotCategoricalStraightThrough`, with a generator; all else, the divergence too, is
    that of :class:`OneHotCategorical`. :func:`softhot.functional.straight_through` is the same sample in one step.

    Arguments:
        probs: probabilities of shape (\*batch, K), of any normalisation.
        logits: unnormalised log-probabilities of that shape; -inf marks an impossible class.

    Raises:
        ValueError: As in :class:`OneHotCategorical`.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> z = softhot.distributions.OneHotCategoricalStraightThrough(logits=logits).rsample()
        >>> torch.autograd.grad(z[0], logits)[0]
        tensor([ 0.2500, -0.2500])
    """

    has_rsample = True

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch K"]:
        """One-hot draws of shape (*sample_shape, *batch, K), with the gradient of the probabilities."""
        return _straight_through(self.sample(sample_shape, generator=generator), self.probs)


class RelaxedOneHotCategoricalStraightThrough(RelaxedOneHotCategorical):
    r"""One-hot vectors of the largest entry of a relaxed sample, with its gradient.

    As Pyro's distribution of this name. ``log_prob`` of such a vector is the log-density of the relaxed sample that it
    was made of, which is kept for as long as the vector lives, and is not known of a copy, nor inside torch.compile.
    Entropy and divergence are of the relaxed variable too; mean and variance, p and p (1 - p), of the one-hot vectors.

    Arguments:
        temperature: t > 0, a number or a tensor that broadcasts with the batch; a column of shape (\*batch, 1) too.
        probs: probabilities of shape (\*batch, K), of any normalisation.
        logits: unnormalised log-probabilities of that shape; -inf marks an impossible class.

    Raises:
        ValueError: As in :class:`RelaxedOneHotCategorical`.

    Example:
        >>> import torch, softhot
        >>> q = softhot.distributions.RelaxedOneHotCategoricalStraightThrough(0.5, logits=torch.zeros(2, 3))
        >>> z = q.rsample()
        >>> z.sum(-1), q.log_prob(z).isfinite().all()
        (tensor([1., 1.]), tensor(True))
    """

    @property
    def mean(self) -> Float[Tensor, "*batch K"]:
        """The probabilities."""
        return self.probs

    @property
    def variance(self) -> Float[Tensor, "*batch K"]:
        """p (1 - p)."""
        return self.probs * (1 - self.probs)

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch K"]:
        """One-hot draws of shape (*sample_shape, *batch, K), with the gradient of the relaxed ones."""
        soft = super().rsample(sample_shape, generator=generator)
        return _hardened(torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0), soft)

    def log_prob(self, value: Float[Tensor, "*value K"]) -> Float[Tensor, "*value_batch"]:
        """The log-density on the simplex, of a draw that of its relaxed one."""
        return super().log_prob(_softened(value))


class RelaxedBernoulliStraightThrough(RelaxedBernoulli):
    r"""Zeros and ones, the nearest to a relaxed Bernoulli sample, with its gradient.

    As Pyro's distribution of this name; density, entropy and divergence as in
    :class:`RelaxedOneHotCategoricalStraightThrough`.

    Arguments:
        temperature: t > 0, a number or a tensor that broadcasts with the batch.
        probs: P(z = 1), of shape (\*batch).
        logits: log(probs / (1 - probs)).

    Raises:
        ValueError: As in :class:`RelaxedBernoulli`.

    Example:
        >>> import torch, softhot
        >>> q = softhot.distributions.RelaxedBernoulliStraightThrough(0.5, probs=torch.tensor([0.0, 1.0]))
        >>> q.rsample()
        tensor([0., 1.])
    """

    @property
    def mean(self) -> Float[Tensor, "*batch"]:
        """The probabilities."""
        return self.probs

    @property
    def variance(self) -> Float[Tensor, "*batch"]:
        """p (1 - p)."""
        return self.probs * (1 - self.probs)

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch"]:
        """Draws of shape (*sample_shape, *batch), zeros and ones, with the gradient of the relaxed ones."""
        soft = super().rsample(sample_shape, generator=generator)
        return _hardened(soft.round().detach(), soft)

    def log_prob(self, value: Float[Tensor, "*value"]) -> Float[Tensor, "*value_batch"]:
        """The log-density on the unit interval, of a draw that of its relaxed one."""
        return super().log_prob(_softened(value))


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of the one, with the gradient of the other."""
    return hard + (soft - soft.detach())


def _hardened(hard: Tensor, soft: Tensor) -> Tensor:
    """A hard sample with the gradient of the soft one, which is kept with it."""
    sample = _straight_through(hard, soft)
    if not torch.compiler.is_compiling():
        _SOFT[sample] = soft
    return sample


def _softened(sample: Tensor) -> Tensor:
    """The soft sample that a hard one was made of, or what is given where that is not known."""
    soft: Tensor = sample if torch.compiler.is_compiling() else _SOFT.get(sample, sample)
    return soft
