r"""REBAR: the score function with f at the relaxed sample as a control variate.

The gradient of :mod:`softhot.estimators.relaxed_control` with :math:`c = f`. Unbiased for every temperature and
:math:`\eta`, which :meth:`Rebar.learn` gives the slope of the second moment of the gradient. Costs two evaluations of
f: at the hard sample, and at the relaxed one, which stands for the conditional relaxed sample as well; learning adds a
second backward pass through f at the latter and no evaluation. f must be differentiable and defined inside the simplex.
The parameters of f get their gradient at the hard sample alone.

Reference:
    Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein (2017), "REBAR: low-variance, unbiased gradient estimates for
    discrete latent variable models".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softhot.estimators.controlled import Controlled, Parts
from softhot.estimators.integrand import Integrand
from softhot.estimators.relaxed_control import relaxed_control
from softhot.functional.check import positive
from softhot.kl.term import Sample

__all__ = ["Rebar", "Relaxation"]


class Relaxation(nn.Module):
    """The temperature t > 0 and the weight eta of a relaxed control variate, as parameters.

    Example:
        >>> import softhot
        >>> relaxation = softhot.estimators.Relaxation(temperature=0.5)
        >>> [round(x.item(), 6) for x in relaxation()]
        [0.5, 1.0]
    """

    def __init__(self, temperature: float = 0.5, eta: float = 1.0) -> None:
        super().__init__()
        positive("temperature", temperature, torch.Size())
        self.log_temperature = nn.Parameter(torch.tensor(float(temperature)).log())
        self.eta = nn.Parameter(torch.tensor(float(eta)))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Temperature and eta."""
        return self.log_temperature.exp(), self.eta


@dataclass(frozen=True)
class Rebar(Controlled):
    """The score function of what f at the relaxed sample leaves, and the pathwise gradient of the latter.

    Arguments:
        relaxation: the temperature and the weight of the control variate.

    Raises:
        ValueError: When called, if f is not differentiable in z.

    Example:
        >>> import torch, softhot
        >>> estimator = softhot.estimators.Rebar(softhot.estimators.Relaxation(temperature=0.1))
        >>> logits = torch.zeros(5, 1, 2, requires_grad=True)
        >>> estimator(lambda z: (z[..., 0].sum(-1) - 0.45) ** 2, logits).shape
        torch.Size([5])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Tucker et al. 2017"

    relaxation: Relaxation = field(default_factory=Relaxation)

    @property
    def control(self) -> nn.Module | None:
        return self.relaxation

    def parts(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None, learning: bool
    ) -> Parts:
        temperature, eta = self.relaxation()
        return relaxed_control(f, f, logits, temperature, eta, generator, learning)

    def evaluations(self, latents: int, classes: int) -> int:
        return 2
