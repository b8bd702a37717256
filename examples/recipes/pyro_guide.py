"""Pyro with variables of softhot: one line for each, and its ELBO takes the divergence in closed form.

Pyro calls its distributions, which those of torch do not allow: a class of both is what it makes of torch's as well.
``TraceMeanField_ELBO`` asks for the divergence of guide and model, which Pyro's own relaxed variables do not have, so
that it draws it; with those of softhot it is exact. Both losses have one mean. Which varies less depends: at the
posterior, what is drawn cancels.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO

import softhot.distributions


class Relaxed(softhot.distributions.RelaxedOneHotCategorical, TorchDistributionMixin):
    """For pyro.sample."""


MEANS = torch.tensor([-2.0, 0.0, 3.0])
DATA = torch.tensor([-1.7, 2.6, 0.1, 3.3])
HEAT = torch.tensor(0.5)


def model():
    with pyro.plate("data", len(DATA)):
        z = pyro.sample("z", Relaxed(HEAT, logits=torch.zeros(len(DATA), 3)))
        pyro.sample("x", dist.Normal(z @ MEANS, 2.0), obs=DATA)


def guide():
    logits = pyro.param("logits", torch.zeros(len(DATA), 3))
    with pyro.plate("data", len(DATA)):
        pyro.sample("z", Relaxed(HEAT, logits=logits))


pyro.set_rng_seed(0)
svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), TraceMeanField_ELBO())
losses = [svi.step() for _ in range(150)]
print(f"loss: {losses[0]:.1f} at first, {sum(losses[-50:]) / 50:.1f} at last")
print("classes:", *pyro.param("logits").argmax(-1).tolist())
for name, elbo in (("drawn", Trace_ELBO()), ("exact", TraceMeanField_ELBO())):
    estimates = torch.tensor([elbo.loss(model, guide) for _ in range(200)])
    print(f"{name} divergence: loss {estimates.mean():.2f}, give or take {estimates.std() / len(estimates) ** 0.5:.2f}")
