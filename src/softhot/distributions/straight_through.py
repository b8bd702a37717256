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

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from softhot.distributions.one_hot import OneHotCategorical
from softhot.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from softhot.functional.kept import Kept
from softhot.functional.sampling import with_gradient_of
from softhot.kernels.sampler import largest

__all__ = [
    "OneHotCategoricalStraightThrough",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategoricalStraightThrough",
]

_SOFT = Kept[Tensor]()  # the relaxed sample of every hard one


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
        z = self.sample(sample_shape, generator=generator)
        return with_gradient_of(z, self.probs.expand(z.shape))


class _Hard(Distribution, ABC):
    """The hard samples of the relaxed variable that comes next among the bases; abstract."""

    probs: Tensor

    @abstractmethod
    def _hardened(self, soft: Tensor) -> Tensor:
        """What a relaxed sample becomes."""

    @property
    def mean(self) -> Tensor:
        """The probabilities."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """p (1 - p)."""
        return self.probs * (1 - self.probs)

    def rsample(self, sample_shape: Any = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Draws of shape (*sample_shape, *batch, *event), hard ones, with the gradient of the relaxed ones."""
        soft = super().rsample(sample_shape, generator=generator)  # type: ignore[call-arg]
        sample = with_gradient_of(self._hardened(soft), soft)
        _SOFT.keep(sample, soft)
        return sample

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density of the relaxed variable, of a draw that of its relaxed one."""
        soft = _SOFT.of(value)
        return super().log_prob(value if soft is None else soft)


class RelaxedOneHotCategoricalStraightThrough(_Hard, RelaxedOneHotCategorical):
    r"""One-hot vectors of the largest entry of a relaxed sample, with its gradient.

    As Pyro's distribution of this name. ``log_prob`` of such a vector is the log-density of the relaxed sample that it
    was made of, which is kept for as long as the vector lives and is not changed, and not known of a copy, nor inside
    torch.compile.
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

    def _hardened(self, soft: Tensor) -> Tensor:
        return largest(soft.detach())


class RelaxedBernoulliStraightThrough(_Hard, RelaxedBernoulli):
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

    def _hardened(self, soft: Tensor) -> Tensor:
        return soft.detach().round()
