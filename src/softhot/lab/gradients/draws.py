"""Gradients drawn, and held against the truth: exact by enumeration, or the mean of many unbiased draws.

What is measured of them is defined in :mod:`softhot.lab.gradients.quality`. The encoder (before the sample) and the
decoder (after it) are measured apart. The draws are of what is optimised: an estimator and a KL term together, so that
a term other than the categorical one counts as bias.

Of a mixture of discrete flows the configurations are constant in the logits almost everywhere, and so the true gradient
to the encoder is zero: nothing can be said of it relative to that.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from softhot.estimators import Estimator, LeaveOneOut
from softhot.lab.gradients.quality import BLOCKS, Quality, Tally, Truth
from softhot.lab.gradients.targets import Target
from softhot.lab.seeds import stream
from softhot.lab.training.learner import held

__all__ = ["REFERENCE", "Measurement", "Reference", "measure", "reference", "tallied"]

REFERENCE = 400  # draws of a reference
_SAMPLES = 16  # of leave-one-out, for one draw of a reference


@dataclass(frozen=True)
class Reference:
    """What stands for the true gradient, by part, and how it was found."""

    parts: dict[str, Truth]
    how: str


@dataclass(frozen=True)
class Measurement:
    """The quality of a gradient by part, the number of draws, and the median time that one took."""

    parts: dict[str, Quality]
    draws: int
    seconds: float


def reference(target: Target, *, seed: int = 0, limit: int = 2**14, draws: int = REFERENCE) -> Reference:
    """The true gradient of a target: exact, or the mean of many unbiased draws.

    Arguments:
        target: such as :class:`softhot.lab.gradients.targets.VaeTarget`.
        seed: of the draws, where enumeration is beyond the limit.
        limit: the most configurations of a model that are enumerated; a problem knows its gradient, or has its own.
        draws: of leave-one-out with 16 samples each, otherwise; rounded up to a multiple of 16.
    """
    exact = target.exact(limit)
    if exact is not None:
        return Reference({part: Truth(gradient) for part, gradient in exact.items()}, "exact")
    target, noise, each = target.discrete(), stream(seed, "reference", device=target.device), -(-draws // BLOCKS)
    sums: dict[str, list[torch.Tensor]] = {part: [] for part in target.parts}
    for _ in range(BLOCKS):
        for draw in range(each):
            for part, gradient in target.draw(LeaveOneOut(samples=_SAMPLES), noise).items():
                if draw == 0:
                    sums[part].append(torch.zeros_like(gradient, dtype=torch.float64))
                sums[part][-1] += gradient
    return Reference(
        {part: Truth.of_blocks(torch.stack(blocks) / each) for part, blocks in sums.items()},
        f"leave-one-out, {each * BLOCKS} x {_SAMPLES} draws",
    )


def measure(target: Target, estimator: Estimator, truth: Reference, *, draws: int = 64, seed: int = 0) -> Measurement:
    """The quality of an estimator's gradient; what the estimator has learned is used, and kept as it is.

    Raises:
        ValueError: If there are too few draws for a standard error.
    """
    noise, seconds = stream(seed, "gradient", device=target.device), []

    def draw() -> list[dict[str, torch.Tensor]]:
        start = _now(target.device)
        gradient = target.draw(estimator, noise)
        seconds.append(_now(target.device) - start)
        return [gradient]

    with held(estimator):
        target.draw(estimator, stream(seed, "warm", device=target.device))  # what is compiled or cached is so now
        (found,) = tallied(draw, [truth], estimator, draws)
    return Measurement(found, len(seconds), statistics.median(seconds))


def tallied(
    draw: Callable[[], Sequence[dict[str, torch.Tensor]]],
    truths: Sequence[Reference],
    estimator: Estimator,
    draws: int,
) -> list[dict[str, Quality]]:
    """The quality by part of the gradients of one or more targets, each held against its own truth.

    Arguments:
        draw: gives a gradient by part of every target.
        truths: of the targets.
        estimator: whose gradients they are; of one without noise, few are drawn.
        draws: how many, otherwise.
    """
    tallies = [{part: Tally(one) for part, one in truth.parts.items()} for truth in truths]
    for _ in range(draws if estimator.random else 2 * BLOCKS):
        for own, gradient in zip(tallies, draw(), strict=True):
            for part, tally in own.items():
                tally.add(gradient[part])
    return [{part: tally.quality() for part, tally in own.items()} for own in tallies]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # what was launched is done
    return time.perf_counter()
