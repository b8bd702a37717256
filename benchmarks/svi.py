"""Stochastic variational inference by Pyro and by NumPyro: the training step of `trainers`.

The divergence, which neither has for a relaxed sample, is a factor of the guide, and the density of the sample is
masked. Checks of arguments are off.
"""

from __future__ import annotations

import itertools
import math
import os
from copy import deepcopy
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.calls import ending, jax_device
from benchmarks.timing import Call
from benchmarks.trainers import GUMBEL, RATE, TEMPERATURE, Maker, Problem, Trainer, divergence, watched

__all__ = ["numpyro", "pyro"]


def pyro(device: str) -> Maker:
    """Pyro's SVI, with Adam in one pass."""
    import pyro as library
    from pyro import distributions as dist
    from pyro.infer import SVI, Trace_ELBO
    from pyro.optim import PyroOptim

    def begin(problem: Problem) -> Trainer:
        library.enable_validation(False)
        library.clear_param_store()
        x, (latents, classes) = problem.x, problem.shape
        encoder, decoder = deepcopy(problem.model.encoder), deepcopy(problem.model.decoder)
        heat, none = torch.tensor(TEMPERATURE, device=x.device), torch.zeros(latents, classes, device=x.device)

        def relaxed(logits: Tensor) -> Any:
            return dist.RelaxedOneHotCategorical(heat, logits=logits).to_event(1).mask(False)

        def guide(x: Tensor) -> None:
            library.module("encoder", encoder)
            logits = encoder(x).reshape(-1, latents, classes)
            with library.plate("images", len(x)):
                library.sample("z", relaxed(logits))
                library.factor("divergence", divergence(logits), has_rsample=True)

        def model(x: Tensor) -> None:
            library.module("decoder", decoder)
            with library.plate("images", len(x)):
                z = library.sample("z", relaxed(none.expand(len(x), -1, -1)))
                library.sample("x", dist.Bernoulli(logits=decoder(z.flatten(-2))).to_event(1), obs=x)

        svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": RATE, "fused": True}), Trace_ELBO())

        def draw() -> tuple[Tensor, Tensor]:
            loss, found = svi.loss_and_grads(model, guide, x), []
            for network in (encoder, decoder):
                *_, bias = network.parameters()
                found.append(torch.zeros_like(bias) if bias.grad is None else bias.grad / len(x))
                network.zero_grad()
            return torch.tensor(loss / len(x)), torch.cat(found)

        return Trainer(Call(lambda: svi.step(x), *ending(x)), draw, lambda: watched(encoder, decoder))

    return Maker("Pyro, fused Adam", f"pyro-ppl {version('pyro-ppl')}", (GUMBEL,), begin)


def numpyro(device: str) -> Maker:
    """NumPyro's SVI compiled by jax.jit, with the relaxed variable of TensorFlow Probability, as it has none itself."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a graphics card's memory is shared with torch
    import jax
    import numpyro as library
    from numpyro import distributions as dist
    from numpyro.contrib.tfp.distributions import TFPDistribution
    from numpyro.infer import SVI, Trace_ELBO
    from tensorflow_probability.substrates.jax.distributions import RelaxedOneHotCategorical

    place = jax_device(device)

    def to_jax(x: Tensor) -> Any:
        return jax.device_put(x.detach().cpu().numpy().copy(), place)

    def begin(problem: Problem) -> Trainer:
        latents, classes = problem.shape
        networks = {"encoder": problem.model.encoder, "decoder": problem.model.decoder}
        first = {f"{name}.{part}": to_jax(x) for name, net in networks.items() for part, x in net.named_parameters()}
        x, numbers = to_jax(problem.x), itertools.count()

        def network(name: str, y: Any) -> Any:
            layers = [i for i, layer in enumerate(networks[name]) if isinstance(layer, nn.Linear)]
            for i in layers:
                weight, bias = (library.param(part, first[part]) for part in (f"{name}.{i}.weight", f"{name}.{i}.bias"))
                y = y @ weight.T + bias
                y = y if i == layers[-1] else jax.nn.relu(y)
            return y

        def relaxed(logits: Any) -> Any:
            kind = TFPDistribution[RelaxedOneHotCategorical]
            return kind(TEMPERATURE, logits=logits, validate_args=False).to_event(1).mask(False)

        def guide(x: Any) -> None:
            logits = network("encoder", x).reshape(-1, latents, classes)
            log_q = jax.nn.log_softmax(logits)
            with library.plate("images", len(x)):
                library.sample("z", relaxed(logits))
                library.factor("divergence", (jax.numpy.exp(log_q) * (log_q + math.log(classes))).sum((-1, -2)))

        def model(x: Any) -> None:
            with library.plate("images", len(x)):
                z = library.sample("z", relaxed(jax.numpy.zeros((len(x), latents, classes))))
                logits = network("decoder", z.reshape(len(x), -1))
                library.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

        svi = SVI(model, guide, library.optim.Adam(RATE), Trace_ELBO())
        state = [svi.init(jax.random.key(next(numbers)), x)]
        update = jax.jit(svi.update, donate_argnums=0)
        slopes = jax.jit(jax.value_and_grad(lambda weights, key: svi.loss.loss(key, weights, model, guide, x) / len(x)))
        ends = [f"{name}.{len(net) - 1}.bias" for name, net in networks.items()]

        def of(weights: Any) -> Tensor:
            return torch.cat([torch.tensor(weights[name].tolist()) for name in ends])

        def step() -> Any:
            state[0], loss = update(state[0], x)
            return loss

        def draw() -> tuple[Tensor, Tensor]:
            loss, found = slopes(svi.get_params(state[0]), jax.random.key(next(numbers)))
            return torch.tensor(loss.item()), of(found)

        return Trainer(Call(step, jax.block_until_ready), draw, lambda: of(svi.get_params(state[0])))

    return Maker("NumPyro", f"numpyro {version('numpyro')}, jax {jax.__version__}", (GUMBEL,), begin)
