"""The likeliest configurations of a target: all are looked at where there are few, otherwise by local search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.estimators.integrand import numbers
from softhot.functional.check import counted, sizes
from softhot.inference.fit import LogJoint, starting, values_at

__all__ = ["Found", "likeliest"]

_CHUNK = 2**14  # configurations evaluated at once
_AT_ONCE = 8  # configurations whose surroundings are looked at before the likeliest are chosen anew


class Found(NamedTuple):
    """Configurations, as classes, and the logarithm of their joint probability, the likeliest first."""

    classes: Int[Tensor, "count N"]
    log_joint: Float[Tensor, " count"]
    evaluations: int
    proven: bool


@torch.no_grad()
def likeliest(
    log_joint: LogJoint,
    cardinalities: Sequence[int],
    count: int,
    *,
    limit: int = 2**16,
    starts: Int[Tensor, "starts N"] | int = 1024,
    reach: int = 2,
    dtype: torch.dtype = torch.float64,
    generator: torch.Generator | None = None,
) -> Found:
    """The likeliest configurations, up to `count` of those that are possible.

    Where there are more than `limit` configurations, they are searched for: from the starts, every configuration among
    the likeliest has those around it evaluated, until none of them is left. What is returned is then the best of all
    that differ from it in up to `reach` variables, and not proven to be the best of all.

    Arguments:
        log_joint: the target; see :mod:`softhot.inference.fit`.
        cardinalities: the number of classes of each of the N variables.
        count: how many are wanted.
        limit: the largest number of configurations that are all evaluated.
        starts: classes of configurations to search from, or how many to draw; at least one must be possible.
        reach: how many variables a step of the search changes at once.
        dtype: of the one-hot vectors that the target is given.
        generator: the source of randomness of the starts; torch's default generator if not given.

    Raises:
        ValueError: If nothing possible is found, the target gives NaN, or an argument is out of range.

    Example:
        >>> import torch
        >>> weights = torch.tensor([[0.0, 3.0], [1.0, 0.0]])
        >>> found = likeliest(lambda z: (z * weights).sum((-1, -2)), (2, 2), 3)
        >>> found.classes.tolist(), found.log_joint.tolist()
        ([[1, 0], [1, 1], [0, 0]], [4.0, 3.0, 1.0])
    """
    own = torch.tensor(sizes(cardinalities))
    for name, value in (("count", count), ("reach", reach), ("limit", limit)):
        counted(name, value, 1, "finds nothing")
    total = math.prod(own.tolist())
    if total <= limit:
        # the last variable the fastest
        place = torch.cat([own.flip(0).cumprod(0).flip(0)[1:], torch.ones(1, dtype=torch.long)])
        every = torch.arange(total)[:, None] // place % own
        return Found(*_best(every, _evaluate(log_joint, every, own, dtype), count), total, True)
    if not isinstance(starts, Tensor):
        counted("starts", starts, 1, "leaves nothing to search from")
        draws = torch.rand(starts, len(own), dtype=torch.float64, generator=generator)
        starts = (draws * own).long()
    moves = _moves(own, reach)
    known = starting(starts, own).unique(dim=0)
    values = _evaluate(log_joint, known, own, dtype)
    evaluations = len(known)
    known, values = _best(known, values, count)
    seen: set[tuple[int, ...]] = set()
    while True:
        new = [row for row, key in zip(known, map(tuple, known.tolist()), strict=True) if key not in seen][:_AT_ONCE]
        if not new:
            return Found(known, values, evaluations, False)
        seen.update(tuple(row.tolist()) for row in new)
        around = ((torch.stack(new)[:, None] + moves) % own).flatten(0, 1).unique(dim=0)
        evaluations += len(around)
        both = torch.cat([known, around]), torch.cat([values, _evaluate(log_joint, around, own, dtype)])
        rows, first = both[0].unique(dim=0, return_inverse=True)
        merged = values.new_full((len(rows),), -math.inf).index_put((first,), both[1])
        known, values = _best(rows, merged, count)


def _moves(own: Tensor, reach: int) -> Tensor:
    """What to add to a configuration, modulo the numbers of classes, for all that differ in up to `reach` variables."""
    moves = []
    for changed in range(1, min(reach, len(own)) + 1):
        for chosen in itertools.combinations(range(len(own)), changed):
            for steps in itertools.product(*(range(1, int(own[n])) for n in chosen)):
                move = torch.zeros(len(own), dtype=torch.long)
                move[list(chosen)] = torch.tensor(steps)
                moves.append(move)
    return torch.stack(moves)


def _evaluate(log_joint: LogJoint, classes: Tensor, own: Tensor, dtype: torch.dtype) -> Tensor:
    target = numbers(log_joint, "log_joint")
    value = torch.cat([target(one_hot(part, int(own.max())).to(dtype)) for part in classes.split(_CHUNK)])
    return values_at(classes, value)


def _best(classes: Tensor, values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    order = values.argsort(descending=True)[:count]
    order = order[values[order] > -math.inf]
    if not len(order):
        raise ValueError(f"none of {len(values)} configurations is possible; use starts=... with classes that are.")
    return classes[order], values[order]
