"""What training climbs: an estimator of the expected log-likelihood, minus a KL term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.bounds.reported import Posterior
from softhot.distributions import MixtureOfDiscreteFlows
from softhot.estimators import Estimator, Integrand
from softhot.kl import Categorical, Term

__all__ = ["Objective", "incompatible"]


@dataclass(frozen=True)
class Objective:
    """An estimator of the expected log-likelihood, minus a KL term: to be maximised.

    Arguments:
        estimator: how to differentiate through the sample.
        term: the KL term, taken at the estimator's temperature; a Monte Carlo term at the estimator's own sample.

    Raises:
        ValueError: If the two do not go together, with the reason of :func:`incompatible`.

    Example:
        >>> import torch, softhot
        >>> objective = softhot.bounds.Objective(softhot.estimators.ReinMax())
        >>> objective.bounds
        'the discrete log-likelihood'
        >>> logits, prior = torch.zeros(5, 3, 4), torch.zeros(3, 4)
        >>> objective(lambda z: -z[..., 0].sum(-1), logits, prior).shape
        torch.Size([5])
    """

    estimator: Estimator
    term: Term = field(default_factory=Categorical)

    def __post_init__(self) -> None:
        reason = incompatible(self.estimator, self.term)
        if reason:
            raise ValueError(f"{type(self.estimator).__name__} and {self.term} do not go together: {reason}.")

    def posterior(self, logits: Float[Tensor, "*logits N K"]) -> Posterior:
        """What the logits say of q, for :func:`elbo` and :func:`iwae`: themselves, or the mixture of B flows."""
        return MixtureOfDiscreteFlows.of_deltas(logits) if self.estimator.mixture else logits

    @property
    def bounds(self) -> str | None:
        """What the expected value of the objective is a lower bound of; None where it bounds nothing."""
        return self.term.bounds[self.estimator.sample]

    def __call__(
        self,
        log_likelihood: Integrand,
        logits: Float[Tensor, "*logits N K"],
        prior_logits: Float[Tensor, "N K"],
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch"]:
        """The objective in nats per element of the batch, with the estimator's gradient."""
        return self._value(self.estimator, log_likelihood, logits, prior_logits, generator)

    def learn(
        self,
        log_likelihood: Integrand,
        logits: Float[Tensor, "*logits N K"],
        prior_logits: Float[Tensor, "N K"],
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch"]:
        """The objective, as from a call; what the estimator learns gets a slope, as from its own ``learn``.

        Example:
            >>> import torch, softhot
            >>> estimator = softhot.estimators.Rebar()
            >>> objective = softhot.bounds.Objective(estimator)
            >>> objective.learn(lambda z: -z[..., 0].sum(-1), torch.zeros(5, 3, 4), torch.zeros(3, 4)).shape
            torch.Size([5])
            >>> estimator.relaxation.eta.grad is None
            False
        """
        return self._value(self.estimator.learn, log_likelihood, logits, prior_logits, generator)

    def with_loss(
        self,
        log_likelihood: Integrand,
        logits: Float[Tensor, "*logits N K"],
        prior_logits: Float[Tensor, "N K"],
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, ""]]:
        """The objective, as from a call, and the loss of what the estimator learns, as from its own ``with_loss``.

        Example:
            >>> import torch, softhot
            >>> objective = softhot.bounds.Objective(softhot.estimators.Rebar())
            >>> value, loss = objective.with_loss(lambda z: -z[..., 0].sum(-1), torch.zeros(5, 3, 4), torch.zeros(3, 4))
            >>> value.shape, loss.shape
            (torch.Size([5]), torch.Size([]))
        """
        losses = []

        def estimate(f: Integrand, logits: Tensor, *, generator: torch.Generator | None) -> Tensor:
            value, loss = self.estimator.with_loss(f, logits, generator=generator)
            losses.append(loss)
            return value

        return self._value(estimate, log_likelihood, logits, prior_logits, generator), losses[0]

    def _value(
        self,
        estimate: Callable[..., Tensor],
        log_likelihood: Integrand,
        logits: Tensor,
        prior_logits: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        temperature = getattr(self.estimator, "temperature", None) if self.estimator.relaxed else None
        if self.term.exact:
            divergence = self.term(logits, prior_logits, temperature).sum(-1)
            return estimate(log_likelihood, logits, generator=generator) - divergence

        def integrand(z: Tensor) -> Tensor:
            return log_likelihood(z) - self.term.integrand(z, logits, prior_logits, self.term.checked(temperature)).sum(
                -1
            )

        return estimate(integrand, logits, generator=generator)


def incompatible(estimator: Estimator, term: Term, latents: int = 0, classes: int = 0) -> str | None:
    """Why an estimator and a term do not make an objective, for N latent variables of K classes; None where they do.

    Example:
        >>> import softhot
        >>> incompatible(softhot.estimators.ReinMax(), softhot.kl.Relaxed())
        'the term has a temperature, and the estimator draws no relaxed variable that has one'
    """
    if estimator.multi_sample:
        return "the estimator's value is a bound of several draws, whose log weights hold the divergence already"
    if estimator.mixture != term.mixture:
        kinds = [f"{'a mixture of flows' if one.mixture else 'independent variables'}" for one in (term, estimator)]
        return f"the term is that of {kinds[0]}, and the estimator's posterior is {kinds[1]}"
    if term.temperate and not estimator.relaxed:
        return "the term has a temperature, and the estimator draws no relaxed variable that has one"
    if term.temperate and term.noise != estimator.noise:
        return f"the term is of a variable of {term.noise} noise, and the estimator's is of {estimator.noise} noise"
    if term.temperate and term.settings != estimator.settings:
        theirs, ours = (" and ".join(f"{name} {x:g}" for name, x in one.settings.items()) for one in (term, estimator))
        return f"the term is of {theirs}, and the estimator's is of {ours}"
    if not term.exact and term.sample == "soft" and estimator.sample == "hard":
        return "the term is a function of the relaxed sample, and the estimator's is hard; use the term's exact form"
    if not term.exact and term.sample == "hard" and estimator.sample == "soft":
        return "the term is a function of the hard sample, and the estimator's is relaxed; use the categorical term"
    return estimator.refusal(latents, classes) if classes else None
