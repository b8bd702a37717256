"""Any estimators on one model or problem, measured at the same place and held against the same truth.

What is measured is defined in :mod:`softhot.lab.gradients.quality`. For a comparison at equal cost there are two
products beside it: the variance times the evaluations of f, and the variance times the seconds, that one gradient
takes. A budget of B evaluations (seconds) pays for B / cost gradients, and the variance of their mean is the product
over B. The bias does not fall with the budget. Evaluations are of f, per element of the batch; seconds are the median
for the whole batch, forward and backward, on the machine at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from softhot.estimators import ESTIMATORS, Estimator
from softhot.kl import Term, term
from softhot.lab.config import make_estimator
from softhot.lab.gradients.draws import REFERENCE, Reference, measure, reference
from softhot.lab.gradients.quality import Quality
from softhot.lab.gradients.targets import ProblemTarget, Target, VaeTarget
from softhot.lab.seeds import stream
from softhot.lab.training.learner import Learner, control_of
from softhot.problems import Problem
from softhot.problems.vae import CategoricalVAE

__all__ = ["Diagnosis", "admitted", "diagnose", "diagnose_target", "label"]

_LEARNING_RATE = 3e-2


@dataclass(frozen=True)
class Diagnosis:
    """What was measured of an estimator.

    Attributes:
        estimator: its label.
        unbiased: whether it is said to be, for the discrete objective.
        sample: where it evaluates f: at "hard" or "soft" samples.
        evaluations: of f, per gradient and element of the batch.
        seconds: per gradient, of the whole batch.
        draws: of the gradient.
        truth: how the true gradient was found.
        encoder: of the gradient before the sample; of a problem's parameters.
        decoder: of the gradient after it; None for a problem, which has nothing there.
    """

    estimator: str
    unbiased: bool
    sample: str
    evaluations: int
    seconds: float
    draws: int
    truth: str
    encoder: Quality
    decoder: Quality | None

    @property
    def parts(self) -> dict[str, Quality]:
        """Those that there are."""
        return {"encoder": self.encoder, **({} if self.decoder is None else {"decoder": self.decoder})}

    def row(self) -> dict[str, Any]:
        """Flat, with the products of variance and cost."""
        flat = {key: value for key, value in vars(self).items() if key not in ("encoder", "decoder")}
        for part, found in self.parts.items():
            flat |= {f"{part}_{key}": value for key, value in dataclasses.asdict(found).items()}
            flat[f"{part}_variance_times_evaluations"] = found.variance * self.evaluations
            flat[f"{part}_variance_times_seconds"] = found.variance * self.seconds
        return flat


def diagnose(
    model: CategoricalVAE | Problem,
    batch: Float[Tensor, "..."] | None,
    estimators: Sequence[str | Estimator] | Mapping[str, Estimator],
    *,
    term: str | Term = "categorical",
    draws: int = 256,
    learn: int = 0,
    seed: int = 0,
    limit: int = 2**14,
    reference_draws: int = REFERENCE,
) -> list[Diagnosis]:
    """How good each estimator's gradient is, at the weights of a model, for a batch.

    Arguments:
        model: a :class:`softhot.problems.vae.CategoricalVAE`; or a problem such as those of
            :data:`softhot.problems.PROBLEMS`.
        batch: images, of shape (n, D); of a problem, the parameters, or None for those that it starts from.
        estimators: names, estimators, or estimators by label. What an estimator has learned is used as it is.
        term: the KL term of a model, or its name; one other than the categorical counts as bias.
        draws: of each gradient, 32 or more.
        learn: steps that an estimator with a baseline or control variate learns before, on the batch; it is changed.
        seed: of the draws.
        limit: the most configurations that are enumerated for the true gradient of a model.
        reference_draws: that stand for it otherwise, each leave-one-out with 16 samples.

    Raises:
        ValueError: If a name is unknown, an estimator is not for the model or the term, or there are too few draws.

    Example:
        >>> import torch, softhot.lab, softhot.problems.vae
        >>> _ = torch.manual_seed(0)
        >>> model = softhot.problems.vae.CategoricalVAE(pixels=9, latents=2, classes=3, hidden=(8,))
        >>> for found in softhot.lab.diagnose(model, torch.ones(4, 9), ["leave-one-out", "straight-through"], draws=32):
        ...     print(found.estimator, found.evaluations, found.truth, found.encoder.bias_z < 4)
        leave-one-out 4 exact True
        straight-through 1 exact True
    """
    return diagnose_target(
        _target(model, batch, term),
        estimators,
        draws=draws,
        learn=learn,
        seed=seed,
        limit=limit,
        reference_draws=reference_draws,
    )


def diagnose_target(
    target: Target,
    estimators: Sequence[str | Estimator] | Mapping[str, Estimator],
    *,
    draws: int = 256,
    learn: int = 0,
    seed: int = 0,
    limit: int = 2**14,
    reference_draws: int = REFERENCE,
) -> list[Diagnosis]:
    """What :func:`diagnose` gives, for any target."""
    for name, value, least in (("draws", draws, 32), ("learn", learn, 0), ("reference_draws", reference_draws, 32)):
        if value < least:
            raise ValueError(f"{name}={value} is too few; use {name}={least} or more.")
    named = admitted(target, _named(target, estimators, seed))
    truth = reference(target, seed=seed, limit=limit, draws=reference_draws)
    found = []
    for name, estimator in named.items():
        _learn(target, estimator, learn, seed)
        found.append(_diagnosis(name, estimator, target, truth, draws, seed))
    return found


def admitted(target: Target, named: dict[str, Estimator]) -> dict[str, Estimator]:
    """The estimators by label, if all can be measured.

    Raises:
        ValueError: If one cannot be, or there is none.
    """
    if not named:
        raise ValueError("no estimator is given; use ['reinmax'], for example.")
    for name, estimator in named.items():
        reason = target.refusal(estimator)
        if reason:
            raise ValueError(f"{name} cannot be measured here: {reason}.")
    return named


def label(estimator: Estimator) -> str:
    """What an estimator is called: its name, its number of draws if not the default, and its temperature.

    Example:
        >>> import softhot
        >>> label(softhot.estimators.GumbelSoftmax(temperature=0.5)), label(softhot.estimators.LeaveOneOut(samples=8))
        ('gumbel-softmax t=0.5', 'leave-one-out n=8')
    """
    kind = type(estimator)
    name = next((name for name, known in ESTIMATORS.items() if known is kind), kind.__name__)
    own = {item.name: item.default for item in dataclasses.fields(estimator)}
    draws, heat = (getattr(estimator, setting, None) for setting in ("samples", "temperature"))
    many = "" if draws in (None, own.get("samples")) else f" n={draws}"
    return name + many + ("" if heat is None else f" t={heat:g}")


def _named(
    target: Target, estimators: Sequence[str | Estimator] | Mapping[str, Estimator], seed: int
) -> dict[str, Estimator]:
    if isinstance(estimators, Mapping):
        named = dict(estimators)
    else:
        made = [make_estimator(one, *target.size, seed=seed) if isinstance(one, str) else one for one in estimators]
        for name, one in zip(estimators, made, strict=True):
            if name is not one:
                control_of(one).to(target.device)
        named = {label(one): one for one in made}
        if len(named) < len(made):
            raise ValueError("two estimators have one label; give them as a dictionary, {'first': Rebar(), ...}.")
    return named


def _target(model: CategoricalVAE | Problem, batch: Tensor | None, given: str | Term) -> Target:
    if isinstance(model, Problem):
        return ProblemTarget(model, model.start() if batch is None else batch)
    if batch is None:
        raise ValueError("batch=None leaves a VAE without images; give them as a tensor of shape (n, D).")
    return VaeTarget(model, batch, term(given) if isinstance(given, str) else given)


def _learn(target: Target, estimator: Estimator, steps: int, seed: int) -> None:
    learner = Learner(estimator, _LEARNING_RATE)
    if not [*learner.control.state_dict()]:
        return
    noise = stream(seed, "learn", device=target.device)
    for step in range(steps):
        target.value(estimator, noise, learn=True)
        learner.step(_LEARNING_RATE * (1 - step / steps))  # it comes to rest


def _diagnosis(name: str, estimator: Estimator, target: Target, truth: Reference, draws: int, seed: int) -> Diagnosis:
    found = measure(target, estimator, truth, draws=draws, seed=seed)
    return Diagnosis(
        estimator=name,
        unbiased=estimator.unbiased,
        sample=estimator.sample,
        evaluations=estimator.evaluations(*target.size),
        seconds=found.seconds,
        draws=found.draws,
        truth=truth.how,
        encoder=found.parts["encoder"],
        decoder=found.parts.get("decoder"),
    )
