"""The contenders: softhot and other libraries, each with what it has of the tasks.

A task that draws takes one draw of a relaxed one-hot variable. A library without exact values estimates them by one
draw: KL by log q(z) - log p(z), entropy by -log q(z). Checks of arguments are off in all libraries alike, since those
of torch.distributions refuse float32 samples of many classes, whose sum is not 1 to within 1e-6.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.calls import Bind, Function, jax_call, jax_device, torch_call
from benchmarks.timing import OURS
from softhot.distributions import RelaxedOneHotCategorical
from softhot.functional import gumbel_softmax, relaxed_entropy, relaxed_kl, relaxed_mean

__all__ = [
    "PRIOR",
    "TEMPERATURE",
    "Contender",
    "assemble",
    "jax_jit",
    "ours",
    "pyro",
    "tfp",
    "torch_compile",
    "torch_eager",
]

TEMPERATURE = 0.5
PRIOR = 1.0  # temperature of the prior where it is not the same


@dataclass(frozen=True)
class Contender:
    """A library: its name, its version, its functions by the name of the task, and how one of them is called."""

    name: str
    version: str
    functions: Mapping[str, Function]
    bind: Bind = torch_call


Maker = Callable[[str], Contender]


def assemble(makers: Iterable[Maker], device: str) -> tuple[list[Contender], dict[str, str]]:
    """The contenders that are to be had on a device, and why others are not."""
    found, skipped = [], {}
    for maker in makers:
        try:
            found.append(maker(device))
        except (ImportError, RuntimeError) as error:
            skipped[maker.__name__] = str(error).splitlines()[0]
    return found, skipped


def ours(device: str) -> Contender:
    """softhot."""
    exact = {
        "KL": lambda logits, prior, _: relaxed_kl(logits, TEMPERATURE, prior, PRIOR),
        "KL, equal temperatures": lambda logits, prior, _: relaxed_kl(logits, TEMPERATURE, prior, TEMPERATURE),
        "entropy": lambda logits, prior, _: relaxed_entropy(logits, TEMPERATURE),
        "mean": lambda logits, prior, _: relaxed_mean(logits, TEMPERATURE),
    }

    def relaxed(temperature: float, logits: Tensor) -> RelaxedOneHotCategorical:
        return RelaxedOneHotCategorical(temperature, logits=logits, validate_args=False)

    drawn = _formula(gumbel_softmax) | _one_draw(relaxed, _rsample)
    return Contender(OURS, f"softhot {version('softhot')}, torch {torch.__version__}", drawn | exact)


def torch_eager(device: str) -> Contender:
    """torch.nn.functional and torch.distributions."""
    relaxed = _unchecked(torch.distributions.RelaxedOneHotCategorical, device)
    return Contender("torch", f"torch {torch.__version__}", _formula(F.gumbel_softmax) | _one_draw(relaxed, _rsample))


def torch_compile(device: str) -> Contender:
    """torch.compile of torch.nn.functional.gumbel_softmax, anew for every shape.

    Raises:
        RuntimeError: If it cannot compile anything.
    """
    import torch._dynamo.config

    torch._dynamo.config.recompile_limit = 256
    try:
        torch.compile(torch.neg)(torch.zeros(1, device=device))
    except Exception as error:  # whatever the compilers have to say
        raise RuntimeError(f"it fails to compile: {str(error).splitlines()[0]}") from error
    function = torch.compile(F.gumbel_softmax, dynamic=False, fullgraph=True)
    return Contender("torch.compile", f"torch {torch.__version__}", _formula(function))


def pyro(device: str) -> Contender:
    """Pyro's distributions."""
    import pyro.distributions

    relaxed = _unchecked(pyro.distributions.RelaxedOneHotCategorical, device)
    return Contender("Pyro", f"pyro-ppl {version('pyro-ppl')}", _one_draw(relaxed, _rsample))


def jax_jit(device: str) -> Contender:
    """jax.jit of softmax((logits + Gumbel) / t), with jax.random's default generator."""
    jax = _jax(device)

    def soft(logits: Any, prior: Any, key: Any) -> Any:
        return jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape, logits.dtype)) / TEMPERATURE)

    def hard(logits: Any, prior: Any, key: Any) -> Any:
        sample = soft(logits, prior, key)
        one_hot = jax.nn.one_hot(sample.argmax(-1), sample.shape[-1], dtype=sample.dtype)
        return jax.lax.stop_gradient(one_hot - sample) + sample

    return Contender("jax.jit", f"jax {jax.__version__}", {"soft": soft, "hard": hard}, jax_call)


def tfp(device: str) -> Contender:
    """jax.jit of the distributions of TensorFlow Probability on JAX."""
    _jax(device)
    from tensorflow_probability.substrates import jax as probability

    def relaxed(temperature: float, logits: Any) -> Any:
        return probability.distributions.RelaxedOneHotCategorical(temperature, logits=logits, validate_args=False)

    functions = _one_draw(relaxed, lambda variable, key: variable.sample(seed=key))
    return Contender("TFP on JAX", f"tfp {probability.__version__}", functions, jax_call)


def _jax(device: str) -> Any:
    """JAX, if it has such a device."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a graphics card's memory is shared with torch
    import jax

    jax_device(device)
    return jax


def _formula(function: Callable[..., Any]) -> dict[str, Function]:
    """The tasks of a function with the arguments of torch.nn.functional.gumbel_softmax."""
    return {
        "soft": lambda logits, prior, _: function(logits, tau=TEMPERATURE),
        "hard": lambda logits, prior, _: function(logits, tau=TEMPERATURE, hard=True),
    }


def _one_draw(relaxed: Callable[[float, Any], Any], draw: Callable[[Any, Any], Any]) -> dict[str, Function]:
    """The tasks of a class of relaxed one-hot variables, each with one draw."""

    def sample(logits: Any, prior: Any, key: Any) -> Any:
        return draw(relaxed(TEMPERATURE, logits), key)

    def log_prob(logits: Any, prior: Any, key: Any) -> Any:
        q = relaxed(TEMPERATURE, logits)
        return q.log_prob(draw(q, key))

    def divergence(temperature: float) -> Function:
        def kl(logits: Any, prior: Any, key: Any) -> Any:
            q, p = relaxed(TEMPERATURE, logits), relaxed(temperature, prior)
            z = draw(q, key)
            return q.log_prob(z) - p.log_prob(z)

        return kl

    return {
        "rsample": sample,
        "rsample and log_prob": log_prob,
        "KL": divergence(PRIOR),
        "KL, equal temperatures": divergence(TEMPERATURE),
        "entropy": lambda *arguments: -log_prob(*arguments),
        "mean": sample,
    }


def _rsample(variable: Any, key: None) -> Any:
    return variable.rsample()


def _unchecked(kind: Callable[..., Any], device: str) -> Callable[[float, Any], Any]:
    """A class of torch's or Pyro's, which take the temperature as a tensor, without checks of arguments."""
    tensors = {temperature: torch.tensor(temperature, device=device) for temperature in (TEMPERATURE, PRIOR)}
    return lambda temperature, logits: kind(tensors[temperature], logits=logits, validate_args=False)
