"""Packages that have an estimator of softhot's too, and whether each gives the right gradient.

A contender gives the gradient in the logits of the sum over the batch of E[f(z)], each element by draws of its own.
With a batch of draws its mean is held against the exact gradient where the estimator has that mean, and otherwise
against the mean of softhot's. The other arguments are the same: temperature 1, four draws where an estimator needs
several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import OURS
from softhot.estimators import (
    Estimator,
    Exact,
    GumbelSoftmax,
    LeaveOneOut,
    Rebar,
    ReinMax,
    ScoreFunction,
    StraightThroughGumbelSoftmax,
    UnorderedSet,
)
from softhot.testing import assert_mean

__all__ = ["EXACT", "PEERS", "TWINS", "Library", "Maker", "ours", "quadratic", "wrong"]

Integrand = Callable[[Tensor], Tensor]
Gradient = Callable[[Integrand, Tensor], Tensor]  # of f and of logits that need it
TEMPERATURE, DRAWS = 1.0, 4
FALSE_ALARM = 1e-6
AT_ONCE = 10_000  # draws, of which some packages hold a thousand numbers each

TWINS: dict[str, Callable[[], Estimator]] = {
    "gumbel-softmax": lambda: GumbelSoftmax(temperature=TEMPERATURE),
    "st-gumbel-softmax": lambda: StraightThroughGumbelSoftmax(temperature=TEMPERATURE),
    "reinmax": ReinMax,
    "score-function": ScoreFunction,
    "leave-one-out": lambda: LeaveOneOut(samples=DRAWS),
    "unordered-set": lambda: UnorderedSet(samples=DRAWS),
    "rebar": Rebar,
}
EXACT = ("reinmax", "score-function", "leave-one-out", "unordered-set", "rebar")  # in the mean, for a quadratic f


@dataclass(frozen=True)
class Library:
    """A package: its name, its version, and its gradients by the name of the twin in softhot."""

    name: str
    version: str
    gradients: Mapping[str, Gradient]


Maker = Callable[[], Library]


def quadratic(latents: int, classes: int) -> Integrand:
    """A quadratic integrand whose terms join neighbouring variables."""
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(latents, classes, generator=draw) / latents**0.5

    def function(z: Tensor) -> Tensor:
        u = (z * weight.to(z.device)).sum(-1)
        value: Tensor = (u + u.roll(1, -1)).square().sum(-1) + u.sum(-1)
        return value

    return function


def wrong(library: Library, name: str, draws: int) -> str | None:
    """What is wrong with the mean of a package's gradient, or nothing."""
    f, logits = quadratic(2, 3), torch.randn(2, 3, generator=torch.Generator().manual_seed(2))
    sizes = [min(AT_ONCE, draws - first) for first in range(0, draws, AT_ONCE)]
    batches = [logits.repeat(size, 1, 1).requires_grad_() for size in sizes]
    found = torch.cat([library.gradients[name](f, batch) for batch in batches])
    if name in EXACT:
        one = logits.double().requires_grad_()
        (expected,) = torch.autograd.grad(Exact()(lambda z: f(z.float()).double(), one), one)
    else:
        twin = _of(TWINS[name]())
        found, expected = found - torch.cat([twin(f, batch) for batch in batches]), torch.zeros(2, 3)
    try:
        assert_mean(found, expected, FALSE_ALARM)
    except AssertionError as error:
        return str(error).splitlines()[0]
    return None


def ours() -> Library:
    """softhot."""
    return Library(OURS, f"softhot {version('softhot')}", {name: _of(make()) for name, make in TWINS.items()})


def _of(estimator: Estimator) -> Gradient:
    def gradient(f: Integrand, logits: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(estimator(f, logits).sum(), logits)
        return found

    return gradient


def _pathwise(draw: Callable[[Tensor], Tensor]) -> Gradient:
    """Of a sample that is differentiated."""

    def gradient(f: Integrand, logits: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(f(draw(logits)).sum(), logits)
        return found

    return gradient


def reinmax() -> Library:
    """The package of ReinMax's authors."""
    from reinmax import reinmax

    return Library(
        "reinmax", f"reinmax {version('reinmax')}", {"reinmax": _pathwise(lambda logits: reinmax(logits, 1.0)[0])}
    )


def relaxit() -> Library:
    """Relaxit."""
    from relaxit.distributions import DecoupledStraightThroughGumbelSoftmax

    def draw(logits: Tensor) -> Tensor:
        q = DecoupledStraightThroughGumbelSoftmax(TEMPERATURE, TEMPERATURE, logits=logits, validate_args=False)
        return q.rsample()  # type: ignore[no-any-return]

    return Library("Relaxit", f"relaxit {version('relaxit')}", {"st-gumbel-softmax": _pathwise(draw)})


def pydrobert() -> Library:
    """pydrobert-pytorch."""
    from pydrobert.torch import estimators

    def score(f: Integrand, logits: Tensor) -> Tensor:
        b = estimators.to_b(estimators.to_z(logits, "onehot"), "onehot").detach()
        # of all variables at once: its own sum over them is none
        return estimators.reinforce(f(b)[..., None], b, logits, "onehot")  # type: ignore[no-any-return]

    def rebar(f: Integrand, logits: Tensor) -> Tensor:
        z = estimators.to_z(logits, "onehot")
        b = estimators.to_b(z, "onehot").detach()
        control = estimators.REBARControlVariate(lambda each: f(each)[..., None], "onehot", start_temp=TEMPERATURE)
        return estimators.relax(f(b)[..., None], b, logits, z, control, "onehot").detach()  # type: ignore[no-any-return]

    return Library(
        "pydrobert", f"pydrobert-pytorch {version('pydrobert-pytorch')}", {"score-function": score, "rebar": rebar}
    )


def storchastic() -> Library:
    """Storchastic."""
    import storch
    from torch.distributions import OneHotCategorical

    def by(method: Callable[[], Any], each: bool = False) -> Gradient:
        def gradient(f: Integrand, logits: Tensor) -> Tensor:
            leaf = logits.detach().requires_grad_()
            q, draw = storch.denote_independent(leaf, 0, "batch"), method()
            if each:  # one variable after the other
                parts = [draw(OneHotCategorical(logits=q[..., n, :])) for n in range(logits.shape[-2])]
                cost = storch.deterministic(lambda *z: f(torch.stack(z, -2)))(*parts)
            else:
                cost = storch.deterministic(f)(draw(OneHotCategorical(logits=q)))
            storch.add_cost(cost, "f")
            storch.backward()
            assert leaf.grad is not None
            return leaf.grad * len(logits)  # of the mean over the batch

        return gradient

    way = storch.method
    gradients = {
        "gumbel-softmax": by(lambda: way.GumbelSoftmax("z", initial_temperature=TEMPERATURE)),
        "st-gumbel-softmax": by(lambda: way.GumbelSoftmax("z", straight_through=True, initial_temperature=TEMPERATURE)),
        "leave-one-out": by(lambda: way.ScoreFunction("z", n_samples=DRAWS, baseline_factory="batch_average")),
        "unordered-set": by(lambda: way.UnorderedSetEstimator("z", k=DRAWS), each=True),
    }
    return Library("Storchastic", f"storchastic {version('storchastic')}", gradients)


PEERS: tuple[Maker, ...] = (reinmax, relaxit, pydrobert, storchastic)
