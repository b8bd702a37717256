"""The same training step by softhot and by other libraries: one model, its first weights, its images, its loss.

The model is the VAE pixels-512-256-(N x K)-256-512-pixels with Bernoulli pixels. The loss is the mean over the batch of
minus the log-likelihood at one draw of the latent variables, plus the categorical divergence to a uniform prior. Those
of Pyro and NumPyro are in `svi`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from benchmarks.calls import ending
from benchmarks.peers import torch_compile
from benchmarks.timing import OURS, Call
from softhot.bounds import Objective
from softhot.estimators import GumbelSoftmax, ReinMax
from softhot.lab.config import OPTIMISERS
from softhot.lab.training.loop import objective_of
from softhot.problems.vae import CategoricalVAE

__all__ = [
    "GUMBEL",
    "RATE",
    "REINMAX",
    "TEMPERATURE",
    "Maker",
    "Problem",
    "Trainer",
    "compiled",
    "divergence",
    "fused",
    "ours",
    "plain",
    "reinmax",
    "watched",
]

GUMBEL, REINMAX = "gumbel-softmax", "reinmax"
TEMPERATURE, RATE = 1.0, 1e-3


@dataclass(frozen=True)
class Problem:
    """What is trained: an estimator's name, images, and a model with its first weights, which everybody copies."""

    estimator: str
    x: Tensor
    model: CategoricalVAE

    @classmethod
    def of(
        cls, estimator: str, shape: tuple[int, int, int], hidden: Sequence[int], pixels: int, device: str
    ) -> Problem:
        """With a batch, N and K, and images that three in ten pixels are white in."""
        draw = torch.Generator().manual_seed(0)
        batch, latents, classes = shape
        x = (torch.rand(batch, pixels, generator=draw) < 0.3).float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = CategoricalVAE(pixels, latents, classes, hidden)
        return cls(estimator, x.to(device), model.to(device))

    @property
    def shape(self) -> tuple[int, int]:
        """N and K."""
        return self.model.latents, self.model.classes


@dataclass(frozen=True)
class Trainer:
    """A training that has begun.

    Arguments:
        step: to time: loss, gradients, and Adam's update.
        draw: the loss at one draw, and its gradient by `watched`, without an update.
        watched: the last bias of the encoder and that of the decoder, as they are now.
    """

    step: Call
    draw: Callable[[], tuple[Tensor, Tensor]]
    watched: Callable[[], Tensor]


@dataclass(frozen=True)
class Maker:
    """A contender: its name, its version, the estimators that it has, and how it begins."""

    name: str
    version: str
    estimators: tuple[str, ...]
    begin: Callable[[Problem], Trainer]


def ours(device: str) -> Maker:
    """softhot: the pieces that `softhot train` takes its steps with."""

    def begin(problem: Problem) -> Trainer:
        model, x = deepcopy(problem.model), problem.x
        kinds = {GUMBEL: GumbelSoftmax(temperature=TEMPERATURE), REINMAX: ReinMax(temperature=TEMPERATURE)}
        objective, noise = Objective(kinds[problem.estimator]), torch.Generator(device).manual_seed(1)

        def loss() -> Tensor:
            return -objective_of(model, objective.learn, x, noise).sum() / len(x)

        return _trained(loss, model.encoder, model.decoder, OPTIMISERS["adam"], x)

    return Maker(OURS, f"softhot {version('softhot')}, torch {torch.__version__}", (GUMBEL, REINMAX), begin)


def plain(device: str) -> Maker:
    """Plain torch, with torch.nn.functional.gumbel_softmax and Adam as it is by default."""
    return Maker("torch", f"torch {torch.__version__}", (GUMBEL,), lambda each: _plain(each, _gumbel, torch.optim.Adam))


def fused(device: str) -> Maker:
    """The same with Adam in one pass, as softhot has it."""
    return Maker("torch, fused Adam", f"torch {torch.__version__}", (GUMBEL,), lambda each: _plain(each, _gumbel))


def compiled(device: str) -> Maker:
    """The same again, its loss compiled by torch.compile, anew for every shape.

    Raises:
        RuntimeError: If it cannot compile anything.
    """
    torch_compile(device)
    name = "torch.compile, fused Adam"
    return Maker(name, f"torch {torch.__version__}", (GUMBEL,), lambda each: _plain(each, _gumbel, compile=True))


def reinmax(device: str) -> Maker:
    """Plain torch, with the package of ReinMax's authors and Adam in one pass."""
    from reinmax import reinmax as sample

    return Maker(
        "reinmax, fused Adam",
        f"reinmax {version('reinmax')}",
        (REINMAX,),
        lambda problem: _plain(problem, lambda logits: sample(logits, TEMPERATURE)[0]),
    )


def _gumbel(logits: Tensor) -> Tensor:
    return F.gumbel_softmax(logits, tau=TEMPERATURE)


def divergence(logits: Tensor) -> Tensor:
    """The divergence to a uniform prior, of all latent variables together."""
    log_q = logits.log_softmax(-1)
    return (log_q.exp() * (log_q + math.log(logits.shape[-1]))).sum((-1, -2))


def _plain(
    problem: Problem,
    sample: Callable[[Tensor], Tensor],
    adam: Callable[..., Optimizer] = lambda weights, lr: torch.optim.Adam(weights, lr=lr, fused=True),
    *,
    compile: bool = False,
) -> Trainer:
    """As anybody writes it in plain torch."""
    x, (latents, classes) = problem.x, problem.shape
    encoder, decoder = deepcopy(problem.model.encoder), deepcopy(problem.model.decoder)

    def loss() -> Tensor:
        logits = encoder(x).reshape(-1, latents, classes)
        pixels = decoder(sample(logits).flatten(-2))
        missing = F.binary_cross_entropy_with_logits(pixels, x, reduction="none").sum(-1)
        return (missing + divergence(logits)).mean()

    return _trained(torch.compile(loss, dynamic=False) if compile else loss, encoder, decoder, adam, x)


def _trained(
    loss: Callable[[], Tensor], encoder: nn.Module, decoder: nn.Module, adam: Callable[..., Optimizer], x: Tensor
) -> Trainer:
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimiser = adam(weights, lr=RATE)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    def draw() -> tuple[Tensor, Tensor]:
        value = loss()
        biases = [list(network.parameters())[-1] for network in (encoder, decoder)]
        return value.detach(), torch.cat(torch.autograd.grad(value, biases))

    return Trainer(Call(step, *ending(x)), draw, lambda: watched(encoder, decoder))


def watched(*networks: nn.Module) -> Tensor:
    """The last biases of networks, as they are now."""
    return torch.cat([list(network.parameters())[-1].detach() for network in networks]).clone()
