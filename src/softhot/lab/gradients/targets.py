"""What a gradient is measured of: the objective of a categorical VAE on images, or a problem with known truth."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.bounds import Objective, incompatible
from softhot.estimators import Estimator, Exact, Integrand, MixtureOfDiscreteFlows
from softhot.functional.check import floating
from softhot.kl import Categorical, Mixture, Term
from softhot.lab.seeds import stream
from softhot.lab.training.learner import held
from softhot.lab.training.loop import objective_of
from softhot.problems import Problem
from softhot.problems.vae import CategoricalVAE

__all__ = ["ProblemTarget", "Target", "VaeTarget", "unsuited"]


@dataclass(frozen=True)
class Target(ABC):
    """A number that an estimator gives, and the parameters that its gradient is taken to; abstract."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """N and K."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(parameter for own in self.parts.values() for parameter in own).device

    @property
    @abstractmethod
    def parts(self) -> dict[str, list[Tensor]]:
        """The parameters: "encoder", before the sample, and "decoder", after it, if there is one."""

    @abstractmethod
    def value(self, estimator: Estimator, generator: torch.Generator, *, learn: bool = False) -> Tensor:
        """The number; with `learn`, the estimator's control gets its slope."""

    @abstractmethod
    def exact(self, limit: int) -> dict[str, Tensor] | None:
        """The true gradient by part; None if that takes too many configurations: of a model, more than `limit`."""

    @abstractmethod
    def refusal(self, estimator: Estimator) -> str | None:
        """Why an estimator is not for this; None if it is."""

    def discrete(self) -> Target:
        """That whose gradient is the truth."""
        return self

    def draw(self, estimator: Estimator, generator: torch.Generator) -> dict[str, Tensor]:
        """One draw of the gradient, flat, by part."""
        parts = self.parts
        value = self.value(estimator, generator)
        gradients = iter(torch.autograd.grad(value, [parameter for own in parts.values() for parameter in own]))
        return {part: torch.cat([next(gradients).flatten() for _ in own]) for part, own in parts.items()}


@dataclass(frozen=True)
class VaeTarget(Target):
    """The mean objective of images; in truth, the discrete ELBO.

    Arguments:
        model: at the weights in question.
        x: images, of shape (n, D).
        term: the KL term; one other than the categorical counts as bias.
    """

    model: CategoricalVAE
    x: Float[Tensor, "n D"]
    term: Term = field(default_factory=Categorical)

    @property
    def size(self) -> tuple[int, int]:
        return self.model.latents, self.model.classes

    @property
    def parts(self) -> dict[str, list[Tensor]]:
        return {"encoder": [*self.model.encoder.parameters()], "decoder": [*self.model.decoder.parameters()]}

    def value(self, estimator: Estimator, generator: torch.Generator, *, learn: bool = False) -> Tensor:
        objective = Objective(estimator, self.term)
        return objective_of(self.model, objective.learn if learn else objective, self.x, generator).mean()

    def exact(self, limit: int) -> dict[str, Tensor] | None:
        if self.model.components is not None:  # whose configurations are constant in the logits almost everywhere
            found = self.discrete().draw(MixtureOfDiscreteFlows(self.model.components), torch.Generator(self.device))
            return {**found, "encoder": torch.zeros_like(found["encoder"])}
        if self.model.classes**self.model.latents > limit:
            return None
        return self.discrete().draw(Exact(limit=limit), torch.Generator(self.device))

    def refusal(self, estimator: Estimator) -> str | None:
        mixed = self.model.components is not None
        if estimator.mixture != mixed:
            return f"the model's posterior is {'a mixture' if mixed else 'a product of independent variables'}"
        return incompatible(estimator, self.term, *self.size)

    def discrete(self) -> VaeTarget:
        return dataclasses.replace(self, term=Categorical() if self.model.components is None else Mixture())


@dataclass(frozen=True)
class ProblemTarget(Target):
    """The expected cost of a problem with known truth; its parameters count as an encoder's.

    Arguments:
        problem: such as those of :data:`softhot.problems.PROBLEMS`.
        at: its parameters.
    """

    problem: Problem
    at: Float[Tensor, "..."]

    def __post_init__(self) -> None:
        floating("parameters", self.at)
        shape = tuple(self.problem.start().shape)
        if self.at.shape != shape:
            raise ValueError(
                f"parameters of shape {tuple(self.at.shape)} are not those of the problem, of shape {shape}; "
                "use problem.start(), or others of its shape."
            )
        object.__setattr__(self, "at", self.at.detach().clone().requires_grad_())

    @property
    def size(self) -> tuple[int, int]:
        return self.problem.latents, self.problem.classes

    @property
    def parts(self) -> dict[str, list[Tensor]]:
        return {"encoder": [self.at]}

    def value(self, estimator: Estimator, generator: torch.Generator, *, learn: bool = False) -> Tensor:
        estimate = estimator.learn if learn else estimator
        return estimate(self.problem.f, self.problem.logits(self.at), generator=generator)

    def exact(self, limit: int) -> dict[str, Tensor] | None:
        try:
            return {"encoder": self.problem.gradient(self.at).flatten()}
        except ValueError:  # the problem enumerates, where it must, up to a limit of its own
            return None

    def refusal(self, estimator: Estimator) -> str | None:
        return unsuited(estimator, self.problem.f, self.problem.logits(self.at))


def unsuited(estimator: Estimator, f: Integrand, logits: Float[Tensor, "*batch N K"]) -> str | None:
    """Why an estimator is not for E_q[f(z)] with q a product of independent variables; None if it is.

    Example:
        >>> from softhot.estimators import DisArm
        >>> unsuited(DisArm(), lambda z: z[..., 0].sum(-1), torch.zeros(2, 2)) is None
        True
    """
    if estimator.multi_sample:
        return "its value is a bound of several draws, not an expectation"
    if estimator.mixture:
        return "its posterior is a mixture, not a product of independent variables"
    with held(estimator):
        try:
            estimator(f, logits, generator=stream(0, "refusal", device=logits.device))
        except ValueError as error:
            return str(error).rstrip(".")
    return None
