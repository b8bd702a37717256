"""Whether a contender computes what it is timed for: means of its draws against exact values in float64.

Every component of the value and of the gradient is held to its expected value by softhot.testing.assert_mean, with a
limit derived from a false-alarm rate of 1e-6 for each contender, task and direction. An exact contender's draws are all
the same, which leaves it the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.calls import cotangent
from benchmarks.peers import Contender
from softhot.testing import assert_mean

__all__ = ["FALSE_ALARM", "Task", "agree"]

FALSE_ALARM = 1e-6
LOGITS = (1.0, 0.0, -0.5, 2.0, 0.3)
PRIOR_LOGITS = (0.0, 0.5, 1.0, -1.0, 0.2)

Exact = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What is computed.

    Arguments:
        name: as the contenders call it.
        mean: its mean, an exact function of logits and prior logits.
        smooth: the function whose gradient its gradient has in the mean, if not that of the mean.
        simplex: its value is a point of the simplex.
    """

    name: str
    mean: Exact
    smooth: Exact | None = None
    simplex: bool = False


def agree(contenders: Iterable[Contender], tasks: Iterable[Task], draws: int, device: str = "cpu") -> int:
    """Assert that all contenders agree with the exact values; returns the number of comparisons.

    Raises:
        AssertionError: If one does not, with its name and the task.
    """
    count = 0
    for task in tasks:
        for contender in contenders:
            if task.name in contender.functions:
                for backward in (False, True):
                    _agree(contender, task, backward, draws, device)
                    count += 1
    return count


def _agree(contender: Contender, task: Task, backward: bool, draws: int, device: str) -> None:
    logits, prior = (torch.tensor(values, device=device).repeat(draws, 1) for values in (LOGITS, PRIOR_LOGITS))
    call = contender.bind(contender.functions[task.name], logits, prior, backward)
    found = [_tensor(each) for each in call.run()]
    try:
        for each, exact in zip(found, _truth(task), strict=False):
            assert_mean(each, exact, FALSE_ALARM)
        if task.simplex:
            torch.testing.assert_close(found[0].sum(-1), torch.ones(draws))
    except AssertionError as error:
        raise AssertionError(f"{contender.name}, {task.name}: {error}") from error


def _truth(task: Task) -> tuple[Tensor, Tensor]:
    """The exact value and gradient."""
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    prior = torch.tensor(PRIOR_LOGITS, dtype=torch.float64)
    value = (task.smooth or task.mean)(logits, prior)
    (gradient,) = torch.autograd.grad(value, logits, cotangent(tuple(value.shape), logits.detach()))
    return task.mean(logits.detach(), prior), gradient


def _tensor(value: Any) -> Tensor:
    """A tensor of torch's on the processor, from one of any library."""
    return value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
