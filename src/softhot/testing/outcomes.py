r"""The exact mean and variance of an estimator, over everything that its draws may be.

An estimator that draws only from finite sets is a function of its draws, and has the exact moments

.. math:: E \hat g = \sum_\omega P(\omega) \, \hat g(\omega), \qquad
    \operatorname{Var} \hat g = \sum_\omega P(\omega) \, (\hat g(\omega) - E \hat g)^2

over the outcomes :math:`\omega` of all its draws. They are found by running it again and again: with no draw known it
runs up to its first one; with every class that this may have taken, to the second; and so on to the end. Later draws
may depend on earlier ones, and nothing of probability zero is tried. Outcomes are run side by side, along a leading
dimension of the batch, as long as every draw keeps that dimension apart, and one by one otherwise.

Gumbel noise of two classes is one number, and is integrated. Given that class i has the larger score, the other one is
less by :math:`\log(1 + e^x / \pi_k)`, x logistic; the trapezoid rule, of step 0.5 from -18 to 18, gives means to
1e-8 of the standard deviation at temperatures from 0.5, and to 1e-6 from 0.05.

Nothing is patched. While an estimator runs, a dispatch mode of torch, which is a matter of the thread and of the
``with`` block, answers the draws that it sees: those of softhot (:func:`softhot.functional.one_hot_sample`,
:func:`softhot.functional.relaxed_sample`, and what is built on them), :func:`torch.multinomial` and
:func:`torch.bernoulli`, and so those of the categorical distributions of both. It refuses all other randomness of
torch and softhot, such as the Gumbel noise of more than two classes. It cannot see that of other libraries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot, softplus
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from softhot.estimators import Estimator, Integrand
from softhot.kernels.philox import END
from softhot.kernels.temper import tempered

__all__ = ["ExactMoments", "Moments", "NotEnumerable", "exact_moments"]

_SIDE_BY_SIDE = 1009  # outcomes; a prime, which no other dimension is likely to be
_NODES = torch.arange(-18.0, 18.25, 0.5, dtype=torch.float64)  # of logistic noise


class NotEnumerable(ValueError):
    """The error for an estimator whose draws are not finitely many, or too many."""


class Moments(NamedTuple):
    """The mean and the variance of each component."""

    mean: Tensor
    variance: Tensor


class ExactMoments(NamedTuple):
    """Those of the value, of the gradient to the logits and of that to each parameter.

    And the number of outcomes that they are of, and whether noise was integrated, which is exact to 1e-6 only.
    """

    value: Moments
    gradient: Moments
    parameters: tuple[Moments, ...]
    outcomes: int
    integrated: bool


def exact_moments(
    estimator: Estimator,
    f: Callable[..., Tensor],
    logits: Float[Tensor, "N K"],
    parameters: Sequence[Tensor] = (),
    *,
    limit: int = 25_000,
    side_by_side: bool = True,
) -> ExactMoments:
    r"""The exact mean and variance of what one call of an estimator gives, over all outcomes of its draws.

    Arguments:
        estimator: of this library, or your own.
        f: maps z of shape (\*sample, \*batch, N, K), and parameters that have a leading \*batch too, to
            (\*sample, \*batch); it treats the elements of a batch one by one.
        logits: of shape (N, K), in float64 for moments to rounding.
        parameters: of f, to which the estimate has a gradient as well.
        limit: the largest number of outcomes that is tried.
        side_by_side: run them as a batch; one by one is slower, and for an estimator or f that takes no batch.

    Raises:
        NotEnumerable: A ValueError, if the estimator draws anything continuous but Gumbel noise of two classes, or has
            more outcomes than the limit.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, dtype=torch.float64)
        >>> found = exact_moments(softhot.estimators.ScoreFunction(), lambda z: z[..., 0].sum(-1), logits)
        >>> found.gradient.mean, found.gradient.variance.sum()
        (tensor([[ 0.2500, -0.2500]], dtype=torch.float64), tensor(0.1250, dtype=torch.float64))
    """
    inputs = [part.detach() for part in (logits, *parameters)]
    try:
        log_mass, outcomes, integrated = _explore(estimator, f, inputs, limit, _SIDE_BY_SIDE if side_by_side else None)
    except _Entangled:
        log_mass, outcomes, integrated = _explore(estimator, f, inputs, limit, None)
    value, gradient, *rest = (_moments(each, log_mass.exp().to(each.device)) for each in outcomes)
    return ExactMoments(value, gradient, tuple(rest), len(log_mass), integrated)


def _moments(outcomes: Tensor, mass: Tensor) -> Moments:
    outcomes = outcomes.to(torch.float64)
    mean = torch.tensordot(mass, outcomes, 1)
    return Moments(mean, torch.tensordot(mass, (outcomes - mean) ** 2, 1))


def _explore(
    estimator: Estimator, f: Callable[..., Tensor], inputs: list[Tensor], limit: int, side_by_side: int | None
) -> tuple[Tensor, list[Tensor], bool]:
    """The log-probability of every outcome, what the estimator gives there, and whether any noise was integrated."""
    integrated = False
    done: list[tuple[Tensor, list[Tensor]]] = []
    begun: list[tuple[Tensor, list[Tensor]]] = [(torch.zeros(1, dtype=torch.float64), [])]
    while begun:
        log_mass, known = begun.pop()
        try:
            done.append((log_mass, _run(estimator, f, inputs, known, len(log_mass), side_by_side)))
        except _More as draw:
            integrated |= draw.continuous
            left = limit - sum(len(each[0]) for each in done + begun)
            parent, classes, log_mass = _continued(draw.log_probs, log_mass, left)
            known = [*(each[parent] for each in known), classes]
            size = side_by_side or 1
            pieces = zip(*(each.split(size) for each in known), strict=True)
            begun += zip(log_mass.split(size), map(list, pieces), strict=True)
    masses, found = zip(*done, strict=True)
    return torch.cat(masses), [torch.cat(each) for each in zip(*found, strict=True)], integrated


def _continued(log_probs: Tensor, log_mass: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """What each outcome so far, with log_probs of shape (outcomes, variables, classes), may become by one more draw."""
    parent = torch.arange(len(log_mass))
    classes = parent.new_empty(len(log_mass), 0)
    for variable in range(log_probs.shape[1]):
        row = log_probs[parent, variable]
        before, k = (row > -math.inf).nonzero(as_tuple=True)
        if not len(k):
            raise ValueError("draws are from logits that hold NaN; use torch.isfinite to find where it comes from.")
        if len(k) > limit:
            raise NotEnumerable(
                "there are more outcomes than the limit; use fewer draws, variables or classes, or a larger limit."
            )
        parent, log_mass = parent[before], log_mass[before] + row[before, k]
        classes = torch.cat((classes[before], k[:, None]), 1)
    return parent, classes, log_mass


def _run(
    estimator: Estimator,
    f: Callable[..., Tensor],
    inputs: list[Tensor],
    known: list[Tensor],
    count: int,
    side_by_side: int | None,
) -> list[Tensor]:
    """The value and the gradients of so many outcomes, of which the draws are known."""
    if side_by_side is not None:
        known = [torch.cat((each, each[:1].expand(side_by_side - count, -1))) for each in known]
        inputs = [each.expand(side_by_side, *each.shape) for each in inputs]
    leaves = [each.clone().requires_grad_() for each in inputs]
    draws = _Draws(known, count, side_by_side)
    with draws, torch.enable_grad():
        integrand = draws.unwatched(lambda z: f(z, *leaves[1:]))
        value = estimator(integrand, leaves[0], generator=torch.Generator(leaves[0].device))
        slopes = torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)
    found = [value.detach(), *slopes]
    return [each[:count] for each in found] if side_by_side is not None else [each[None] for each in found]


class _More(Exception):
    """There is a draw that is not known yet."""

    def __init__(self, log_probs: Tensor, continuous: bool) -> None:
        self.log_probs, self.continuous = log_probs, continuous


class _Entangled(Exception):
    """Which of the outcomes a draw belongs to cannot be seen."""


class _Draws(TorchDispatchMode):
    """Answers draws with known ones."""

    def __init__(self, known: list[Tensor], count: int, side_by_side: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known, self.count, self.side_by_side = iter(known), count, side_by_side
        self.seeds: list[Tensor] = []
        self.watching = True

    def unwatched(self, f: Integrand) -> Integrand:
        """f, whose own operations are none of the estimator's."""

        def inside(z: Tensor) -> Tensor:
            self.watching = False
            try:
                return f(z)
            finally:
                self.watching = True

        return inside

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, ops = kwargs or {}, torch.ops
        if not self.watching:
            return func(*args, **kwargs)
        if func is ops.softhot.one_hot_sample.default:
            return self.one_hot(args[0])
        if func is ops.softhot.relaxed_sample.default and args[3] == "straight":
            return args[0].softmax(-1), self.one_hot(args[0])
        if func is ops.softhot.relaxed_sample.default and args[0].shape[-1] == 2:
            return self.relaxed(args[0], args[1], args[3])
        if func is ops.aten.multinomial.default and (args[1] == 1 or args[2:3] == (True,)):
            log_probs = args[0].log()[..., None, :]
            return self.classes(log_probs.expand(*args[0].shape[:-1], args[1], -1))
        if func is ops.aten.bernoulli.default:
            return self.classes(torch.stack((1 - args[0], args[0]), -1).log()).to(args[0].dtype)
        if func.overloadpacket is ops.aten.randint and tuple(args[:2]) == (END, []):
            self.seeds.append(func(*args, **kwargs))
            return self.seeds[-1]
        of_seed = func is not ops.aten.detach.default and any(self.is_seed(x) for x in tree_leaves(args))
        if of_seed or torch.Tag.nondeterministic_seeded in func.tags:
            raise NotEnumerable(
                f"it draws noise, by {func}, of which there are not finitely many values; "
                "use gradient_draws(...) and their mean."
            )
        return func(*args, **kwargs)

    def is_seed(self, x: Any) -> bool:
        return isinstance(x, Tensor) and any(x.data_ptr() == seed.data_ptr() for seed in self.seeds)

    def one_hot(self, logits: Tensor) -> Tensor:
        return one_hot(self.classes(logits), logits.shape[-1]).to(logits.dtype)

    def relaxed(self, logits: Tensor, temperature: Tensor, also: str) -> tuple[Tensor, Tensor]:
        """What the operator gives, at a node of the noise."""
        nodes = _NODES.to(logits.device)
        log_probs = logits.to(torch.float64).log_softmax(-1)
        weight = -softplus(nodes) - softplus(-nodes)
        chosen = self.classes((log_probs[..., None] + weight).flatten(-2), continuous=True)
        hard = one_hot(chosen // len(nodes), 2)
        behind = softplus(nodes[chosen % len(nodes)][..., None] - log_probs)
        log = tempered(torch.where(hard > 0, 0.0, -behind), temperature).log_softmax(-1)
        other = log if also == "log" else hard if also else log.new_empty(0)
        return log.exp().to(logits.dtype), other.to(logits.dtype)

    def classes(self, logits: Tensor, continuous: bool = False) -> Tensor:
        """The known classes of the next draw, of the shape of its logits but for the classes."""
        shape, axis = list(logits.shape[:-1]), 0
        if self.side_by_side is None:
            logits = logits[None]
        elif shape.count(self.side_by_side) != 1:
            raise _Entangled
        else:
            logits = logits.movedim(axis := shape.index(self.side_by_side), 0)
        classes = next(self.known, None)
        if classes is None:
            rows = logits.flatten(1, -2) if logits.dim() > 2 else logits[:, None]
            raise _More(rows[: self.count].to(torch.float64).log_softmax(-1).cpu(), continuous)
        classes = classes.reshape(logits.shape[:-1]).to(logits.device)
        return classes[0] if self.side_by_side is None else classes.movedim(0, axis)
