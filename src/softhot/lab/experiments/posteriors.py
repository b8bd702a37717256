"""The posterior of a Bayesian network by one method, and how far it is from the exact one.

Two methods are always there, as what the others are held against. "mean-field", coordinate ascent from many starts,
gives the best product of independent variables that is known: a ceiling, which a method should not be above. "mdnf" is
the best mixture of B configurations with equal weights: a floor, where all configurations are looked at. Where they
are too many for that, both start from draws of the exact posterior.

The other methods are gradients: with an estimator, the ELBO of a product of independent variables is climbed, its
entropy exact; several climbs at once, of which the best is kept. Probabilities of zero count as a floor in log space
while climbing, and are zero where the result is scored: classes with mass where the posterior has none are left out
first, as KL(q||p) is infinite otherwise.

All scores are exact: KL(q||p) by the ELBO and the evidence, KL(p||q) by the entropy and the marginals of p.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softhot import __version__
from softhot.distributions import MixtureOfDiscreteFlows, OneHotCategorical
from softhot.estimators import ESTIMATORS, Estimator, Exact
from softhot.inference import Fit, boosting, likeliest, mean_field, shifted_deltas, variational
from softhot.lab.config import OPTIMISERS, make_estimator
from softhot.lab.gradients.targets import unsuited
from softhot.lab.seeds import stream
from softhot.lab.training.learner import Learner
from softhot.names import unknown
from softhot.problems import BayesianNetwork
from softhot.problems.data.shared import absent, shared
from softhot.problems.elimination import draw

__all__ = ["BOUNDS", "METHODS", "Found", "Plan", "Watch", "found"]

Watch = Callable[[str, float], None]

BOUNDS = ("mean-field", "mdnf")
MIXTURES = ("mdnf", "mdnf-weighted", "mdnf-gradients")
METHODS = (*BOUNDS, *MIXTURES[1:], *(name for name, cls in ESTIMATORS.items() if not (cls.mixture or cls.multi_sample)))

STARTS = 1024  # draws that a search starts from
RECORDS = 100  # of a climb


@dataclass(frozen=True)
class Plan:
    """What is to be inferred, and how; checked when it is made.

    Arguments:
        network: the path of a .bif file, or the name of one in the folder ``bayesnets`` of ``SOFTHOT_DATA``.
        evidence: what is observed, as ("Variable=state", ...).
        methods: names in :data:`METHODS`; "mean-field" and "mdnf" are always there.
        components: the number B of a mixture.
        restarts: climbs of an estimator; coordinate ascents are eight times as many.
        samples: draws of an estimator, where it has them; its own default if not given.
        temperature: of an estimator, where it has one; its own default if not given.
        steps: of the optimiser.
        batch_size: independent estimates averaged in a step.
        learning_rate: of the optimiser.
        optimiser: "adam" or "radam".
        floor: what the logarithm of a probability of zero counts as while climbing.
        seed: of all random numbers.

    Raises:
        ValueError: If the network cannot be read, a name is unknown, the evidence is impossible, a number is out of
            range, or an estimator does not suit the network.
    """

    network: str
    evidence: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    components: int = 100
    restarts: int = 8
    samples: int | None = None
    temperature: float | None = None
    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 0.05
    optimiser: str = "adam"
    floor: float = -20.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", tuple(dict.fromkeys((*BOUNDS, *self.methods))))
        for method in self.methods:
            if method not in METHODS:
                raise unknown("method", method, METHODS)
        if self.optimiser not in OPTIMISERS:
            raise unknown("optimiser", self.optimiser, OPTIMISERS)
        for name in ("components", "restarts", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} leaves nothing to do; use {name}=1 or more.")
        if not 0 < self.learning_rate < math.inf or not -math.inf < self.floor < 0:
            raise ValueError(
                f"learning_rate={self.learning_rate}, floor={self.floor} lead nowhere; use learning_rate=0.05, "
                "floor=-20.0, for example."
            )
        for method in self.methods:
            one = self.estimator(method) if method in ESTIMATORS else None
            reason = None if one is None or isinstance(one, Exact) else unsuited(one, self.target, self.model.logits)
            if reason:
                raise ValueError(f"method {method!r} and network {self.network!r} do not go together: {reason}.")

    @cached_property
    def model(self) -> BayesianNetwork:
        """The network with its evidence."""
        given: dict[str, str] = {}
        for pair in self.evidence:
            name, equals, state = pair.partition("=")
            if not equals:
                raise ValueError(f"the evidence {pair!r} gives no state; write {name}=STATE.")
            if given.get(name, state) != state:
                raise ValueError(f"the evidence {pair!r} contradicts {name}={given[name]}; give one of them.")
            given[name] = state
        return BayesianNetwork.from_bif(self._file(), given)

    def _file(self) -> Path:
        path, relative = Path(self.network), f"bayesnets/{self.network}.bif"
        if path.exists() or path.suffix == ".bif":
            return path
        named = shared(relative)
        if named is None:
            raise ValueError(
                f"{self.network!r} is no file, and {absent(relative)}, where a network of that name would be; "
                f"use the path of a .bif file, or set SOFTHOT_DATA to a folder that holds {relative}."
            )
        return named

    def target(self, z: Tensor) -> Tensor:
        """What is climbed: the logarithm of the joint probability, with the floor for that of zero."""
        return self.model.log_joint(z, self.floor)

    def estimator(self, method: str) -> Estimator:
        """The estimator of a method that has one, with the plan's settings."""
        given: dict[str, Any] = {"temperature": self.temperature, "samples": self.samples}
        return make_estimator(method, *self.model.logits.shape, seed=self.seed, **given)

    def settings(self) -> dict[str, Any]:
        """What a posterior depends on beside its method."""
        tables = [(node.name, node.states, node.parents, node.table.tolist()) for node in self.model.nodes]
        digest = hashlib.blake2b(repr(tables).encode(), digest_size=8).hexdigest()
        own = {name: value for name, value in asdict(self).items() if name != "methods"}
        return {"version": __version__, **own, "evidence": list(self.evidence), "tables": digest}


class Found(NamedTuple):
    """What a method came to.

    Attributes:
        kl_q_p, kl_p_q: exact, in nats, up to rounding.
        marginals: the probability of each class of each hidden variable.
        evaluations: of the joint probability, at one configuration each; None where expectations are exact.
        note: what else to know of it.
        seconds: of the method, without the scores.
    """

    kl_q_p: float
    kl_p_q: float
    marginals: Tensor
    evaluations: int | None
    note: str
    seconds: float


def found(plan: Plan, method: str, watch: Watch) -> Found:
    """The posterior of a method, and its scores.

    Arguments:
        plan: what is to be inferred.
        method: of those of the plan.
        watch: called with the method and the share of it that is done.

    Raises:
        ValueError: If a climb diverges.
    """
    start = time.perf_counter()
    if method in MIXTURES:
        fit, note = _mixture(plan, method)
        seconds = time.perf_counter() - start
        return Found(*_score_mixture(plan.model, fit.q, fit.elbo), fit.evaluations, note, seconds)
    climb = _coordinates if method == "mean-field" else _climb
    logits, evaluations, note = climb(plan, method, watch)
    seconds = time.perf_counter() - start
    return Found(*_score_product(plan.model, logits), evaluations, note, seconds)


def _mixture(plan: Plan, method: str) -> tuple[Fit, str]:
    model, generator = plan.model, stream(plan.seed, "infer", method)
    if method == "mdnf-gradients":
        family = shifted_deltas(model.cardinalities, plan.components, generator=generator)
        fit = variational(model.log_joint, *family, steps=plan.steps, floor=plan.floor)
        return fit, "" if fit.elbo > -math.inf else "a component is where the posterior has no mass"
    fit = boosting(
        model.log_joint,
        model.cardinalities,
        plan.components,
        free_weights=method == "mdnf-weighted",
        starts=draw(model.posterior, STARTS, generator=generator),
        generator=generator,
    )
    weights = " with their own weights" if method == "mdnf-weighted" else ""
    return (
        fit,
        f"the best mixture of {plan.components} configurations{weights}{'' if fit.proven else ' that was found'}",
    )


def _coordinates(plan: Plan, method: str, watch: Watch) -> tuple[Tensor, int | None, str]:
    model, generator = plan.model, stream(plan.seed, "infer", method)
    count = 8 * plan.restarts
    draws = draw(model.posterior, STARTS, generator=generator)
    found = likeliest(model.log_joint, model.cardinalities, count, starts=draws, generator=generator)
    fit = mean_field(model.log_joint, model.cardinalities, found.classes, generator=generator)
    return fit.logits, found.evaluations + fit.evaluations, f"the best product of {len(fit.elbos)} ascents"


def _climb(plan: Plan, method: str, watch: Watch) -> tuple[Tensor, int | None, str]:
    model, noise = plan.model, stream(plan.seed, "infer", method)
    estimator = plan.estimator(method)
    exact = isinstance(estimator, Exact)
    learner = Learner(estimator, plan.learning_rate)
    free = torch.randn(plan.restarts, *model.logits.shape, dtype=torch.float64, generator=noise).requires_grad_()
    optimiser = OPTIMISERS[plan.optimiser]([free], lr=plan.learning_rate)
    for step in range(plan.steps):
        optimiser.zero_grad()
        logits = free + model.logits
        if exact:
            value = plan.target(logits.softmax(-1))
        else:
            value = estimator.learn(plan.target, logits.expand(plan.batch_size, *logits.shape), generator=noise).mean(0)
        (-(value + _entropy(logits))).sum().backward()
        optimiser.step()
        learner.step()
        if step % max(1, plan.steps // RECORDS) == 0:
            watch(method, step / plan.steps)
    found = (free + model.logits).detach()
    if not (found < math.inf).all():
        raise ValueError(f"{method} diverged; use a smaller learning rate than {plan.learning_rate}.")
    climbed = [model.supported(each) for each in found]
    elbos = [_elbo(model, each) for each in climbed]
    best = max(range(len(elbos)), key=elbos.__getitem__)
    left_out = int((found[best] > -math.inf).sum() - (climbed[best] > -math.inf).sum())
    mass = 1 - torch.where(climbed[best] > -math.inf, found[best].softmax(-1), 0.0).sum(-1).prod().item()
    note = f"{left_out} classes left out, with {mass:.1e} of the mass" if left_out else ""
    if elbos[best] == -math.inf:
        note = "mass where the posterior has none"
    cost = plan.steps * plan.batch_size * plan.restarts * estimator.evaluations(*model.logits.shape)
    return climbed[best], None if exact else cost, note


def _elbo(model: BayesianNetwork, logits: Tensor) -> float:
    return (model.log_joint(logits.softmax(-1)) + _entropy(logits)).item()


def _entropy(logits: Tensor) -> Tensor:
    entropy: Tensor = OneHotCategorical(logits=logits, validate_args=False).entropy().sum(-1)
    return entropy


def _score_product(model: BayesianNetwork, logits: Tensor) -> tuple[float, float, Tensor]:
    p, exact = model.posterior.marginals, model.posterior
    cross = torch.where(p > 0, p * logits.log_softmax(-1), 0.0).sum().item()
    q = logits.softmax(-1)
    return exact.log_partition - _elbo(model, logits), -exact.entropy - cross, q


@torch.no_grad()
def _score_mixture(model: BayesianNetwork, q: MixtureOfDiscreteFlows, elbo: float) -> tuple[float, float, Tensor]:
    """KL(p||q) of a mixture of deltas is finite only where they are on all that is possible."""
    exact = model.posterior
    points, weight = q.points()
    classes = points.argmax(-1).unique(dim=0)
    backward = math.inf
    if len(classes) > (1 - 1e-6) * model.possible:
        z = torch.nn.functional.one_hot(classes, model.logits.shape[-1]).to(points.dtype)
        log_p = model.log_joint(z) - exact.log_partition
        backward = torch.where(log_p > -math.inf, log_p.exp() * (log_p - q.log_prob(z)), 0.0).sum().item()
    mean = (weight[:, None, None] * points).sum(0)
    return exact.log_partition - elbo, backward, mean
