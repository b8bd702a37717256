"""Runs of one shape trained as one program, to the numbers that each has when it is trained alone.

A small model leaves a machine idle: most of a step's time goes by calling its operations, whatever their size. Here
the weights of R runs are R rows of one tensor, and a step is mapped over the rows (:func:`torch.func.vmap`). What makes
a run stays its own: the order of its images, its noise, its temperature, its learning rates, what its estimator learns.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vmap

from softhot.kernels.streams import Streams
from softhot.lab.config import Config
from softhot.lab.gradients.draws import Reference, tallied
from softhot.lab.gradients.quality import Quality
from softhot.lab.seeds import stream
from softhot.lab.study.rows import Rows
from softhot.lab.training.learner import held
from softhot.lab.training.loop import Epoch, Run, evaluate_elbo, objective_of

__all__ = ["Alone", "Together", "program_of", "together"]

MOST = 8  # runs of a group: more save little time, and leave other workers without
_NUMBERS = 2**20  # of one layer, of all runs: beyond, there is no idle time left to fill
_OWN: dict[str, Any] = {  # settings in which the runs of a group may differ
    "seed": 0,
    "temperature": 1.0,
    "final_temperature": None,
    "learning_rate": 1.0,
    "control_learning_rate": 1.0,
}
_HEATS = ("temperature", "final_temperature")


def together(configs: Sequence[Config]) -> list[tuple[Config, ...]]:
    """Groups of runs that train as one program, those of one group in their order: at most ``MOST``, fewer if large.

    They differ in seed, temperatures and learning rates alone; with an exact term that has a temperature, whose
    integrals are tabulated for each, in seed and learning rates. A run whose steps are work enough has a group of its
    own, and so has one that seconds end, and one in float16, which may skip a step.

    Arguments:
        configs: the runs.

    Example:
        >>> seeds = [Config(estimator=name, seed=seed) for seed in (1, 2) for name in ("reinmax", "zgr")]
        >>> [[config.seed for config in group] for group in together(seeds)]
        [[1, 2], [1, 2]]
    """
    groups: dict[Config, list[list[Config]]] = {}
    for config in configs:
        kl = config.make_term()
        own = {name: value for name, value in _OWN.items() if name not in _HEATS or not (kl.exact and kl.temperate)}
        alike = groups.setdefault(dataclasses.replace(config, **own), [])
        if not alike or len(alike[-1]) == min(MOST, _fitting(config)):
            alike.append([])
        alike[-1].append(config)
    return [tuple(group) for alike in groups.values() for group in alike]


def _fitting(config: Config) -> int:
    """How many runs fill what there is of idle time."""
    if config.budget_seconds is not None or config.precision == "16-mixed":
        return 1
    layer = max((*config.hidden, config.latents * config.classes))
    return max(_NUMBERS // (config.batch_size * config.evaluations * layer), 1)


def program_of(runs: Sequence[Run]) -> Together | Alone:
    """What trains the runs of one group of :func:`together`.

    Raises:
        ValueError: If they are at different steps.
    """
    return Together(runs) if len(runs) > 1 else Alone(runs[0])


class Alone:
    """A run in training, as it is where there is no other."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def epochs(self, pause: Callable[[], None] = lambda: None) -> Iterator[list[Epoch]]:
        """As of :class:`Together`."""
        for epoch in self.run.epochs(pause):
            yield [epoch]

    def train_step(self) -> None:
        """As of :class:`Together`."""
        self.run.train_step()

    def write(self) -> None:
        """The run is up to date."""


class Together:
    """Runs in training, as one program.

    Arguments:
        runs: of one group of :func:`together`, at the same step. They are brought up to date after every epoch.

    Raises:
        ValueError: If they are at different steps.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        steps = sorted({run.step for run in runs})
        if len(steps) > 1:
            raise ValueError(
                f"runs at steps {steps} cannot take the next one together; use list(run.epochs()) for each alone."
            )
        self.runs = runs
        modules = _Modules(runs[0])
        self._weights = Rows([run.optimiser for run in runs])
        learned = [run.learner.optimiser for run in runs if run.learner.optimiser is not None]
        self._learned = Rows(learned) if learned else None
        names = {id(value): name for name, value in modules.named_parameters()}
        moved = [runs[0].optimiser, *learned[:1]]
        self._names = [[names[id(value)] for value in one.param_groups[0]["params"]] for one in moved]
        states = [_Modules(run).state_dict() for run in runs]
        rest = states[0].keys() - {name for own in self._names for name in own}
        self._rest = {name: torch.stack([state[name] for state in states]) for name in rest}
        self._share()
        self._places = [_place(modules, name) for name in (*self._rest, *(name for own in self._names for name in own))]

    def epochs(self, pause: Callable[[], None] = lambda: None) -> Iterator[list[Epoch]]:
        """Train, and yield after every epoch that is left what it gave each run.

        Arguments:
            pause: called between the steps of an epoch, where :meth:`write` brings the runs up to date.
        """
        first = self.runs[0]
        while not first.done:
            self.train_step()
            while first.step % first.per_epoch and not first.done:
                pause()
                self.train_step()
            self.write()
            epochs = [run.finish_epoch(elbo) for run, elbo in zip(self.runs, self._validate(), strict=True)]
            self._share()
            yield epochs

    def train_step(self) -> None:
        """Climb the objective of the next batch of images of every run."""
        start = time.perf_counter()
        model, at = self.runs[0].model, self.runs[0].objective

        def climbed(generator: torch.Generator, x: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
            value, loss = objective_of(model, at(temperature).with_loss, x, generator)
            return value.sum(), loss

        x = self._batch()
        temperatures = _one([run.temperatures(run.step) for run in self.runs], x)
        value, loss = self._mapped(climbed, [run.noise() for run in self.runs], x, temperatures)
        if self._learned is not None:
            self._learned.descend(loss.sum())
        self._weights.descend(-(value / x.shape[1]).sum())
        seconds = (time.perf_counter() - start) / len(self.runs)
        self._total += value.detach()
        for run in self.runs:
            run.count(seconds)

    def measure(self, x: Float[Tensor, "n D"], truths: Sequence[Reference], *, draws: int) -> list[dict[str, Quality]]:
        """The quality of every run's gradient on images, by part; see :func:`softhot.lab.gradients.draws.measure`.

        Arguments:
            x: the images.
            truths: of the runs.
            draws: how many.
        """
        model, at = self.runs[0].model, self.runs[0].objective
        temperatures = _one([run.temperature for run in self.runs], x)
        noise = [stream(run.config.seed, "gradient", device=run.device) for run in self.runs]
        weights = self._weights.all().detach().requires_grad_()

        def value(generator: torch.Generator, temperature: float | Tensor) -> Tensor:
            return objective_of(model, at(temperature), x, generator).mean()

        def draw() -> list[dict[str, Tensor]]:
            total = self._mapped(value, noise, temperatures, weights=weights).sum()
            slopes = torch.autograd.grad(total, weights)[0]
            named = list(zip(self._names[0], self._weights.parted(slopes), strict=True))
            parts = {
                part: torch.cat([own.flatten(1) for name, own in named if name.startswith(f"model.{part}.")], 1)
                for part in truths[0].parts
            }
            return [{part: slope[run] for part, slope in parts.items()} for run in range(len(self.runs))]

        with held(self.runs[0].learner.estimator):
            return tallied(draw, truths, self.runs[0].learner.estimator, draws)

    def _share(self) -> None:
        """Make the sums of the runs places in one tensor."""
        self._total = torch.stack([run.total for run in self.runs])
        for run, own in zip(self.runs, self._total, strict=True):
            run.total = own

    def _batch(self) -> Tensor:
        """The images of the next step of every run, in one selection where all choose from the same."""
        images = self.runs[0].images
        if images.redraw or any(run.images is not images for run in self.runs):
            return torch.stack([run.batch() for run in self.runs])
        return images.train[torch.stack([run.chosen() for run in self.runs])]

    def write(self) -> None:
        """Bring the runs to the state that this is in."""
        self._weights.write()
        if self._learned is not None:
            self._learned.write()
        for row, run in enumerate(self.runs):
            _Modules(run).load_state_dict({name: value[row] for name, value in self._rest.items()}, strict=False)

    @torch.no_grad()
    def _validate(self) -> list[float]:
        model, objective, images = self.runs[0].model, self.runs[0].objective(1.0), self.runs[0].images.valid

        def bound(generator: torch.Generator) -> Tensor:
            return evaluate_elbo(model, objective, images, generator)

        noise = [stream(0, "validation", device=run.device) for run in self.runs]
        found: list[float] = self._mapped(bound, noise).tolist()
        return found

    def _mapped(
        self,
        function: Callable[..., Any],
        generators: Sequence[torch.Generator],
        *given: Any,
        weights: Tensor | None = None,
    ) -> Any:
        """What a function gives for each run, with its weights in place of those of the first.

        The function is called with a generator and the given values, those that are tensors by run.
        """
        rows = [(self._weights, self._weights.all() if weights is None else weights)]
        rows += [] if self._learned is None else [(self._learned, self._learned.all())]
        tensors = dict(self._rest)
        for names, (own, values) in zip(self._names, rows, strict=True):
            tensors |= zip(names, own.parted(values), strict=True)

        def one(tensors: dict[str, Tensor], run: Tensor, *given: Any) -> Any:
            kept = [holder[name] for holder, name in self._places]
            try:
                for (holder, name), value in zip(self._places, tensors.values(), strict=True):
                    holder[name] = value
                return function(Streams(generators, run), *given)
            finally:
                for (holder, name), value in zip(self._places, kept, strict=True):
                    holder[name] = value

        dims = 0, 0, *(0 if isinstance(value, Tensor) else None for value in given)
        runs = torch.arange(len(self.runs), device=self.runs[0].device)
        return vmap(one, in_dims=dims, randomness="same")(tensors, runs, *given)


class _Modules(nn.Module):
    """The modules of a run as one."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.model, self.control = run.model, run.learner.control


def _place(modules: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Where a module keeps a tensor: :func:`torch.func.functional_call` takes longer to find it than a small layer."""
    path, _, own = name.rpartition(".")
    module = modules.get_submodule(path)
    return module._parameters if own in module._parameters else module._buffers, own


def _one(numbers: Sequence[float], like: Tensor) -> float | Tensor:
    """Numbers by run, or the one that all have."""
    return numbers[0] if len({*numbers}) == 1 else torch.tensor(numbers, dtype=like.dtype, device=like.device)
