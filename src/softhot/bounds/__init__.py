r"""What is optimised and what is reported.

A model has a likelihood p(x | z) and a prior p(z) over N one-hot variables of K classes, and a posterior q(z | x) of
logits l. Here a model is three tensors and a function: ``log_likelihood`` maps z of shape (\*sample, \*batch, N, K) to
log p(x | z) of shape (\*sample, \*batch). A posterior that is not a product of N variables is a distribution of shape
(\*batch) with events of shape (N, K), such as a mixture of discrete flows, in place of the logits.

An :class:`Objective` is what training climbs: an estimator for the expected log-likelihood and a KL term. Only some
of them are lower bounds, and of different things; each says which. What is *reported* is always of the discrete model,
from hard samples: :func:`elbo`, :func:`iwae` and, where enumeration allows, :func:`log_marginal`.
"""

from softhot.bounds.objective import Objective, incompatible
from softhot.bounds.reported import Posterior, elbo, elbo_and_iwae, iwae, log_marginal

__all__ = ["Objective", "Posterior", "elbo", "elbo_and_iwae", "incompatible", "iwae", "log_marginal"]
