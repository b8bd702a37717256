r"""A mixture of discrete flows: a proper distribution over one-hot vectors with differentiable draws.

Component b of B draws u from a base, a product of categorical variables, and passes it through an invertible map
:math:`T_b` of one-hot vectors, so that a draw is a function of the parameters of the flow:

.. math:: q(z) = \sum_b w_b\, p_b\big(T_b^{-1}(z)\big), \qquad p_b(u) = \prod_n \pi_{b, n, u_n}

This is the joint mixture over all N variables. The product of the N mixtures of each variable alone is another
distribution: with deltas as bases the entropy of q is at most :math:`\log B`, and that of the product up to N times as
much. Nothing is relaxed: probabilities sum to one, and the map has no Jacobian to account for.

The gradient to the flow is straight through. In that of :math:`\log q` also components count that miss z in a single
variable: they have no mass there, and a slope. In that of the entropy, and of :meth:`rsample_and_log_prob`, the
component that a draw came from has none: whatever its flow, :math:`T_b^{-1}(T_b(u)) = u`. The slope of
:math:`\log q` at a draw would have every component run from where it is itself.

Reference:
    Kuśmierczyk, Klami (2020), "Reliable categorical variational inference with mixture of discrete normalizing flows".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Transform
from torch.nn.functional import one_hot

from softhot.distributions.flows import Shift, one_hots, separable
from softhot.distributions.one_hot import OneHotCategorical
from softhot.distributions.parameters import begin, check, logit_vector
from softhot.functional.check import variables, wide
from softhot.functional.mass import log_mass
from softhot.functional.sampling import one_hot_sample, with_gradient_of
from softhot.kernels.routes import unseen
from softhot.kernels.streams import drawn

__all__ = ["MixtureOfDiscreteFlows"]


class MixtureOfDiscreteFlows(Distribution):
    r"""N one-hot variables of K classes, drawn by one of B flows.

    Arguments:
        base_logits: of the bases, of shape (\*batch, B, N, K), as those of :mod:`softhot.distributions.bases`; -inf
            excludes a class, and with one class left everywhere a component is one configuration.
        flow: maps u of shape (\*batch, B, N, K), such as :class:`Shift` with logits of that shape.
        mixture_logits: of the components, of shape (\*batch, B); all alike if not given.
        limit: the largest number of configurations of the bases, of all components together, that exact values are
            summed over.

    Raises:
        ValueError: If logits have NaN or nothing that is possible, or shapes do not go together.

    Example:
        >>> import torch, softhot
        >>> from softhot.distributions import MixtureOfDiscreteFlows, Shift, bases
        >>> two = Shift(torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]))  # to (1, 0), and nowhere
        >>> q = MixtureOfDiscreteFlows(bases.delta(torch.zeros(2, 2, dtype=torch.long), classes=2), two)
        >>> q.log_prob(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).exp(), q.entropy()
        (tensor(0.5000), tensor(0.6931))
    """

    arg_constraints = {"base_logits": logit_vector, "mixture_logits": logit_vector}  # noqa: RUF012 - torch's own spelling
    support = one_hots
    has_rsample = True

    def __init__(
        self,
        base_logits: Float[Tensor, "*#batch B N K"],
        flow: Transform,
        mixture_logits: Float[Tensor, "*#batch B"] | None = None,
        validate_args: bool | None = None,
        *,
        limit: int = 2**16,
    ) -> None:
        variables("base_logits", base_logits)
        shape = flow.forward_shape(base_logits.shape)
        if base_logits.dim() < 3 or shape[-3:] != base_logits.shape[-3:]:
            raise ValueError(
                f"base_logits of shape {tuple(base_logits.shape)} and a flow to {tuple(shape)} do not describe B "
                "components of N variables of K classes; use base_logits of shape (*batch, B, N, K)."
            )
        if mixture_logits is None:
            mixture_logits = base_logits.new_zeros(base_logits.shape[-3])
        if mixture_logits.dim() < 1 or mixture_logits.shape[-1] != base_logits.shape[-3]:
            raise ValueError(
                f"mixture_logits of shape {tuple(mixture_logits.shape)} do not weigh {base_logits.shape[-3]} "
                f"components; use torch.zeros({base_logits.shape[-3]}) for equal weights."
            )
        if validate_args if validate_args is not None else Distribution._validate_args:
            check(base_logits, "base_logits")
            check(mixture_logits, "mixture_logits")
        batch = torch.broadcast_shapes(shape[:-3], mixture_logits.shape[:-1])
        self.dtype = base_logits.dtype
        self.base_logits = wide(base_logits).log_softmax(-1).expand(batch + shape[-3:])
        self.mixture_logits = wide(mixture_logits).log_softmax(-1).expand(batch + shape[-3:-2])
        self.flow, self.limit = flow, limit
        begin(self, batch, shape[-2:], validate_args)

    @classmethod
    def of_deltas(
        cls,
        logits: Float[Tensor, "*batch B N K"],
        temperature: float | Tensor = 1.0,
        mixture_logits: Float[Tensor, "*#batch B"] | None = None,
        cardinalities: Sequence[int] | None = None,
    ) -> MixtureOfDiscreteFlows:
        """B configurations, the likeliest classes of logits: deltas at class 0, and a shift.

        Example:
            >>> import torch
            >>> MixtureOfDiscreteFlows.of_deltas(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])).mean
            tensor([[0.5000, 0.5000]])
        """
        flow = Shift(logits, temperature, cardinalities)
        base = torch.where(torch.arange(logits.shape[-1], device=logits.device) > 0, -math.inf, 0.0)
        return cls(base.to(logits.dtype).expand(logits.shape[-3:]), flow, mixture_logits)

    @property
    def components(self) -> int:
        """The number B."""
        return self.mixture_logits.shape[-1]

    def expand(self, batch_shape: Any, _instance: Any = None) -> MixtureOfDiscreteFlows:
        """The same distribution with its batch expanded to a shape."""
        batch = torch.Size(batch_shape)
        return MixtureOfDiscreteFlows(
            self.base_logits.to(self.dtype).expand(batch + self.base_logits.shape[-3:]),
            self.flow,
            self.mixture_logits,
            self.__dict__.get("_validate_args"),
            limit=self.limit,
        )

    def rsample(
        self, sample_shape: Any = (), *, stratified: bool = False, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch N K"]:
        """One-hot draws of shape (*sample_shape, *batch, N, K), with the straight-through gradient to the flow.

        The choice of the component and the draw from its base have no gradient; :meth:`expectation` has one.

        Arguments:
            sample_shape: of the draws.
            stratified: spread the draws over the components, as evenly as their weights allow: each draw alone has
                the law of q, but they are not independent, and their mean varies less.
            generator: the source of randomness; torch's default generator if not given.
        """
        shape = torch.Size(sample_shape)
        return self._draw(self._choose(shape.numel(), stratified, generator), shape, generator).to(self.dtype)

    def rsample_and_log_prob(
        self, sample_shape: Any = (), *, stratified: bool = False, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "*sample_batch N K"], Float[Tensor, "*sample_batch"]]:
        """Draws, and their log-probability with the gradient of those that know their component; see the module.

        Arguments as in :meth:`rsample`.
        """
        shape = torch.Size(sample_shape)
        chosen = self._choose(shape.numel(), stratified, generator)
        z = self._draw(chosen, shape, generator)
        log_q = self._log_prob(z, chosen.reshape(self._extended_shape(shape)[:-2] + chosen.shape[-1:]))
        return z.to(self.dtype), log_q.to(self.dtype)

    def sample(
        self, sample_shape: Any = (), *, stratified: bool = False, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample_batch N K"]:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, stratified=stratified, generator=generator)

    def log_prob(self, value: Float[Tensor, "*value N K"]) -> Float[Tensor, "*value_batch"]:
        """The logarithm of the joint probability of all N variables; -inf where no component goes."""
        if self._validate_args and not unseen(value):
            self._validate_sample(value)
        return self._log_prob(wide(value)).to(value.dtype)

    def expectation(self, function: Callable[[Tensor], Tensor]) -> Float[Tensor, "*batch"]:
        r"""The exact :math:`E_q[f(z)]`, a sum over the components and the configurations of their bases.

        With the gradient to the weights and the bases, and the straight-through one to the flow.

        Arguments:
            function: maps z of shape (\*sample, \*batch, N, K), in the dtype of draws, to (\*sample, \*batch).

        Raises:
            ValueError: If there are more configurations than the limit.
        """
        z, weight = self.points()
        value = function(z.to(self.dtype))
        total: Tensor = (weight * torch.where(weight > 0, value, 0.0)).sum(0).to(value.dtype)
        return total

    def entropy(self) -> Float[Tensor, "*batch"]:
        """The exact entropy in nats; an error where :meth:`expectation` has one."""
        z, weight = self.points()
        own = torch.eye(self.components, dtype=torch.long, device=z.device).repeat(len(z) // self.components, 1)
        log_q = self._log_prob(z, own.reshape(-1, *(1,) * len(self.batch_shape), self.components))
        return -(weight * log_q.masked_fill(weight == 0, 0.0)).sum(0).to(self.dtype)

    @property
    def mean(self) -> Float[Tensor, "*batch N K"]:
        """The exact probability of each class of each variable; an error where :meth:`expectation` has one."""
        z, weight = self.points()
        return (weight[..., None, None] * z).sum(0).to(self.dtype)

    @property
    def variance(self) -> Float[Tensor, "*batch N K"]:
        """The exact variance of each entry; an error where :meth:`expectation` has one."""
        z, weight = self.points()
        taken = weight[..., None, None] * z
        other = weight[..., None, None] - taken
        return (taken.sum(0) * other.sum(0)).to(self.dtype)

    def product_of_marginals(self) -> Independent:  # type: ignore[type-arg]  # not generic in torch 2.6
        """The product of the N mixtures of each variable alone: not q, and of no smaller entropy.

        Some code scores draws of q by this product. The entropy it then reports is not that of what it draws.
        """
        return Independent(OneHotCategorical(probs=self.mean, validate_args=False), 1)

    def points(self) -> tuple[Float[Tensor, "points *batch N K"], Float[Tensor, "points *batch"]]:
        """Where each component takes each configuration of its base, and the probabilities; points may coincide.

        Raises:
            ValueError: If there are more than the limit.
        """
        possible = (self.base_logits > -math.inf).sum(-1)
        counts = possible.reshape(-1, possible.shape[-1]).amax(0).tolist() if possible.numel() else [1]
        total = math.prod(counts) * self.components
        if total > self.limit:
            raise ValueError(
                f"an exact value is a sum over {total:,} configurations of {self.components} components, more than the "
                f"limit of {self.limit:,}; use the mean over rsample(..., stratified=True), or a larger limit."
            )
        ranks = torch.cartesian_prod(*(torch.arange(count) for count in counts)).reshape(-1, len(counts))
        likeliest = self.base_logits.sort(dim=-1, descending=True, stable=True).indices
        order = likeliest.expand(len(ranks), *likeliest.shape)
        rank = ranks.to(order.device).reshape(-1, *(1,) * (order.dim() - 3), len(counts), 1)
        chosen = order.gather(-1, rank.expand(*order.shape[:-1], 1))
        log_weight = self.base_logits.expand(order.shape).gather(-1, chosen).squeeze(-1).sum(-1) + self.mixture_logits
        z = self.flow(one_hot(chosen.squeeze(-1), order.shape[-1]).to(self.base_logits.dtype))
        return z.movedim(-3, 1).flatten(0, 1), log_weight.exp().movedim(-1, 1).flatten(0, 1)

    def _log_prob(self, value: Tensor, own: Tensor | None = None) -> Tensor:
        """The log-probability, with no slope to the flow through the component that a value came from."""
        mass, misses, inside = self._separable(value) if separable(self.flow) else self._inverted(value)
        missing = misses.sum(-1, keepdim=True)
        total = mass.sum(-1, keepdim=True)
        component = self.mixture_logits + total.squeeze(-1).masked_fill(missing.squeeze(-1) > 0, -math.inf)
        with torch.no_grad():
            log_q = component.logsumexp(-1)
            norm = log_q.masked_fill(log_q == -math.inf, math.inf)[..., None]
            share = (component - norm).exp()
            # the slope of the product in one of its factors is that of the others, which may be where it is zero
            others = (total - mass).masked_fill(missing > misses, -math.inf)
            slope = ((self.mixture_logits - norm)[..., None] + others).exp().clamp(max=torch.finfo(mass.dtype).max)
        if own is not None:
            slope = slope.masked_fill(own[..., None] > 0, 0.0)
        weights = self.mixture_logits.masked_fill(self.mixture_logits == -math.inf, 0.0)
        surrogate = (share * (weights + total.squeeze(-1))).sum(-1) + (slope * inside).sum((-2, -1))
        return with_gradient_of(log_q, surrogate)

    # of each variable of each component, of shape (*sample, *batch, B, N): the log-probability, zero where there is
    # none; whether there is none; and the probability, with a slope to the flow and the value

    def _inverted(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u = self.flow.inv(value.unsqueeze(-3))
        mass = log_mass(u.detach(), self.base_logits)
        misses = mass == -math.inf
        return mass.masked_fill(misses, 0.0), misses, (u * self.base_logits.detach().exp()).sum(-1)

    def _separable(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same by moving the probabilities forward, once for all values, in place of every value back."""
        with torch.no_grad():
            classes = torch.arange(self.event_shape[-1], dtype=value.dtype, device=value.device)
            origin = self.flow(classes.expand(self.base_logits.shape)).long()
        log_p = self.base_logits.gather(-1, origin)
        never = log_p == -math.inf
        each = "...nk,...bnk->...bn"
        mass = torch.einsum(each, value.detach(), log_p.masked_fill(never, 0.0).to(value.dtype))
        misses = torch.einsum(each, value.detach(), never.to(value.dtype)) > 0
        moved = self.flow(self.base_logits.detach().exp()).to(value.dtype)
        return mass, misses, torch.einsum(each, value, moved)

    def _choose(self, draws: int, stratified: bool, generator: torch.Generator | None) -> Tensor:
        """The component of each draw, one-hot, of shape (draws, *batch, B)."""
        if stratified:
            return self._strata(draws, generator)
        logits = self.mixture_logits.detach()
        return one_hot_sample(logits.expand(draws, *logits.shape), generator=generator).long()

    def _strata(self, draws: int, generator: torch.Generator | None) -> Tensor:
        """Systematic draws of the components, in a random order."""
        edges = self.mixture_logits.detach().double().exp().cumsum(-1)
        edges = edges / edges[..., -1:]

        def uniform(*shape: int) -> Tensor:
            options: dict[str, Any] = {"dtype": torch.float64, "device": edges.device}
            return drawn(lambda own: torch.rand(shape, generator=own, **options), generator)

        start = uniform(*self.batch_shape, 1)
        place = ((torch.arange(draws, device=edges.device) + start) / max(draws, 1)).clamp(max=1 - 2**-53)
        found = torch.searchsorted(edges.contiguous(), place, right=True)
        mixed = found.gather(-1, uniform(*found.shape).argsort(-1))
        return one_hot(mixed.movedim(-1, 0), self.components)

    def _draw(self, chosen: Tensor, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """A draw of each component that is chosen; of shape (draws, *batch, B), in one-hot vectors."""
        # a flow is of all components at once: as many rounds of it as the component of most draws needs
        earlier = ((chosen.cumsum(0) - 1) * chosen).sum(-1)
        rounds = len(earlier) if unseen(earlier) else int(earlier.max()) + 1 if earlier.numel() else 1
        base = self.base_logits.detach().expand(rounds, *self.base_logits.shape)
        z: Tensor = self.flow(one_hot_sample(base, generator=generator))
        # one index for each dimension of the batch, that broadcast to (draws, *batch)
        batch = [torch.arange(size, device=z.device) for size in self.batch_shape]
        batch = [index.reshape(-1, *(1,) * (len(batch) - i - 1)) for i, index in enumerate(batch)]
        picked = z[(earlier, *batch, chosen.argmax(-1))]
        return picked.reshape(self._extended_shape(shape))
