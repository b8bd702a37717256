"""An estimator that is kept through a run, so that its baseline or control variate can learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from softhot.estimators import Estimator

__all__ = ["Learner", "control_of", "held"]


class Learner:
    """An estimator, what it learns, and an optimiser of its own for that, Adam unless another kind is given.

    Attributes:
        estimator: at its first temperature.
        control: what it learns; an empty module if nothing.
        optimiser: of the control; None if there is nothing to optimise.

    Example:
        >>> import softhot
        >>> learner = Learner(softhot.estimators.Relax(softhot.estimators.QuadraticSurrogate(2, 3)), 1e-2)
        >>> learner.at(0.25).temperature, learner.at(0.25).surrogate is learner.control
        (0.25, True)
    """

    def __init__(
        self, estimator: Estimator, learning_rate: float, kind: Callable[..., Optimizer] = torch.optim.Adam
    ) -> None:
        self.estimator = estimator
        self.control = control_of(estimator)
        learned = [parameter for parameter in self.control.parameters() if parameter.requires_grad]
        self.optimiser = kind(learned, lr=learning_rate) if learned else None

    def at(self, temperature: float | Tensor) -> Estimator:
        """The estimator at a temperature, where it has one; what is learned is shared."""
        own = {item.name for item in dataclasses.fields(self.estimator)}
        return dataclasses.replace(self.estimator, **{"temperature": temperature} if "temperature" in own else {})

    def step(self, learning_rate: float | None = None) -> None:
        """Move the control along the slopes that ``learn`` has left, and clear them."""
        if self.optimiser is not None:
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate or group["lr"]
            self.optimiser.step()
            self.optimiser.zero_grad()


def control_of(estimator: Estimator) -> nn.Module:
    """What an estimator learns; an empty module if nothing."""
    return nn.Module() if estimator.control is None else estimator.control


@contextmanager
def held(estimator: Estimator) -> Iterator[None]:
    """Within, a call leaves what the estimator learns as it is: no running mean advances."""
    control = control_of(estimator)
    training = control.training
    control.eval()
    try:
        yield
    finally:
        control.train(training)
