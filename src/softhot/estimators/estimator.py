r"""What every gradient estimator is.

For N independent one-hot variables of K classes with logits l and an integrand f, an estimator gives a number whose
value estimates :math:`E_q[f(z)]` and whose backward pass delivers an estimate of its gradient, to the logits and to
whatever parameters f itself closes over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softhot.estimators.integrand import Integrand, numbers
from softhot.functional.check import counted, variables
from softhot.kernels.noise import Noise
from softhot.kl.term import Sample

__all__ = ["Estimator", "Pathwise"]


@dataclass(frozen=True)
class Estimator(ABC):
    r"""An estimator of the gradient of E_q[f(z)]; abstract.

    Attributes:
        unbiased: whether the mean of its gradient to the logits is the gradient of the discrete E_q[f(z)].
        differentiable: whether f must be differentiable in z.
        sample: where f is evaluated: at one-hot vectors ("hard") or at relaxed ones ("soft").
        relaxed: whether it draws a relaxed variable, of a temperature that a KL term may refer to.
        noise: of that variable.
        mixture: whether q is a mixture of B flows with logits of shape (\*batch, B, N, K), in place of a product of N.
        source: where it comes from.
        classes: the number of classes K that it is for; None where it is for any.
        random: whether it draws anything; its estimate is a sum otherwise.
        multi_sample: whether f is a log weight and the value the bound E[log mean exp f] of n draws, in place of E f.
    """

    unbiased: ClassVar[bool]
    differentiable: ClassVar[bool]
    sample: ClassVar[Sample]
    relaxed: ClassVar[bool] = False
    noise: ClassVar[Noise] = "gumbel"
    mixture: ClassVar[bool] = False
    source: ClassVar[str]
    classes: ClassVar[int | None] = None
    random: ClassVar[bool] = True
    multi_sample: ClassVar[bool] = False

    @classmethod
    def of_size(cls, latents: int, classes: int, **settings: Any) -> Self:
        """The estimator for N variables of K classes, which what it learns may depend on.

        Example:
            >>> import softhot
            >>> softhot.estimators.Relax.of_size(2, 3).surrogate
            QuadraticSurrogate()
        """
        return cls(**settings)

    def __call__(
        self, f: Integrand, logits: Float[Tensor, "*logits N K"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch"]:
        """An estimate of E_q[f(z)], of shape (*batch), with the estimator's gradient.

        Raises:
            ValueError: If the logits are no floats of shape (*batch, N, K), f does not give one number for each z, or
                has no slope where one is needed.
        """
        return self.estimate(self.checked(f, logits, generator), logits, generator)

    @abstractmethod
    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*logits N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        """What a call gives, of arguments that have been checked."""

    def checked(self, f: Integrand, logits: Tensor, generator: torch.Generator | None) -> Integrand:
        """f, which says so when it gives other than one number for each z; an error if the rest cannot be right."""
        checked = numbers(f, slope=type(self).__name__ if self.differentiable else None)
        variables("logits", logits)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise ValueError(
                f"generator is a {type(generator).__name__}; use torch.Generator().manual_seed(0), for example."
            )
        return checked

    def learn(
        self, f: Integrand, logits: Float[Tensor, "*logits N K"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch"]:
        """The estimate, as from a call; an estimator that has a control to learn leaves its slope there as well."""
        return self(f, logits, generator=generator)

    def with_loss(
        self, f: Integrand, logits: Float[Tensor, "*logits N K"], *, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, ""]]:
        """The estimate, and the loss whose slope :meth:`learn` leaves to the control; zero if nothing is learned.

        Example:
            >>> import torch, softhot
            >>> softhot.estimators.ReinMax().with_loss(lambda z: z.sum((-1, -2)), torch.zeros(1, 2))
            (tensor(1.), tensor(0.))
        """
        return self(f, logits, generator=generator), torch.zeros((), device=logits.device)

    @property
    def settings(self) -> dict[str, float]:
        """Those of the relaxed variable, beside its temperature, which a KL term of it must share."""
        return {}

    def refusal(self, latents: int, classes: int) -> str | None:
        """Why it is not for N variables of K classes; None if it is."""
        if self.classes not in (None, classes):
            return f"the estimator is for {self.classes} classes, and there are {classes}"
        return None

    @property
    def control(self) -> nn.Module | None:
        """What is learned, if anything."""
        return None

    @abstractmethod
    def evaluations(self, latents: int, classes: int) -> int:
        """How many times f is evaluated per element of the batch."""


@dataclass(frozen=True)
class Pathwise(Estimator, ABC):
    """An estimator that differentiates f along its sample, averaged over n draws; abstract.

    Arguments:
        samples: the number of draws n.
    """

    unbiased: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    sample: ClassVar[Sample] = "hard"

    samples: int = 1

    def __post_init__(self) -> None:
        counted("samples", self.samples, 1, "draws nothing", who=type(self).__name__)

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        z = self.draw(logits.expand(self.samples, *logits.shape), generator)
        return f(z).mean(0)

    def evaluations(self, latents: int, classes: int) -> int:
        return self.samples

    @abstractmethod
    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """A sample that carries the estimator's gradient."""
