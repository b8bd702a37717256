"""The training loop, an epoch at a time, and the evaluation of what came out.

Every epoch draws its order and every step its noise from a stream of its own, so a run that stops after any step and
goes on later has the same numbers as one that never stopped. A run with a budget may end within an epoch: its last
:class:`Epoch` is then of the images that it came to.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from softhot.bounds import Objective, elbo, elbo_and_iwae, log_marginal
from softhot.estimators import estimator
from softhot.lab.config import OPTIMISERS, PRECISIONS, Config
from softhot.lab.seeds import stream
from softhot.lab.training.learner import Learner, held
from softhot.problems.data import Binarised
from softhot.problems.vae import CategoricalVAE

__all__ = ["Epoch", "Run", "Scores", "evaluate", "few", "objective_of"]

_T = TypeVar("_T")
ENUMERABLE = 2**14  # configurations up to which the exact log-likelihood is reported
UNLIMITED = sys.maxsize  # steps, where seconds end the run
CACHED = 2**20  # pixels that are decoded at once: about as many as a cache holds


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
        scaler: of the loss, so that slopes are not too small for half precision; of no effect in other precisions.
        climb: given the run and the images of a step, adds the slopes of their mean objective to ``.grad``, and returns
            the sum of it.
        per_epoch: steps of an epoch.
        steps: of the whole run; as many as anyone can take, where seconds end it.
        step: how many were taken.
        total: the sum of the objective over the images of the epoch so far.
        seconds: of training in the epoch so far.
        elapsed: seconds of training in all.
    """

    def __init__(self, config: Config, images: Binarised) -> None:
        self.config = config
        self.images = images
        self.climb: Callable[[Run, Tensor], Tensor] = climb
        self.step = 0
        self.total = torch.zeros(())
        self.seconds = 0.0
        self.elapsed = 0.0
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
                precision=PRECISIONS[config.precision],
            )
        self.learner = Learner(config.make_estimator(config.temperature), config.control_learning_rate)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = OPTIMISERS[config.optimiser](trained, lr=config.learning_rate)
        self.scaler = torch.amp.GradScaler("cpu", enabled=config.precision == "16-mixed")
        self.per_epoch = math.ceil(len(images.train) / config.batch_size)
        self.steps = self._affordable()
        self.temperatures = config.temperatures(self.steps - 1)  # the last step has the last temperature

    def place(self, device: torch.device) -> None:
        """Move the run to a device."""
        self.model.to(device)
        self.learner.control.to(device)
        self.total = self.total.to(device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.scaler.is_enabled())

    @property
    def device(self) -> torch.device:
        """Where the run is computed."""
        return self.total.device

    @property
    def temperature(self) -> float:
        """The temperature of the last step taken, or of the first if none was."""
        return self.temperatures(max(self.step - 1, 0))

    @property
    def epoch(self) -> int:
        """How many epochs are finished; the last one of a run is, wherever the run ends."""
        return math.ceil(self.step / self.per_epoch) if self.done else self.step // self.per_epoch

    @property
    def done(self) -> bool:
        """Whether all steps are taken, or the seconds spent."""
        budget = self.config.budget_seconds
        return self.step >= self.steps or (budget is not None and self.elapsed >= budget)

    @property
    def expected(self) -> int:
        """The steps of the whole run, going by the pace so far where seconds end it."""
        budget = self.config.budget_seconds
        return self.steps if budget is None else math.ceil(self.step * max(budget / (self.elapsed or budget), 1))

    def objective(self, temperature: float | Tensor) -> Objective:
        """What is maximised, at a temperature, with what the estimator has learned so far."""
        return Objective(self.learner.at(temperature), self.config.make_term())

    def epochs(self, pause: Callable[[], None] = lambda: None) -> Iterator[Epoch]:
        """Train, and yield after every epoch that is left.

        Arguments:
            pause: called between the steps of an epoch, where the run may be saved, and later go on from.
        """
        while not self.done:
            yield self.train_epoch(pause)

    def train_epoch(self, pause: Callable[[], None] = lambda: None) -> Epoch:
        """Take the steps that are left of an epoch, with a pause between them."""
        self.train_step()
        while self.step % self.per_epoch and not self.done:
            pause()
            self.train_step()
        noise = stream(0, "validation", device=self.device)
        bound = evaluate_elbo(self.model, self.objective(self.temperature), self.images.valid, noise)
        return self.finish_epoch(bound.item())

    def train_step(self) -> None:
        """Climb the objective of the next batch of images."""
        start = time.perf_counter()
        x = self.batch()
        self.optimiser.zero_grad()
        value = self.climb(self, x)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.learner.step()
        self.total += value
        self.count(time.perf_counter() - start)

    def add_slopes(self, x: Tensor, generator: torch.Generator, images: int) -> Tensor:
        """Add the slopes of the objective of x, over a number of images, to ``.grad``; returns the sum of it."""
        objective = self.objective(self.temperatures(self.step))
        value = objective_of(self.model, objective.learn, x, generator).sum()
        self.scaler.scale(-value / images).backward()
        return value.detach()

    def count(self, seconds: float) -> None:
        """Take note of a step, and of the time it took."""
        self.step += 1
        self.seconds += seconds
        self.elapsed += seconds

    def _affordable(self) -> int:
        """The steps that the configuration asks for, or that its budget of evaluations pays for."""
        config, images = self.config, len(self.images.train)
        if config.epochs is not None:
            return config.epochs * self.per_epoch
        if config.budget_evaluations is None:
            return UNLIMITED
        epochs, rest = divmod(int(config.budget_evaluations / config.evaluations), images)
        return epochs * self.per_epoch + rest // config.batch_size  # the last batch of an epoch may be smaller

    def noise(self, *process: int) -> torch.Generator:
        """The randomness of the next step, or that of one of the processes that take it together."""
        return stream(self.config.seed, "noise", self.step, *process, device=self.device)

    def batch(self) -> Tensor:
        """The images of the next step."""
        return self._epoch_images(self.step // self.per_epoch)[0][self.chosen()]

    def chosen(self) -> Tensor:
        """Which of the images of the epoch are those of the next step."""
        epoch, index = divmod(self.step, self.per_epoch)
        return self._epoch_images(epoch)[1][index]

    def _epoch_images(self, epoch: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The images of an epoch, and the indices of its batches; drawn once for all of its steps."""
        if self._drawn is None or self._drawn[0] != epoch:
            train = self.images.train_epoch(stream(self.config.seed, "pixels", epoch))
            order = torch.randperm(len(train), generator=stream(self.config.seed, "order", epoch))
            self._drawn = epoch, train, order.split(self.config.batch_size)
        return self._drawn[1:]

    def finish_epoch(self, valid_elbo: float) -> Epoch:
        """What the epoch gave, whose last step was just taken; the next one starts from nothing."""
        steps = self.step - (self.epoch - 1) * self.per_epoch
        images = min(steps * self.config.batch_size, len(self.images.train))
        finished = Epoch(
            epoch=self.epoch,
            temperature=self.temperature,
            objective=self.total.item() / images,
            valid_elbo=valid_elbo,
            evaluations=self.config.evaluations * images,
            seconds=self.seconds,
        )
        self.total, self.seconds = torch.zeros_like(self.total), 0.0
        return finished


def climb(run: Run, x: Tensor) -> Tensor:
    """One batch in one piece."""
    return run.add_slopes(x, run.noise(), len(x))


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
    for x in images.to(generator.device).split(500):
        posterior = objective.posterior(model.posterior(x))
        bound = elbo(model.log_likelihood(x), posterior, model.prior, samples=samples, generator=generator)
        sums.append(bound.sum())
    return torch.stack(sums).double().sum() / len(images)


@torch.no_grad()
def evaluate(run: Run, images: Tensor, *, iwae_samples: int = 100, draws: int = 40_000) -> Scores:
    """The scores of a trained model on images that it has not seen; the same at every call.

    Arguments:
        run: the trained model.
        images: of shape (n, D).
        iwae_samples: draws per image of the importance-weighted bound and of the ELBO.
        draws: of the objective, over all images; at most 20 of each.
    """
    config, images, noise = run.config, images.to(run.device), stream(0, "test", device=run.device)
    objective = run.objective(run.temperature)
    each = min(20, -(-draws // len(images))) if objective.estimator.random else 1
    enumerable = config.classes**config.latents <= ENUMERABLE
    sums = dict.fromkeys(("objective", "elbo", "iwae", "log_likelihood"), 0.0)
    for x in images.split(100):
        with held(objective.estimator):
            for _ in range(each):
                sums["objective"] += objective_of(run.model, objective, x, noise).sum().item() / each
        if enumerable:
            exact = log_marginal(run.model.log_likelihood(x), run.model.prior, x.shape[:1], limit=ENUMERABLE)
            sums["log_likelihood"] += exact.sum().item()
    for x in images.split(max(1, CACHED // (iwae_samples * images.shape[-1]))):
        posterior = objective.posterior(run.model.posterior(x))
        likelihood = run.model.log_likelihood(x)
        bounds = elbo_and_iwae(likelihood, posterior, run.model.prior, samples=iwae_samples, generator=noise)
        for name, bound in zip(("elbo", "iwae"), bounds, strict=True):
            sums[name] += bound.sum().item()
    means = {name: value / len(images) for name, value in sums.items()}
    if not enumerable:
        return Scores(means["objective"], means["elbo"], means["iwae"], iwae_samples, None)
    return Scores(**means, iwae_samples=iwae_samples)
