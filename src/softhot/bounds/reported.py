"""What is reported: bounds and values of the discrete model's log-likelihood, from hard samples."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from softhot.distributions import MixtureOfDiscreteFlows, OneHotCategorical, kl_divergence
from softhot.estimators import Integrand, configurations
from softhot.estimators.integrand import numbers
from softhot.functional import categorical_kl, log_mass, one_hot_sample
from softhot.functional.check import alike, counted, variables
from softhot.kernels.routes import unseen

__all__ = ["Posterior", "elbo", "elbo_and_iwae", "iwae", "log_marginal"]

Posterior = Float[Tensor, "*batch N K"] | MixtureOfDiscreteFlows
"""The logits of independent variables, or a joint law."""


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

    Raises:
        ValueError: If samples is not a whole number of at least 1, logits are not those of variables, or there is not
            one number for each z.

    Example:
        >>> import torch
        >>> elbo(lambda z: 0 * z.sum((-1, -2)), torch.zeros(2, 3, 4), torch.zeros(3, 4)).tolist()
        [0.0, 0.0]
    """
    log_likelihood = _checked(log_likelihood, posterior, prior_logits, samples)
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

    Raises:
        ValueError: If samples is not a whole number of at least 1, logits are not those of variables, or there is not
            one number for each z.

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

    Raises:
        ValueError: If samples is not a whole number of at least 1, logits are not those of variables, or there is not
            one number for each z.

    Example:
        >>> import torch
        >>> f = lambda z: -z[..., 0].sum(-1)
        >>> low, high = elbo_and_iwae(f, torch.zeros(2, 3, 4), torch.zeros(3, 4), samples=50)
        >>> (low < high).all()
        tensor(True)
    """
    log_likelihood = _checked(log_likelihood, posterior, prior_logits, samples)
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
        log_likelihood: as in :mod:`softhot.bounds`.
        prior_logits: of shape (N, K).
        batch: the shape of the batch.
        limit: the largest number of configurations, K^N.
        chunk: how many evaluations are held at once.

    Raises:
        ValueError: If there are more configurations than the limit, prior_logits are not those of variables, or there
            is not one number for each z.

    Example:
        >>> import torch
        >>> log_marginal(lambda z: 0 * z.sum((-1, -2)), torch.zeros(3, 4), (2,)).abs().max() < 1e-5
        tensor(True)
    """
    log_likelihood = numbers(log_likelihood, "log_likelihood")
    _checked_prior(prior_logits)
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


def _checked(log_likelihood: Integrand, posterior: Posterior, prior_logits: Tensor, samples: int) -> Integrand:
    """The log-likelihood, which says so when it gives other than numbers; an error if the rest cannot be right."""
    checked = numbers(log_likelihood, "log_likelihood")
    counted("samples", samples, 1, "draws nothing")
    _checked_prior(prior_logits)
    if isinstance(posterior, MixtureOfDiscreteFlows):
        shape = posterior.event_shape
    else:
        variables("posterior", posterior)
        alike("posterior", posterior, "prior_logits", prior_logits)
        shape = posterior.shape[-2:]
    if shape != prior_logits.shape:
        raise ValueError(
            f"a posterior of {shape[0]} variables of {shape[1]} classes and prior_logits of shape "
            f"{tuple(prior_logits.shape)} are not of the same variables; use prior_logits of shape {tuple(shape)}."
        )
    return checked


def _checked_prior(prior_logits: Tensor) -> None:
    variables("prior_logits", prior_logits)
    if prior_logits.dim() > 2:
        raise ValueError(
            f"prior_logits of shape {tuple(prior_logits.shape)} are those of a batch of priors; use shape (N, K), of "
            "one for all."
        )


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
    if isinstance(posterior, MixtureOfDiscreteFlows):
        return posterior.sample((samples,), generator=generator)
    return one_hot_sample(posterior.detach().expand(samples, *posterior.shape), generator=generator)
