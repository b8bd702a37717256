r"""How good a gradient is: bias, variance and cosine against the exact gradient of the discrete ELBO.

For M draws g of a gradient whose truth is g*:

- bias: :math:`\|E g - g^*\| / \|g^*\|`, from the mean of the draws, its square corrected for the variance of that mean
  and so around zero for an unbiased gradient; that square over its standard error, z, tells bias from noise;
- variance: :math:`\operatorname{tr} \operatorname{Cov}(g) / \|g^*\|^2`;
- cosine: the mean of cos(g, g*) over the draws, and cos(E g, g*);
- signal to noise: :math:`\|E g\| / \sqrt{\operatorname{tr} \operatorname{Cov}(g)}`, its square likewise corrected.

The encoder (before the sample) and the decoder (after it) are measured apart. The draws are of what a run optimises:
its estimator and its KL term together, so that a term other than the categorical one counts as bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softhot.bounds import Objective
from softhot.estimators import Exact, LeaveOneOut
from softhot.lab.learner import held
from softhot.lab.seeds import stream
from softhot.lab.training import objective_of
from softhot.problems.vae import CategoricalVAE

__all__ = ["Quality", "Reference", "measure", "quality", "reference"]

_BLOCKS = 16  # of the jackknife
_ROUNDING = 1e-8  # of the squared relative bias, in float32


@dataclass(frozen=True)
class Quality:
    """The numbers of the module's docstring, with jackknife standard errors of bias and cosine."""

    bias: float
    bias_se: float
    bias_z: float
    variance: float
    cosine: float
    cosine_se: float
    cosine_of_mean: float
    snr: float


@dataclass(frozen=True)
class Reference:
    """The true gradient by part, the variance of what stands for it (zero if exact), and how it was found."""

    gradient: dict[str, Tensor]
    variance: dict[str, float]
    how: str


def reference(model: CategoricalVAE, x: Tensor, *, seed: int = 0, limit: int = 2**14, draws: int = 400) -> Reference:
    """The gradient of the mean discrete ELBO of images: exact, or the mean of many unbiased draws.

    Arguments:
        model: the model, at the weights in question.
        x: images, of shape (n, D).
        seed: of the draws, where enumeration is beyond the limit.
        limit: the largest number of configurations that is enumerated.
        draws: of leave-one-out with 16 samples each, otherwise.
    """
    if model.classes**model.latents <= limit:
        exact = _draw(model, Objective(Exact(limit=limit)), x, stream(seed, "reference"))
        return Reference(exact, dict.fromkeys(exact, 0.0), "exact")
    objective = Objective(LeaveOneOut(samples=16))
    many = _draws(model, objective, x, draws, stream(seed, "reference"))
    return Reference(
        {part: value.mean(0) for part, value in many.items()},
        {part: value.var(0).sum().item() / draws for part, value in many.items()},
        f"leave-one-out, {draws} x 16 draws",
    )


def measure(
    model: CategoricalVAE, objective: Objective, x: Tensor, truth: Reference, *, draws: int = 64, seed: int = 0
) -> dict[str, Quality]:
    """The quality of an objective's gradient, for "encoder" and "decoder"."""
    if isinstance(objective.estimator, Exact) and objective.term.exact:
        draws = _BLOCKS  # there is no noise in it
    with held(objective.estimator):
        many = _draws(model, objective, x, draws, stream(seed, "gradient"))
    return {part: quality(value, truth.gradient[part], truth.variance[part]) for part, value in many.items()}


def quality(draws: Tensor, truth: Tensor, truth_variance: float = 0.0) -> Quality:
    """The numbers of the module's docstring, from draws of shape (M, P) and the truth of shape (P,).

    Raises:
        ValueError: If there are too few draws for a standard error.

    Example:
        >>> import torch
        >>> quality(torch.ones(16, 3), torch.ones(3)).cosine
        1.0
    """
    if len(draws) < _BLOCKS:
        raise ValueError(f"{len(draws)} draws are too few for a standard error; use {_BLOCKS} or more.")
    draws, truth = draws.to(torch.float64), truth.to(torch.float64)
    norm = truth.norm().item()
    if norm == 0 or not math.isfinite(norm):
        return Quality(*(math.nan,) * 8)
    cosines = nn.functional.cosine_similarity(draws, truth[None], dim=-1)
    mean = draws.mean(0)
    spread = draws.var(0).sum().item()

    def squared_bias(part: Tensor) -> float:
        noise: float = part.var(0).sum().item() / len(part) + truth_variance
        return float(((part.mean(0) - truth).square().sum().item() - noise) / norm**2)

    squared, squared_se = squared_bias(draws), _jackknife(squared_bias, draws)
    signal = max(mean.square().sum().item() - spread / len(draws), 0.0)
    return Quality(
        bias=math.sqrt(max(squared, 0.0)),
        bias_se=squared_se / (2 * math.sqrt(max(squared, squared_se, _ROUNDING))),
        bias_z=squared / squared_se if max(squared, squared_se) > _ROUNDING else 0.0,
        variance=spread / norm**2,
        cosine=min(cosines.mean().item(), 1.0),
        cosine_se=cosines.std().item() / math.sqrt(len(draws)),
        cosine_of_mean=nn.functional.cosine_similarity(mean, truth, dim=-1).item(),
        snr=math.sqrt(signal / spread) if spread > 0 else math.inf,
    )


def _jackknife(statistic: Callable[[Tensor], float], draws: Tensor) -> float:
    blocks = draws.tensor_split(_BLOCKS)
    left = [statistic(torch.cat([*blocks[:i], *blocks[i + 1 :]])) for i in range(_BLOCKS)]
    centre = sum(left) / _BLOCKS
    return math.sqrt((_BLOCKS - 1) / _BLOCKS * math.fsum((value - centre) ** 2 for value in left))


def _draws(
    model: CategoricalVAE, objective: Objective, x: Tensor, draws: int, generator: torch.Generator
) -> dict[str, Tensor]:
    many = [_draw(model, objective, x, generator) for _ in range(draws)]
    return {part: torch.stack([one[part] for one in many]) for part in many[0]}


def _draw(model: CategoricalVAE, objective: Objective, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    parts = {"encoder": list(model.encoder.parameters()), "decoder": list(model.decoder.parameters())}
    value = objective_of(model, objective, x, generator).mean()
    gradients = iter(torch.autograd.grad(value, [*parts["encoder"], *parts["decoder"]]))
    return {part: torch.cat([next(gradients).flatten() for _ in own]) for part, own in parts.items()}
