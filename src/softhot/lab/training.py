"""The training loop, an epoch at a time, and the evaluation of what came out.

Every epoch draws its order and every step its noise from a stream of its own, so a run that stops after any step and
goes on later has the same numbers as one that never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from softhot.bounds import Objective, elbo, iwae, log_marginal
from softhot.estimators import estimator
from softhot.lab.config import OPTIMISERS, Config
from softhot.lab.learner import Learner, held
from softhot.lab.seeds import stream
from softhot.problems.data import Binarised
from softhot.problems.vae import CategoricalVAE

__all__ = ["Epoch", "Run", "Scores", "evaluate", "few", "objective_of"]

_T = TypeVar("_T")
ENUMERABLE = 2**14  # configurations up to which the exact log-likelihood is reported


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training gave; values in nats per image.

    Attributes:
        epoch: counted from 1.
        temperature: at its last step.
        objective: what was optimised, the mean over the training steps.
        valid_elbo: the discrete ELBO of the validation images.
        evaluations: of the decoder per image, times images, in this epoch.
        seconds: of training, without the evaluation.
    """

    epoch: int
    temperature: float
    objective: float
    valid_elbo: float
    evaluations: int
    seconds: float


@dataclass(frozen=True)
class Scores:
    """What is reported of a trained model; in nats per image.

    Attributes:
        objective: what was optimised, at the last temperature.
        elbo: the discrete ELBO: hard samples, categorical divergence.
        iwae: the importance-weighted bound with `iwae_samples` hard samples.
        iwae_samples: how many.
        log_likelihood: exact, by enumeration; None where there are too many configurations.
    """

    objective: float
    elbo: float
    iwae: float
    iwae_samples: int
    log_likelihood: float | None


class Run:
    """A model in training.

    Attributes:
        model: the weights.
        learner: the estimator, with what it learns.
        optimiser: of the weights.
        per_epoch: steps of an epoch.
        step: how many were taken.
        total: the sum of the objective over the images of the epoch so far.
        seconds: of training in the epoch so far.
    """

    def __init__(self, config: Config, images: Binarised) -> None:
        self.config = config
        self.images = images
        self.step = 0
        self.total = torch.zeros(())
        self.seconds = 0.0
        self._drawn: tuple[int, Tensor, tuple[Tensor, ...]] | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(config.seed, "weights").initial_seed())
            self.model = CategoricalVAE(
                images.train.shape[-1],
                config.latents,
                config.classes,
                config.hidden,
                mean=images.train.mean(0),
                learned_prior=config.learned_prior,
                components=config.components if estimator(config.estimator).mixture else None,
                grey=config.binarise == "none",
            )
        self.learner = Learner(config.make_estimator(config.temperature), config.control_learning_rate)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = OPTIMISERS[config.optimiser](trained, lr=config.learning_rate)
        self.per_epoch = math.ceil(len(images.train) / config.batch_size)
        self.steps = config.epochs * self.per_epoch
        self.temperatures = config.temperatures(self.steps - 1)  # the last step has the last temperature

    @property
    def temperature(self) -> float:
        """The temperature of the last step taken, or of the first if none was."""
        return self.temperatures(max(self.step - 1, 0))

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return self.step // self.per_epoch

    def objective(self, temperature: float | Tensor) -> Objective:
        """What is maximised, at a temperature, with what the estimator has learned so far."""
        return Objective(self.learner.at(temperature), self.config.make_term())

    def epochs(self) -> Iterator[Epoch]:
        """Train, and yield after every epoch that is left."""
        while self.step < self.steps:
            yield self.train_epoch()

    def train_epoch(self) -> Epoch:
        """Take the steps that are left of an epoch."""
        self.train_step()
        while self.step % self.per_epoch:
            self.train_step()
        return self.finish_epoch(
            evaluate_elbo(
                self.model, self.objective(self.temperature), self.images.valid, stream(0, "validation")
            ).item()
        )

    def train_step(self) -> None:
        """Climb the objective of the next batch of images."""
        start = time.perf_counter()
        x = self.batch()
        objective = self.objective(self.temperatures(self.step))
        value = objective_of(self.model, objective.learn, x, self.noise()).sum()
        self.optimiser.zero_grad()
        (-value / len(x)).backward()
        self.optimiser.step()
        self.learner.step()
        self.count(value.detach(), time.perf_counter() - start)

    def count(self, value: Tensor, seconds: float) -> None:
        """Take note of a step: the sum of the objective over its images, and the time it took."""
        self.total += value
        self.step += 1
        self.seconds += seconds

    def noise(self) -> torch.Generator:
        """The randomness of the next step."""
        return stream(self.config.seed, "noise", self.step)

    def batch(self) -> Tensor:
        """The images of the next step."""
        epoch, index = divmod(self.step, self.per_epoch)
        train, order = self._epoch_images(epoch)
        return train[order[index]]

    def _epoch_images(self, epoch: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The images of an epoch, and the indices of its batches; drawn once for all of its steps."""
        if self._drawn is None or self._drawn[0] != epoch:
            train = self.images.train_epoch(stream(self.config.seed, "pixels", epoch))
            order = torch.randperm(len(train), generator=stream(self.config.seed, "order", epoch))
            self._drawn = epoch, train, order.split(self.config.batch_size)
        return self._drawn[1:]

    def finish_epoch(self, valid_elbo: float) -> Epoch:
        """What the epoch gave, whose last step was just taken; the next one starts from nothing."""
        images = len(self.images.train)
        finished = Epoch(
            epoch=self.epoch,
            temperature=self.temperature,
            objective=self.total.item() / images,
            valid_elbo=valid_elbo,
            evaluations=self.learner.estimator.evaluations(self.config.latents, self.config.classes) * images,
            seconds=self.seconds,
        )
        self.total, self.seconds = torch.zeros(()), 0.0
        return finished


def few(images: Tensor, count: int) -> Tensor:
    """Some images from all over a set, which may be sorted.

    Example:
        >>> import torch
        >>> few(torch.arange(9.0)[:, None], 3).squeeze(-1)
        tensor([0., 4., 8.])
    """
    return images[torch.linspace(0, len(images) - 1, min(count, len(images))).long()]


def objective_of(model: CategoricalVAE, objective: Callable[..., _T], x: Tensor, generator: torch.Generator) -> _T:
    """The objective of every image, in nats; that of its ``learn`` is the same, and the estimator learns."""
    return objective(model.log_likelihood(x), model.posterior(x), model.prior, generator=generator)


@torch.no_grad()
def evaluate_elbo(
    model: CategoricalVAE, objective: Objective, images: Tensor, generator: torch.Generator, samples: int = 4
) -> Tensor:
    """The mean discrete ELBO of images, in nats per image."""
    sums = []
    for x in images.split(500):
        posterior = objective.posterior(model.posterior(x))
        bound = elbo(model.log_likelihood(x), posterior, model.prior, samples=samples, generator=generator)
        sums.append(bound.sum())
    return torch.stack(sums).double().sum() / len(images)


@torch.no_grad()
def evaluate(run: Run, images: Tensor, *, iwae_samples: int = 100, samples: int = 20) -> Scores:
    """The scores of a trained model on images that it has not seen; the same at every call.

    Arguments:
        run: the trained model.
        images: of shape (n, D).
        iwae_samples: draws per image of the importance-weighted bound.
        samples: draws per image of the objective and of the ELBO.
    """
    model, config = run.model, run.config
    noise = stream(0, "test")
    objective = run.objective(run.temperature)
    sums = dict.fromkeys(("objective", "elbo", "iwae", "log_likelihood"), 0.0)
    enumerable = config.classes**config.latents <= ENUMERABLE
    for x in images.split(100):
        likelihood, logits = model.log_likelihood(x), model.posterior(x)
        draws = 1 if config.estimator == "exact" or objective.estimator.mixture else samples
        with held(objective.estimator):
            for _ in range(draws):
                value = objective(likelihood, logits, model.prior, generator=noise)
                sums["objective"] += value.sum().item() / draws
        posterior = objective.posterior(logits)
        bound = elbo(likelihood, posterior, model.prior, samples=samples, generator=noise)
        sums["elbo"] += bound.sum().item()
        tight = iwae(likelihood, posterior, model.prior, samples=iwae_samples, generator=noise)
        sums["iwae"] += tight.sum().item()
        if enumerable:
            sums["log_likelihood"] += log_marginal(likelihood, model.prior, x.shape[:1], limit=ENUMERABLE).sum().item()
    means = {name: value / len(images) for name, value in sums.items()}
    if not enumerable:
        return Scores(means["objective"], means["elbo"], means["iwae"], iwae_samples, None)
    return Scores(**means, iwae_samples=iwae_samples)
