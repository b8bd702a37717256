"""What a training run is: everything its numbers depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import NoneType
from typing import Any, get_args, get_type_hints

import torch

from softhot.bounds import Objective, incompatible
from softhot.estimators import BASELINES, Estimator, estimator
from softhot.functional import Schedule, schedule
from softhot.kl import ALIASES, Relaxed, Term, term
from softhot.lab.kinds import of_kind
from softhot.lab.seeds import stream
from softhot.names import unknown
from softhot.problems.data import MODES

__all__ = ["EPOCHS", "LARGER", "LENGTHS", "OPTIMISERS", "PRECISIONS", "Config", "make_estimator"]

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),  # one pass over the weights
    "radam": torch.optim.RAdam,
}

LENGTHS = ("epochs", "budget_evaluations", "budget_seconds")  # what says how long a run is, one of them
EPOCHS = 30  # if none does
PRECISIONS: dict[str, torch.dtype | None] = {"32": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

LARGER: dict[str, Any] = {
    "latents": 20,
    "classes": 10,
    "hidden": (512, 256),
    "learning_rate": 1e-3,
    "epochs": 20,
}


@dataclass(frozen=True)
class Config:
    """A training run of a categorical VAE; checked when it is made.

    Arguments:
        data: the name of a data set, or a path.
        binarise: "threshold", "dynamic" or "none"; see :mod:`softhot.problems.data`.
        latents: the number N of latent variables.
        classes: the number K of classes of each.
        hidden: widths of the encoder's hidden layers; the decoder's are the reverse.
        learned_prior: whether the prior is learned, or uniform.
        estimator: a name of :data:`softhot.estimators.ESTIMATORS`.
        samples: its number of draws, where it has one; its own default if not given.
        baseline: a name of :data:`softhot.estimators.BASELINES`, where it has one; its own default if not given.
        components: its number of flows, where it is a mixture of them.
        term: a name of :data:`softhot.kl.TERMS`.
        temperature: of the estimator, where it has one.
        final_temperature: what the temperature is annealed to over the run; constant if not given.
        schedule: "exponential" or "linear".
        prior_temperature: of the relaxed prior; the posterior's if not given.
        optimiser: "adam" or "radam".
        learning_rate: of the optimiser.
        control_learning_rate: of Adam, which trains what the estimator learns: a baseline, a control variate.
        precision: of the networks' matrix products: "32", or "bf16-mixed" or "16-mixed" for half the bits.
        batch_size: images per step.
        epochs: passes through the training images; 30 if neither it nor a budget is given.
        budget_evaluations: of the decoder, counted for every image of every step; the run ends before it needs more,
            within an epoch if need be, and an annealed temperature ends with it.
        budget_seconds: of training, without the evaluation; the run ends after the step that passes them, so that its
            numbers depend on the machine and on what else it does.
        seed: of the weights, the order of the images and the noise.

    Raises:
        ValueError: If a name is unknown, a number is out of range, the estimator and the term do not go together, or
            it is not clear how long the run is.

    Example:
        >>> Config(estimator="reinmax").arm
        'reinmax t=1 + categorical'
    """

    data: str = "digits"
    binarise: str = "threshold"
    latents: int = 4
    classes: int = 4
    hidden: tuple[int, ...] = (64,)
    learned_prior: bool = False
    estimator: str = "gumbel-softmax"
    samples: int | None = None
    baseline: str | None = None
    components: int = 8
    term: str = "categorical"
    temperature: float = 1.0
    final_temperature: float | None = None
    schedule: str = "exponential"
    prior_temperature: float | None = None
    optimiser: str = "adam"
    learning_rate: float = 8e-3
    control_learning_rate: float = 3e-2
    precision: str = "32"
    batch_size: int = 100
    epochs: int | None = None
    budget_evaluations: float | None = None
    budget_seconds: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "term", ALIASES.get(self.term, self.term))
        lengths = [name for name in LENGTHS if getattr(self, name) is not None]
        if not lengths:
            object.__setattr__(self, "epochs", EPOCHS)
        if len(lengths) > 1:
            given = " and ".join(f"{name}={getattr(self, name):g}" for name in lengths)
            raise ValueError(f"{given} each say how long the run is; leave out all but one.")
        for name in ("latents", "components", "batch_size", *(["epochs"] if self.epochs is not None else [])):
            _at_least(name, getattr(self, name), 1)
        _at_least("classes", self.classes, 2)
        if self.latents * self.classes > _MOST:
            raise ValueError(
                f"latents={self.latents} of classes={self.classes} are more than {_MOST:,} entries for every image; "
                "use fewer."
            )
        for width in self.hidden:
            _at_least("hidden", width, 1)
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value} is not a positive finite number; use {name}=1.0, for example.")
        if self.binarise not in MODES:
            raise unknown("way to binarise", self.binarise, MODES)
        if self.optimiser not in OPTIMISERS:
            raise unknown("optimiser", self.optimiser, OPTIMISERS)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.baseline is not None and self.baseline not in BASELINES:
            raise unknown("baseline", self.baseline, BASELINES)
        self.temperatures(1)
        reason = incompatible(self.make_estimator(self.temperature), self.make_term(), self.latents, self.classes)
        if reason:
            raise ValueError(f"estimator {self.estimator!r} and KL term {self.term!r} do not go together: {reason}.")
        if self.budget_seconds is not None and self.final_temperature is not None:
            raise ValueError(
                f"final_temperature={self.final_temperature:g} has no step to be reached at with budget_seconds="
                f"{self.budget_seconds:g}; use budget_evaluations or epochs, or leave it out."
            )
        least = self.evaluations * self.batch_size
        if self.budget_evaluations is not None and self.budget_evaluations < least:
            raise ValueError(
                f"budget_evaluations={self.budget_evaluations:g} does not pay for a step of {self.arm}; "
                f"use budget_evaluations={least} or more."
            )

    def make_estimator(self, temperature: float) -> Estimator:
        """The estimator at a temperature, where it has one, with nothing learned yet."""
        given = {
            "temperature": temperature,
            "samples": self.samples,
            "baseline": self.baseline,
            "components": self.components,
        }
        return make_estimator(self.estimator, self.latents, self.classes, seed=self.seed, **given)

    def make_term(self) -> Term:
        """The KL term, with the prior's temperature where it has one."""
        value = term(self.term)
        return (
            dataclasses.replace(value, prior_temperature=self.prior_temperature)
            if isinstance(value, Relaxed)
            else value
        )

    def objective(self, temperature: float) -> Objective:
        """What is maximised, at a temperature."""
        return Objective(self.make_estimator(temperature), self.make_term())

    def temperatures(self, steps: int) -> Schedule:
        """The temperature at every step of a run of that many steps."""
        return schedule(self.temperature, self.final_temperature, steps, self.schedule)

    @property
    def evaluations(self) -> int:
        """Of the decoder, for every image of a step."""
        return self.make_estimator(self.temperature).evaluations(self.latents, self.classes)

    @property
    def length(self) -> str:
        """How long the run is, in words."""
        if self.budget_seconds is not None:
            return f"{self.budget_seconds:g} seconds of training, so the numbers depend on the machine"
        if self.budget_evaluations is not None:
            return f"{self.budget_evaluations:,.0f} evaluations of the decoder"
        return f"{self.epochs} epochs"

    @property
    def tempered(self) -> bool:
        """Whether the estimator has a temperature."""
        return any(item.name == "temperature" for item in dataclasses.fields(estimator(self.estimator)))

    @property
    def arm(self) -> str:
        """What the run is called in a comparison, the same for all seeds."""
        heat = f"{self.temperature:g}" + ("" if self.final_temperature is None else f"→{self.final_temperature:g}")
        draws = "" if self.samples is None else f" n={self.samples}"
        draws += f" B={self.components}" if estimator(self.estimator).mixture else ""
        base = "" if self.baseline is None else f" {self.baseline} baseline"
        return f"{self.estimator}{base}{draws}{f' t={heat}' if self.tempered else ''} + {self.term}"

    @property
    def id(self) -> str:
        """A hash of the configuration."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return {**dataclasses.asdict(self), "hidden": list(self.hidden)}

    @classmethod
    def for_data(cls, data: str, **given: Any) -> Config:
        """The configuration for a data set, with a larger model than the default for anything but the digits.

        Arguments:
            data: the name of a data set, or a path.
            given: settings; those that are None take the default.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        usual = {} if data == "digits" else LARGER
        if chosen.keys() & set(LENGTHS):
            usual = {name: value for name, value in usual.items() if name not in LENGTHS}
        return cls.from_json({"data": data, **usual, **chosen})

    @classmethod
    def from_json(cls, value: Any) -> Config:
        """The configuration of a dictionary.

        Raises:
            ValueError: If it has other keys, or values that are refused.
        """
        if not isinstance(value, dict):
            raise ValueError(
                f"a configuration is a table of settings, not {type(value).__name__}; use Config().to_json()."
            )
        hints = get_type_hints(cls)
        for name in value:
            if name not in hints:
                raise unknown("setting", name, hints)
        settings: dict[str, Any] = {
            name: None if found is None and NoneType in get_args(hints[name]) else of_kind(name, found, hints[name])
            for name, found in value.items()
        }
        return cls(**settings)


def make_estimator(name: str, latents: int, classes: int, *, seed: int = 0, **given: Any) -> Estimator:
    """The estimator of a name for N variables of K classes, with those of the settings that it has.

    Arguments:
        name: of :data:`softhot.estimators.ESTIMATORS`.
        latents, classes: N and K.
        seed: of the first weights of what it learns.
        given: settings; those that are None, or that the estimator does not have, are left out.

    Raises:
        ValueError: If the name is unknown, or the estimator refuses a setting.

    Example:
        >>> make_estimator("straight-through", 2, 4, samples=3, temperature=0.5)
        StraightThrough(samples=3)
    """
    cls = estimator(name)
    own = {item.name for item in dataclasses.fields(cls)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, "control").initial_seed())
        return cls.of_size(
            latents, classes, **{key: value for key, value in given.items() if key in own and value is not None}
        )


_MOST = 1_000_000
_POSITIVE = ["temperature", "final_temperature", "prior_temperature", "learning_rate", "control_learning_rate"]
_POSITIVE += ["budget_evaluations", "budget_seconds"]


def _at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise ValueError(f"{name}={value} is too small; use {name}={low} or more.")
