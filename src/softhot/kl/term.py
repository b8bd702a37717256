r"""What every KL term is.

A variational objective subtracts from the expected log-likelihood a divergence
:math:`E_q[\log q(z) - \log p(z)]`. With relaxed variables several expressions go by that name. They differ in the
sample z, in what q and p are, and in whether the difference bounds anything. All values are in nats and per latent
variable: the sum over K is done, the sum over latent variables is not.

``q`` has logits l and temperature t, the prior ``p`` logits l' and temperature s; probabilities are
:math:`\pi = \operatorname{softmax}(l)` and :math:`\pi' = \operatorname{softmax}(l')`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softhot.functional import one_hot_sample, relaxed_sample
from softhot.functional.check import alike, wide
from softhot.kernels.noise import Noise

__all__ = ["Sample", "Term", "apart"]

Sample = Literal["hard", "soft"]


@dataclass(frozen=True)
class Term(ABC):
    r"""A KL term; abstract.

    Calling it gives the term per latent variable: its exact value, or with ``exact=False`` one Monte Carlo draw.

    Attributes:
        sample: the sample that its Monte Carlo form is a function of: "hard" (one-hot) or "soft" (relaxed).
        temperate: whether it is of a relaxed variable, which has a temperature.
        noise: the noise of that variable.
        mixture: whether q is a mixture of B flows with logits of shape (\*batch, B, N, K), in place of a product of N.
        bounds: for the log-likelihood taken at a hard and at a soft sample, what the expected log-likelihood minus
            this term is a lower bound of; None where it is a bound of nothing.
    """

    sample: ClassVar[Sample]
    temperate: ClassVar[bool]
    noise: ClassVar[Noise] = "gumbel"
    mixture: ClassVar[bool] = False
    bounds: ClassVar[dict[Sample, str | None]]

    exact: bool = True

    def __call__(
        self,
        logits: Float[Tensor, "*#batch K"],
        prior_logits: Float[Tensor, "*#batch K"],
        temperature: float | Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*term"]:
        """The term in nats, of shape (*batch), differentiable in logits, prior logits and temperature.

        Raises:
            ValueError: If the term needs a temperature and there is none, it is not positive, or the logits are not of
                as many classes.
        """
        alike("logits", logits, "prior_logits", prior_logits)
        if self.exact:
            return self.value(logits, prior_logits, self.checked(temperature))
        logits, prior_logits = torch.broadcast_tensors(logits, prior_logits)
        ours, theirs, heat = wide(logits), wide(prior_logits), self.checked(temperature)
        return self.integrand(self.draw(ours, heat, generator), ours, theirs, heat).to(logits.dtype)

    def checked(self, temperature: float | Tensor | None) -> float | Tensor:
        """The temperature, or an error if the term has no value without one."""
        if temperature is None:
            if self.temperate or (self.sample == "soft" and not self.exact):
                raise ValueError(
                    f"{type(self).__name__} is a function of the relaxed variable and needs its temperature; "
                    "use term(logits, prior_logits, temperature=1.0), for example."
                )
            return 1.0
        return temperature

    @property
    def settings(self) -> dict[str, float]:
        """Those of the relaxed variable, beside its temperature."""
        return {}

    def integrand(
        self,
        z: Float[Tensor, "*sample_batch K"],
        logits: Float[Tensor, "*#sample_batch K"],
        prior_logits: Float[Tensor, "*#sample_batch K"],
        temperature: float | Tensor,
    ) -> Float[Tensor, "*sample_batch"]:
        """The Monte Carlo form: log q(z) - log p(z) at samples of the kind `sample`."""
        return self.log_q(z, logits, temperature) - self.log_p(z, prior_logits, temperature)

    def draw(self, logits: Tensor, temperature: float | Tensor, generator: torch.Generator | None) -> Tensor:
        """A sample of the kind `sample`."""
        if self.sample == "hard":
            return one_hot_sample(logits.detach(), generator=generator)
        return relaxed_sample(logits, temperature, generator=generator)

    @abstractmethod
    def log_q(self, z: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
        """What stands for log q(z) in the Monte Carlo form."""

    @abstractmethod
    def log_p(self, z: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        """What stands for log p(z) in the Monte Carlo form."""

    @abstractmethod
    def expected_log_q(self, logits: Tensor, temperature: float | Tensor) -> Tensor:
        """The exact mean of `log_q`: minus an entropy, where it is one."""

    @abstractmethod
    def value(self, logits: Tensor, prior_logits: Tensor, temperature: float | Tensor) -> Tensor:
        """The exact mean of `integrand`."""


def apart(logits: Float[Tensor, "*#batch K"], prior_logits: Float[Tensor, "*#batch K"]) -> Bool[Tensor, "*batch"]:
    """Where two relaxed variables are on different faces of the simplex, and have no common measure for densities."""
    return ((logits > -math.inf) != (prior_logits > -math.inf)).any(-1)
