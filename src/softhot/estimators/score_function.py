r"""REINFORCE, with no, a running or a learned baseline.

.. math:: \hat g = \frac{1}{n} \sum_i \big( f(z_i) - b \big) \nabla_\ell \log q_\ell(z_i)

Unbiased for every baseline b that does not depend on the draws: none; the running mean of the costs of *past* calls;
or a module of the logits, learned by least squares, :math:`(f(z) - b(\ell))^2` (neural variational inference and
learning, NVIL). Costs n evaluations of f, which need not be differentiable.

References:
    Williams (1992), "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
    Mnih, Gregor (2014), "Neural variational inference and learning in belief networks".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softhot.estimators.controlled import Controlled, Parts
from softhot.estimators.gradients import detached, scored
from softhot.estimators.integrand import Integrand
from softhot.functional import one_hot_sample
from softhot.functional.check import counted
from softhot.kl.term import Sample
from softhot.names import unknown

__all__ = ["BASELINES", "LearnedBaseline", "RunningMean", "ScoreFunction"]


class RunningMean(nn.Module):
    """The mean cost of the calls so far: plain at first, exponentially forgetting once they are many.

    It advances after a call has used it, and only in training mode (``.eval()`` holds it).

    Arguments:
        decay: how much of the past is kept once there is enough of it, between 0 and 1.

    Example:
        >>> import torch, softhot
        >>> baseline = softhot.estimators.RunningMean()
        >>> estimator = softhot.estimators.ScoreFunction(baseline=baseline)
        >>> logits = torch.zeros(5, 1, 2)
        >>> baseline(logits), estimator(lambda z: 3 * z.sum((-1, -2)), logits).mean(), baseline(logits)
        (tensor(0.), tensor(3.), tensor(3.))
    """

    mean: Tensor
    calls: Tensor

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"RunningMean(decay={decay}) is not in [0, 1); use decay=0.99, for example.")
        self.decay = decay
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        """The mean so far, zero before the first call."""
        return self.mean.clone()

    def advance(self, cost: Tensor) -> None:
        """Take in the costs of a call; of an empty batch there are none."""
        if not cost.numel():
            return
        self.calls += 1
        rate = torch.clamp_min(1 / self.calls, 1 - self.decay)
        self.mean += rate * (cost.detach().mean() - self.mean)


class LearnedBaseline(nn.Module):
    """A perceptron of the probabilities with one hidden layer, zero before it is learned.

    Arguments:
        latents, classes: N and K.
        hidden: the width of the hidden layer.

    Example:
        >>> import torch, softhot
        >>> softhot.estimators.LearnedBaseline(2, 3)(torch.zeros(5, 2, 3)).shape
        torch.Size([5])
    """

    def __init__(self, latents: int, classes: int, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(latents * classes, hidden)
        self.value = nn.Linear(hidden, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, logits: Tensor) -> Tensor:
        """The baseline of logits of shape (..., N, K)."""
        probs = logits.softmax(-1).flatten(-2).to(self.value.weight.dtype)
        baseline: Tensor = self.value(self.hidden(probs).relu())
        return baseline.squeeze(-1)


BASELINES: dict[str, Callable[[int, int], nn.Module | None]] = {
    "none": lambda latents, classes: None,
    "running": lambda latents, classes: RunningMean(),
    "learned": LearnedBaseline,
}
"""What makes a baseline for N variables of K classes, by its name."""


@dataclass(frozen=True)
class ScoreFunction(Controlled):
    r"""REINFORCE, with a baseline that has not seen the draws.

    Arguments:
        samples: the number of draws n.
        baseline: None; a :class:`RunningMean`; or a module that maps logits of shape (\*batch, N, K), given without
            their graph, to a baseline of shape (\*batch) and is learned by :meth:`learn`.

    Raises:
        ValueError: If samples < 1; when called, if the baseline's shape is wrong.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 3, requires_grad=True)
        >>> softhot.estimators.ScoreFunction()(lambda z: z.sum((-1, -2)), logits).item()
        1.0
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Williams 1992; Mnih & Gregor 2014"

    samples: int = 1
    baseline: nn.Module | None = None

    def __post_init__(self) -> None:
        counted("samples", self.samples, 1, "draws nothing", who="ScoreFunction")

    @classmethod
    def of_size(cls, latents: int, classes: int, *, baseline: str = "none", **settings: Any) -> Self:
        """With the baseline of a name in BASELINES."""
        if baseline not in BASELINES:
            raise unknown("baseline", baseline, BASELINES)
        return cls(baseline=BASELINES[baseline](latents, classes), **settings)

    @property
    def control(self) -> nn.Module | None:
        return self.baseline

    def parts(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None, learning: bool
    ) -> Parts:
        z = one_hot_sample(logits.detach().expand(self.samples, *logits.shape), generator=generator)
        value = f(z)  # with gradient: f may have parameters of its own
        cost, known = value.detach(), detached(logits)
        with torch.set_grad_enabled(learning):
            error = cost - self._baseline(known)
        gradient = scored(error.detach(), z, known).mean(0)
        if isinstance(self.baseline, RunningMean) and self.baseline.training:
            self.baseline.advance(cost)
        return Parts(value.mean(0), gradient, error.square().mean(0))

    def _baseline(self, logits: Tensor) -> Tensor:
        if self.baseline is None:
            return logits.new_zeros(())
        b: Tensor = self.baseline(logits)
        if b.shape not in (logits.shape[:-2], torch.Size()):
            raise ValueError(
                f"the baseline gives shape {tuple(b.shape)} for a batch of shape {tuple(logits.shape[:-2])}; use a "
                "module that gives one number per element of the batch."
            )
        return b

    def evaluations(self, latents: int, classes: int) -> int:
        return self.samples
