"""Where gradients are measured: at a problem's start, at fresh or trained weights, or all along a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from softhot.estimators import Estimator
from softhot.kl import Term, term
from softhot.lab.config import Config, make_estimator
from softhot.lab.gradients.diagnosis import Diagnosis, admitted, diagnose_target, label
from softhot.lab.gradients.targets import ProblemTarget, Target, VaeTarget
from softhot.lab.training import checkpoint
from softhot.lab.training.loop import Run, few
from softhot.lab.training.single import KEPT, stages
from softhot.problems import problem
from softhot.problems.data import load, prepare

__all__ = ["Grid", "Place", "along_run", "at_checkpoint", "at_fresh_weights", "at_start", "name_of"]


@dataclass(frozen=True)
class Place:
    """A target, the epoch of a run that it is of, and the run's own estimator with what it has learned by then."""

    target: Target
    epoch: int | None = None
    own: Estimator | None = None


@dataclass(frozen=True)
class Grid:
    """Estimators by name, each with all the settings that it has.

    Arguments:
        names: of :data:`softhot.estimators.ESTIMATORS`.
        temperatures, baselines: several of each; an estimator's own defaults if empty.
        samples: draws per gradient; an estimator's own default if not given.
        seed: of the first weights of what is learned.

    Example:
        >>> [*Grid(["reinmax", "leave-one-out"], temperatures=[1.0, 2.0]).estimators(2, 3)]
        ['reinmax t=1', 'reinmax t=2', 'leave-one-out']
    """

    names: Sequence[str]
    temperatures: Sequence[float] = ()
    baselines: Sequence[str] = ()
    samples: int | None = None
    seed: int = 0

    def estimators(self, latents: int, classes: int) -> dict[str, Estimator]:
        """The estimators for N variables of K classes, by label."""
        made = {}
        for name, heat, baseline in product(self.names, self.temperatures or (None,), self.baselines or (None,)):
            given = {"temperature": heat, "samples": self.samples, "baseline": baseline}
            one = make_estimator(name, latents, classes, seed=self.seed, **given)
            kind = f" {baseline} baseline" if baseline and hasattr(one, "baseline") else ""
            made[label(one) + kind] = one
        return made

    def at(self, place: Place) -> dict[str, Estimator]:
        """The estimators for a place; its own, as far as it has learned, if no names are given.

        Raises:
            ValueError: If a name or a setting is refused, or an estimator cannot be measured there.
        """
        if self.names or place.own is None:
            return admitted(place.target, self.estimators(*place.target.size))
        return admitted(place.target, {label(place.own): place.own})

    def measure(self, place: Place, *, draws: int, learn: int) -> list[Diagnosis]:
        """What :func:`softhot.lab.gradients.diagnosis.diagnose` gives; what is the place's own learns no more."""
        return diagnose_target(
            place.target, self.at(place), draws=draws, learn=learn if self.names else 0, seed=self.seed
        )


def at_start(name: str, seed: int) -> Place:
    """The parameters that a descent of a problem starts from."""
    toy = problem(name)
    return Place(ProblemTarget(toy, toy.start(seed)))


def at_fresh_weights(config: Config, images: int, kl: Term | None = None) -> Place:
    """The weights that a run starts from, and some test images."""
    return _of_run(Run(config, prepare(load(config.data), config.binarise)), images, kl or term("categorical"))


def at_checkpoint(path: Path, images: int, kl: Term | None = None) -> Place:
    """The weights of a checkpoint, or of the last one in a folder, and the run's own KL term if not given another."""
    return _of_run(checkpoint.load(path / "checkpoint.safetensors" if path.is_dir() else path), images, kl)


def name_of(path: Path) -> str:
    """The name of the run that a checkpoint is of, with the checkpoint's own where it is one of several."""
    path = path.resolve()
    run = path if path.is_dir() else path.parent.parent if path.parent.name == KEPT else path.parent
    return run.name if path.stem in (run.stem, "checkpoint") else f"{run.name}-{path.stem}"


def along_run(folder: Path, images: int, kl: Term | None = None) -> Iterator[Place]:
    """The fresh weights, and then those of every checkpoint that was kept of a run."""
    for run in stages(folder):
        yield _of_run(run, images, kl)


def _of_run(run: Run, images: int, kl: Term | None) -> Place:
    target = VaeTarget(run.model, few(run.images.test, images), kl or run.config.make_term())
    return Place(target, run.epoch, run.learner.at(run.temperature))
