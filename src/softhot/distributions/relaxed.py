r"""Relaxed one-hot distributions (Concrete, Gumbel-softmax): on the simplex, in log space, and binary.

With Gumbel noise G, logits :math:`\ell` and temperature t,

.. math:: z = \operatorname{softmax}((\ell + G) / t)

Densities are with respect to Lebesgue measure of K - 1 coordinates of the simplex; those of the log-space variable,
:math:`\log z`, with respect to that of its image. The mass of the largest entry is that of the categorical variable:
:math:`P(\arg\max_k z_k = k) = \operatorname{softmax}(\ell)_k` at every temperature; the mean is not.

References:
    Maddison, Mnih, Teh (2017), "The Concrete distribution".
    Jang, Gu, Poole (2017), "Categorical reparameterization with Gumbel-softmax".
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import lazy_property

from softhot.distributions.logits import log_odds, two_logits
from softhot.distributions.parameters import Temperate, begin, log_simplex, simplex
from softhot.functional.check import positive
from softhot.functional.choice import EULER, expected_max
from softhot.functional.log_space import log_of, log_rest_of, remember_log
from softhot.functional.relaxed import relaxed_entropy, relaxed_log_prob, relaxed_mean, relaxed_variance
from softhot.functional.sampling import gumbel_log_softmax, relaxed_sample
from softhot.kernels.temper import tempered

__all__ = ["ExpRelaxedOneHotCategorical", "RelaxedBernoulli", "RelaxedOneHotCategorical"]


class ExpRelaxedOneHotCategorical(Temperate):
    r"""The logarithm of a relaxed one-hot variable (ExpConcrete).

    As ``ExpRelaxedCategorical`` of :mod:`torch.distributions.relaxed_categorical`, with a generator and exact values.

    Arguments:
        temperature: t > 0, a number or a tensor that broadcasts with the batch; a column of shape (\*batch, 1), which
            torch needs, is the same.
        probs: probabilities of shape (\*batch, K), of any normalisation.
        logits: unnormalised log-probabilities of that shape; -inf marks an impossible class.

    Raises:
        ValueError: If the temperature is not positive, or for probs and logits as in :class:`OneHotCategorical`.

    Example:
        >>> import torch, softhot
        >>> softhot.distributions.ExpRelaxedOneHotCategorical(1.0, logits=torch.zeros(3)).mean
        tensor([-1.5626, -1.5626, -1.5626])
    """

    support = log_simplex
    has_rsample = True

    @property
    def mean(self) -> Float[Tensor, "*batch K"]:
        r"""The exact :math:`E[\log z_k] = (\ell_k + \gamma) / t - E[\log \sum_j e^{(\ell_j + G_j) / t}]`."""
        largest = expected_max(self.logits, self.temperature)[..., None]
        return tempered(self.logits + EULER - largest, self.temperature) + EULER

    @property
    def mode(self) -> Float[Tensor, "*batch K"]:
        r"""The point of the largest density, :math:`\log\operatorname{softmax}(\ell / t)`."""
        return tempered(self.logits, self.temperature).log_softmax(-1)

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch K"]:
        """Draws of shape (*sample_shape, *batch, K), differentiable in logits and temperature."""
        logits = self._expanded(sample_shape)
        return gumbel_log_softmax(logits, self._heat, generator=generator).to(logits.dtype)

    def sample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch K"]:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Float[Tensor, "*value K"]) -> Float[Tensor, "*value_batch"]:
        r"""The log-density at log z: that of the simplex plus :math:`\sum_k \log z_k`."""
        if self._validate_args:
            self._validate_sample(value)
        log_sample = value.to(torch.promote_types(value.dtype, torch.float32))
        possible = (self.logits > -math.inf) & (log_sample > -math.inf)
        jacobian = torch.where(possible, log_sample, 0.0).sum(-1)
        boundary = ((self.logits > -math.inf) & (log_sample == -math.inf)).any(-1)
        density = relaxed_log_prob(log_sample, self.logits, self._heat) + jacobian
        return density.masked_fill(boundary, -math.inf).to(value.dtype)

    def entropy(self) -> Float[Tensor, "*batch"]:
        r"""The exact entropy in nats, :math:`K (\gamma + \psi(K)) - \log\Gamma(K) - (K - 1) \log t`: no logits."""
        count = (self.logits != -math.inf).sum(-1).to(torch.float64)
        log_t = self.temperature.to(torch.float64).log()
        value = count * (EULER + torch.digamma(count)) - torch.lgamma(count) - (count - 1) * log_t
        return value.to(self.logits.dtype)


class RelaxedOneHotCategorical(Temperate):
    r"""A relaxed one-hot variable z on the simplex (Concrete, Gumbel-softmax).

    As :class:`torch.distributions.RelaxedOneHotCategorical`, with a generator and exact mean, variance and entropy.
    ``log_prob`` of its own samples is finite at every temperature: they keep their logarithm (but not their slices).

    Arguments:
        temperature: t > 0, a number or a tensor that broadcasts with the batch; a column of shape (\*batch, 1), which
            torch needs, is the same.
        probs: probabilities of shape (\*batch, K), of any normalisation.
        logits: unnormalised log-probabilities of that shape; -inf marks an impossible class.

    Raises:
        ValueError: If the temperature is not positive, or for probs and logits as in :class:`OneHotCategorical`.

    Example:
        >>> import torch, softhot
        >>> q = softhot.distributions.RelaxedOneHotCategorical(1.0, probs=torch.tensor([0.5, 0.25, 0.125, 0.125]))
        >>> q.mean, q.entropy()
        (tensor([0.4205, 0.2609, 0.1593, 0.1593]), tensor(-2.7527))
    """

    support = simplex
    has_rsample = True

    @property
    def mean(self) -> Float[Tensor, "*batch K"]:
        """The exact mean: see :func:`softhot.functional.relaxed_mean`."""
        return relaxed_mean(self.logits, self.temperature)

    @property
    def variance(self) -> Float[Tensor, "*batch K"]:
        """The exact variance of each entry: see :func:`softhot.functional.relaxed_variance`."""
        return relaxed_variance(self.logits, self.temperature)

    @property
    def mode(self) -> Tensor:
        """Not defined: at t <= 1 / (K - 1) the density is unbounded at every vertex."""
        raise NotImplementedError(
            "the density on the simplex has no mode in closed form, and none at all at a low temperature; use "
            "ExpRelaxedOneHotCategorical(...).mode.exp(), or OneHotCategorical(...).mode for the likeliest class."
        )

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch K"]:
        """Draws of shape (*sample_shape, *batch, K), differentiable in logits and temperature."""
        return relaxed_sample(self._expanded(sample_shape), self._heat, generator=generator)

    def sample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch K"]:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Float[Tensor, "*value K"]) -> Float[Tensor, "*value_batch"]:
        """The log-density on the simplex: see :func:`softhot.functional.relaxed_log_prob`."""
        if self._validate_args:
            self._validate_sample(value)
        return relaxed_log_prob(log_of(value), self.logits, self._heat).to(value.dtype)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """The exact entropy in nats: see :func:`softhot.functional.relaxed_entropy`."""
        return relaxed_entropy(self.logits, self.temperature)


class RelaxedBernoulli(Distribution):
    r"""A relaxed Bernoulli variable (binary Concrete), :math:`z = \operatorname{sigmoid}((\ell + \Lambda) / t)`.

    :math:`\Lambda` is logistic noise.

    As :class:`torch.distributions.RelaxedBernoulli`, with a generator and exact mean, variance and entropy. It is the
    first entry of a relaxed one-hot variable with logits :math:`(\ell, 0)`.

    Arguments:
        temperature: t > 0, a number or a tensor that broadcasts with the batch.
        probs: P(z > 1/2), of shape (\*batch).
        logits: log(probs / (1 - probs)).

    Raises:
        ValueError: If not exactly one of probs and logits is given, or a value is out of range.

    Example:
        >>> import torch, softhot
        >>> softhot.distributions.RelaxedBernoulli(1.0, probs=torch.tensor(0.9)).mean
        tensor(0.8160)
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}  # noqa: RUF012
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        temperature: float | Tensor,
        probs: float | Tensor | None = None,
        logits: float | Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if (probs is None) == (logits is None):
            raise ValueError(
                f"RelaxedBernoulli takes either probs or logits, not {'neither' if probs is None else 'both'}; "
                "use RelaxedBernoulli(temperature, logits=logits)."
            )
        name, value = ("logits", logits) if probs is None else ("probs", probs)
        given = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.get_default_dtype())
        if not given.is_floating_point():
            raise ValueError(f"{name} is a tensor of {given.dtype}, not of floats; use {name}.float().")
        if given.numel() and (Distribution._validate_args if validate_args is None else validate_args):
            low, high = (value.item() for value in given.detach().aminmax())
            if math.isnan(low):
                raise ValueError(f"{name} has NaN; use torch.isfinite({name}) to find where it comes from.")
            if name == "probs" and not (low >= 0 and high <= 1):
                raise ValueError(
                    f"probs holds values from {low:g} to {high:g}, outside [0, 1]; use logits=... for log-odds."
                )
        setattr(self, name, given)
        begin(self, given.shape, torch.Size(), validate_args)
        checked = positive("temperature", temperature, given.shape, column=False)
        self.temperature = checked if isinstance(checked, Tensor) else given.new_tensor(checked)

    @lazy_property
    def logits(self) -> Tensor:
        """Log-odds, of shape (*batch)."""
        return log_odds(self.probs)

    @lazy_property
    def probs(self) -> Tensor:
        """P(z > 1/2), of shape (*batch)."""
        return self.logits.sigmoid()

    @property
    def param_shape(self) -> torch.Size:
        """The shape of logits and of probs."""
        return self.batch_shape

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """The same distribution with its batch expanded to a shape."""
        new: Self = Distribution._get_checked_instance(self, RelaxedBernoulli, _instance)
        new.logits = self.logits.expand(batch_shape)
        begin(new, new.logits.shape, torch.Size(), self.__dict__.get("_validate_args"))
        new.temperature = self.temperature
        return new

    def two_classes(self) -> RelaxedOneHotCategorical:
        """The relaxed one-hot variable (z, 1 - z)."""
        return RelaxedOneHotCategorical(self.temperature, logits=two_logits(self.logits), validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "*batch"]:
        """The exact mean."""
        return self.two_classes().mean[..., 0]

    @property
    def variance(self) -> Float[Tensor, "*batch"]:
        """The exact variance."""
        return self.two_classes().variance[..., 0]

    @property
    def mode(self) -> Tensor:
        """Not defined: at t <= 1 the density is unbounded at 0 and at 1."""
        raise NotImplementedError(
            "the density has no mode in closed form, and none at all at a temperature up to 1; use probs > 0.5."
        )

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch"]:
        """Draws of shape (*sample_shape, *batch), differentiable in logits and temperature."""
        pair = self.two_classes().rsample(sample_shape, generator=generator)
        return remember_log(pair[..., 0], *log_of(pair).unbind(-1))

    def sample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch"]:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Float[Tensor, "*value"]) -> Float[Tensor, "*value_batch"]:
        """The log-density on the unit interval."""
        if self._validate_args:
            self._validate_sample(value)
        pair = torch.stack([log_of(value), log_rest_of(value)], -1)
        two = self.two_classes()
        return relaxed_log_prob(pair, two.logits, self.temperature).to(value.dtype)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """The exact entropy in nats."""
        return self.two_classes().entropy()
