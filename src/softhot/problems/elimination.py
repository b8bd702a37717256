r"""Exact sums over all configurations of discrete variables, by variable elimination.

Of factors, each a function of a few variables, the law

.. math:: p(z) = \frac{1}{Z} \prod_f e^{\phi_f(z_f)}, \qquad \log Z = \log \sum_z \prod_f e^{\phi_f(z_f)}

is summed one variable at a time: the factors that hold a variable are added up, and the logarithm of the sum over its
states is a new factor of the others. A second pass, the other way round, gives every marginal and
:math:`E[\sum_f \phi_f]`, and with it the entropy :math:`\log Z - E[\sum_f \phi_f]`.

All is in log space, and -inf is allowed: no quotient and no difference is taken where there is no mass. The next
variable is the one with the smallest sum of factors.

Reference:
    Dechter (1999), "Bucket elimination: a unifying framework for reasoning".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softhot.functional import one_hot_sample

__all__ = ["Eliminated", "Factor", "draw", "eliminate"]

LIMIT = 2**24


class Factor(NamedTuple):
    """A function of some variables: their numbers, in any order, and a log value with a dimension for each."""

    scope: tuple[int, ...]
    log_value: Float[Tensor, "..."]


class Eliminated(NamedTuple):
    """What is known of a law once its variables are summed out.

    Attributes:
        log_partition: log Z; -inf if there is no mass.
        marginals: the probability of each class of each variable, with zeros behind those that have fewer.
        entropy: in nats.
        shares: the log-probability of each variable, the first of a scope, given some of those before it.
    """

    log_partition: float
    marginals: Float[Tensor, "N K"]
    entropy: float
    shares: tuple[Factor, ...]


class _Bucket(NamedTuple):
    own: tuple[Factor, ...]  # those given that hold the variable
    share: Factor  # the log-probability of the variable, which comes first, given those that were left


def eliminate(factors: Sequence[Factor], cardinalities: Sequence[int], *, limit: int = LIMIT) -> Eliminated:
    """Sum out all variables.

    Arguments:
        factors: of the law; one of no variables is a constant.
        cardinalities: the number of classes of each variable.
        limit: the largest number of entries of a sum of factors.

    Raises:
        ValueError: If a variable cannot be summed out within the limit.

    Example:
        >>> import torch
        >>> pair = Factor((0, 1), torch.tensor([[3.0, 1.0], [0.0, 4.0]]).log())
        >>> found = eliminate([pair], (2, 2))
        >>> round(math.exp(found.log_partition), 4), found.marginals
        (8.0, tensor([[0.5000, 0.5000],
                [0.3750, 0.6250]]))
    """
    # every variable has a factor, so that its marginal has a place
    like = factors[0].log_value if factors else torch.zeros(())
    given = {id(factor.log_value) for factor in factors}
    buckets = dict[int, _Bucket]()
    waiting: list[list[Factor]] = [[] for _ in cardinalities]  # of a variable, the factors that hold it
    near = [{n} for n in range(len(cardinalities))]  # a variable, and those that it has a factor with
    constants = [factor for factor in factors if not factor.scope]
    for factor in factors:
        for n in factor.scope:
            waiting[n].append(factor)
            near[n].update(factor.scope)
    for n, size in enumerate(cardinalities):
        waiting[n].append(Factor((n,), like.new_zeros(size)))
    sizes = {n: math.prod(cardinalities[m] for m in scope) for n, scope in enumerate(near)}
    queue = [(size, n) for n, size in sizes.items()]  # with sizes of before, too, which are passed over
    heapify(queue)
    while queue:
        size, variable = heappop(queue)
        if sizes.get(variable) != size:
            continue
        if size > limit:
            raise ValueError(
                f"variable {variable} cannot be summed out: with those it depends on it has {size:,} "
                f"configurations, more than the limit of {limit:,}; use a sparser network, or a larger limit."
            )
        del sizes[variable]
        held = [factor for factor in waiting[variable] if not any(n in buckets for n in factor.scope)]
        scope = (variable, *sorted(near[variable] - {variable}))
        for n in scope[1:]:
            near[n] |= near[variable]
            near[n].discard(variable)
            sizes[n] = math.prod(cardinalities[m] for m in near[n])
            heappush(queue, (sizes[n], n))
        whole = _summed([_aligned(factor, scope) for factor in held])
        message = whole.logsumexp(0)
        share = (whole - message).masked_fill(message == -math.inf, -math.inf)
        own = tuple(factor for factor in held if id(factor.log_value) in given)
        buckets[variable] = _Bucket(own, Factor(scope, share))
        # what is passed on stays near zero, where rounding is small
        most = message.max()
        passed = Factor(scope[1:], torch.where(message > -math.inf, message - most, message))
        constants += [Factor((), most)] if passed.scope else [Factor((), most), passed]
        for n in passed.scope:
            waiting[n].append(passed)
    log_partition = math.fsum(factor.log_value.item() for factor in constants)
    marginals = like.new_zeros(len(cardinalities), max(cardinalities, default=1))
    if log_partition == -math.inf:
        return Eliminated(log_partition, marginals, math.nan, ())
    mean = math.fsum(factor.log_value.item() for factor in factors if not factor.scope)
    beliefs: dict[int, Factor] = {}
    turns = {variable: turn for turn, variable in enumerate(buckets)}
    for variable, bucket in reversed(buckets.items()):
        belief = _belief(bucket.share, beliefs, turns)
        beliefs[variable] = Factor(bucket.share.scope, belief)
        probs = belief.exp()
        marginals[variable, : len(probs)] = probs.reshape(len(probs), -1).sum(-1)
        for factor in bucket.own:
            value = _aligned(factor, bucket.share.scope)
            mean += (probs * value.masked_fill(value == -math.inf, 0.0)).sum().item()
    shares = tuple(bucket.share for bucket in reversed(buckets.values()))
    return Eliminated(log_partition, marginals, log_partition - mean, shares)


def draw(law: Eliminated, count: int, *, generator: torch.Generator | None = None) -> Int[Tensor, "count N"]:
    """Independent draws of all variables, as classes.

    Arguments:
        law: what :func:`eliminate` gave.
        count: how many.
        generator: the source of randomness; torch's default generator if not given.

    Raises:
        ValueError: If the law has no mass.

    Example:
        >>> import torch
        >>> draw(eliminate([Factor((0, 1), torch.tensor([[0.0, 0.0], [0.0, 1.0]]).log())], (2, 2)), 3)
        tensor([[1, 1],
                [1, 1],
                [1, 1]])
    """
    if law.log_partition == -math.inf:
        raise ValueError("nothing can be drawn: every configuration has a factor of -inf; change one of the factors.")
    classes = torch.zeros(count, len(law.marginals), dtype=torch.long)
    for (variable, *others), log_value in law.shares:
        logits = log_value.movedim(0, -1)[tuple(classes[:, n] for n in others)]
        z = one_hot_sample(logits.expand(count, log_value.shape[0]), generator=generator)
        classes[:, variable] = z.argmax(-1)
    return classes


def _aligned(factor: Factor, scope: Sequence[int]) -> Tensor:
    """The values with a dimension for each variable of a larger scope, of one entry where the factor lacks it."""
    order = sorted(range(len(factor.scope)), key=lambda i: scope.index(factor.scope[i]))
    shape = iter(factor.log_value.shape[i] for i in order)
    return factor.log_value.permute(order).reshape([next(shape) if n in factor.scope else 1 for n in scope])


def _summed(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _belief(share: Factor, beliefs: dict[int, Factor], turns: dict[int, int]) -> Tensor:
    """The log-probabilities of all variables of a bucket: its share, times those of the others."""
    rest = share.scope[1:]
    if not rest:
        return share.log_value
    # all of them are in the bucket of the first that was summed out
    scope, log_value = beliefs[min(rest, key=turns.__getitem__)]
    gone = [i for i, n in enumerate(scope) if n not in rest]
    others = Factor(tuple(n for n in scope if n in rest), log_value.logsumexp(gone) if gone else log_value)
    belief = share.log_value + _aligned(others, rest)
    total: Tensor = belief.logsumexp(tuple(range(belief.dim())))
    return belief - total
