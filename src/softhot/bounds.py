r"""What is optimised and what is reported.

A model has a likelihood p(x | z) and a prior p(z) over N one-hot variables of K classes, and a posterior q(z | x) of
logits l. Here a model is three tensors and a function: ``log_likelihood`` maps z of shape (\*sample, \*batch, N, K) to
log p(x | z) of shape (\*sample, \*batch). A posterior that is not a product of N variables is a distribution of shape
(\*batch) with events of shape (N, K), such as a mixture of discrete flows, in place of the logits.

An :class:`Objective` is what training climbs: an estimator for the expected log-likelihood and a KL term. Only some
of them are lower bounds, and of different things; each says which. What is *reported* is always of the discrete model,
from hard samples: :func:`elbo`, :func:`iwae` and, where enumeration allows, :func:`log_marginal`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from softhot.distributions import MixtureOfDiscreteFlows, OneHotCategorical, kl_divergence
from softhot.estimators import Estimator, Exact, Integrand, InvertibleGaussian, configurations
from softhot.functional import categorical_kl, log_mass, one_hot_sample
from softhot.kernels.routes import unseen
from softhot.kl import Categorical, Gaussian, Term

__all__ = ["Objective", "Posterior", "elbo", "elbo_and_iwae", "incompatible", "iwae", "log_marginal"]

Posterior = Float[Tensor, "*batch N K"] | MixtureOfDiscreteFlows
"""The logits of independent variables, or a joint law."""


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
    if estimator.classes and classes and estimator.classes != classes:
        return f"the estimator is for {estimator.classes} classes, and there are {classes}"
    if term.temperate and not estimator.relaxed:
        return "the term has a temperature, and the estimator draws no relaxed variable that has one"
    if term.temperate and term.noise != estimator.noise:
        return f"the term is of a variable of {term.noise} noise, and the estimator's is of {estimator.noise} noise"
    if isinstance(term, Gaussian) and isinstance(estimator, InvertibleGaussian):
        theirs, ours = (f"scale {x.scale:g} and delta {x.delta:g}" for x in (term, estimator))
        if ours != theirs:
            return f"the term is of {theirs}, and the estimator's is of {ours}"
    if not term.exact and term.sample == "soft" and estimator.sample == "hard":
        return "the term is a function of the relaxed sample, and the estimator's is hard; use the term's exact form"
    if not term.exact and term.sample == "hard" and estimator.sample == "soft":
        return "the term is a function of the hard sample, and the estimator's is relaxed; use the categorical term"
    if isinstance(estimator, Exact) and classes**latents > estimator.limit:
        return f"enumeration of {classes}^{latents} configurations is beyond the limit of {estimator.limit:,}"
    return None


def elbo(
    log_likelihood: Integrand,
    posterior: Posterior,
    prior_logits: Float[Tensor, "N K"],
    *,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch"]:
    r"""The ELBO of the discrete model: hard samples, categorical divergence.

    .. math:: E_{q(z)}[\log p(x \mid z)] - KL(q(z) \,\|\, p(z)) \le \log p(x)

    Unbiased in the expectation, exact in the divergence; in nats, of shape (\*batch). For reporting: the gradient to
    the logits does not pass through the samples.

    Example:
        >>> import torch
        >>> elbo(lambda z: 0 * z.sum((-1, -2)), torch.zeros(2, 3, 4), torch.zeros(3, 4)).tolist()
        [0.0, 0.0]
    """
    z = _draws(posterior, samples, generator)
    return log_likelihood(z).mean(0) - _divergence(posterior, prior_logits)


def iwae(
    log_likelihood: Integrand,
    posterior: Posterior,
    prior_logits: Float[Tensor, "N K"],
    *,
    samples: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch"]:
    r"""The importance-weighted bound of the discrete model, from hard samples.

    .. math:: E\Big[\log \tfrac{1}{n} \sum_i \tfrac{p(x \mid z_i) p(z_i)}{q(z_i)}\Big] \le \log p(x)

    In nats, of shape (\*batch); tightens as the number of samples n grows.

    Reference:
        Burda, Grosse, Salakhutdinov (2016), "Importance weighted autoencoders", eq. 8.

    Example:
        >>> import torch
        >>> iwae(lambda z: 0 * z.sum((-1, -2)), torch.zeros(2, 3, 4), torch.zeros(3, 4), samples=5).abs().max() < 1e-6
        tensor(True)
    """
    return elbo_and_iwae(log_likelihood, posterior, prior_logits, samples=samples, generator=generator)[1]


def elbo_and_iwae(
    log_likelihood: Integrand,
    posterior: Posterior,
    prior_logits: Float[Tensor, "N K"],
    *,
    samples: int,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Both bounds, :func:`elbo` and :func:`iwae`, from the same hard samples, which are evaluated once.

    Example:
        >>> import torch
        >>> f = lambda z: -z[..., 0].sum(-1)
        >>> low, high = elbo_and_iwae(f, torch.zeros(2, 3, 4), torch.zeros(3, 4), samples=50)
        >>> (low < high).all()
        tensor(True)
    """
    z = _draws(posterior, samples, generator)
    value = log_likelihood(z)
    log_weight = value + log_mass(z, prior_logits).sum(-1) - _log_q(posterior, z)
    return value.mean(0) - _divergence(posterior, prior_logits), torch.logsumexp(log_weight, 0) - math.log(samples)


def log_marginal(
    log_likelihood: Integrand,
    prior_logits: Float[Tensor, "N K"],
    batch: tuple[int, ...],
    *,
    limit: int = 2**16,
    chunk: int = 2**18,
) -> Float[Tensor, "*batch"]:
    r"""The exact log-likelihood :math:`\log p(x) = \log\sum_z p(x \mid z) p(z)` of the discrete model, by enumeration.

    Arguments:
        log_likelihood: as in the module's docstring.
        prior_logits: of shape (N, K).
        batch: the shape of the batch.
        limit: the largest number of configurations, K^N.
        chunk: how many evaluations are held at once.

    Raises:
        ValueError: If there are more configurations than the limit.

    Example:
        >>> import torch
        >>> log_marginal(lambda z: 0 * z.sum((-1, -2)), torch.zeros(3, 4), (2,)).abs().max() < 1e-5
        tensor(True)
    """
    latents, classes = prior_logits.shape
    size = max(1, chunk // max(math.prod(batch), 1))
    parts = []
    for z in configurations(latents, classes, limit=limit, chunk=size, like=prior_logits):
        log_prior = log_mass(z, prior_logits).sum(-1)
        if not unseen(log_prior):
            possible = log_prior > -math.inf
            if not possible.any():
                continue
            z, log_prior = z[possible], log_prior[possible]
        z = z.reshape(-1, *(1,) * len(batch), latents, classes).expand(-1, *batch, latents, classes)
        parts.append(torch.logsumexp(log_likelihood(z) + log_prior.reshape(-1, *(1,) * len(batch)), 0))
    return torch.logsumexp(torch.stack(parts), 0)


def _divergence(posterior: Posterior, prior_logits: Tensor) -> Tensor:
    if not isinstance(posterior, MixtureOfDiscreteFlows):
        return categorical_kl(posterior, prior_logits).sum(-1)
    prior = Independent(OneHotCategorical(logits=prior_logits, validate_args=False), 1)
    return kl_divergence(posterior, prior)


def _log_q(posterior: Posterior, z: Tensor) -> Tensor:
    if not isinstance(posterior, MixtureOfDiscreteFlows):
        return log_mass(z, posterior).sum(-1)
    return posterior.log_prob(z)


def _draws(posterior: Posterior, samples: int, generator: torch.Generator | None) -> Tensor:
    if samples < 1:
        raise ValueError(f"samples={samples} draws nothing; use samples >= 1.")
    if isinstance(posterior, MixtureOfDiscreteFlows):
        return posterior.sample((samples,), generator=generator)
    return one_hot_sample(posterior.detach().expand(samples, *posterior.shape), generator=generator)
