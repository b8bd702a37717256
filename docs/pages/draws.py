"""Exact values beside the mean of many draws: of KL terms and of distributions, measured when the pages are made.

A value that its draws contradict, at the false-alarm rate of :func:`softhot.testing.assert_mean`, stops the build.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from pages.facts import example, has
from pages.markup import table
from softhot.distributions import MixtureOfDiscreteFlows
from softhot.kl import TERMS, Term
from softhot.testing import assert_mean

__all__ = ["drawn"]

DRAWS = 100_000
TEMPERATURE = 0.5
_SAID = {
    "term": "log q(z) - log p(z), with z from q, for two variables of three classes,\n"
    f"in nats, at temperature {TEMPERATURE} if the term has one.",
    "distribution": "a small one, of logits log 0.5, log 0.3, log 0.2, and temperature 1 if it has one.\n"
    "The entropy is the mean of -log q(z), in nats.",
}
Q = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64).log()  # two variables of three classes
P = torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], dtype=torch.float64).log()


def drawn(kind: type[Any]) -> str:
    """What draws say of the exact values of a KL term or a distribution: a table.

    Raises:
        ValueError: If draws contradict an exact value.
    """
    is_term = issubclass(kind, Term)
    try:
        rows = [(what, *_row(exact, draws)) for what, exact, draws in (_of_term if is_term else _of_distribution)(kind)]
    except AssertionError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None
    said = f"Measured for this page, {DRAWS:,} draws of {_SAID['term' if is_term else 'distribution']}\n"
    return f"{said}\n{table(('', 'exact', 'mean of draws', 'a draw varies by'), rows)}"


def _of_term(kind: type[Term]) -> Iterator[tuple[str, Tensor, Tensor]]:
    term = next(one for one in TERMS.values() if type(one) is kind and one.exact)
    generator = torch.Generator().manual_seed(0)
    if term.mixture:
        q = torch.stack([Q, Q.flip(-1)])  # of which the likeliest classes count
        z = MixtureOfDiscreteFlows.of_deltas(q).sample((DRAWS,), generator=generator)
    else:
        q, z = Q, term.draw(Q.expand(DRAWS, *Q.shape), TEMPERATURE, generator)
    value = term(q, P, TEMPERATURE)
    yield "the term", value.sum(), term.integrand(z, q, P, TEMPERATURE).sum(-1)


def _of_distribution(kind: type[Distribution]) -> Iterator[tuple[str, Tensor, Tensor]]:
    q: Any = example(kind)
    z = q.sample((DRAWS,), generator=torch.Generator().manual_seed(0))
    if has(q, "entropy"):
        yield "entropy", q.entropy(), -q.log_prob(z)
    if has(q, "mean"):
        yield "mean", q.mean, z
    if has(q, "variance"):
        yield "variance", q.variance, (z - q.mean).square()


def _row(exact: Tensor, draws: Tensor) -> tuple[str, str, str]:
    """Of all entries in turn: the exact value, the mean of draws with its standard error, and their deviation."""
    assert_mean(draws, exact)
    each = draws.flatten(1) if draws.dim() > 1 else draws[:, None]
    deviations = each.std(0)
    errors = (deviations / math.sqrt(len(draws))).tolist()
    means = [f"{mean:.4f} ± {error:.4f}" for mean, error in zip(each.mean(0).tolist(), errors, strict=True)]
    return _listed(exact.flatten().tolist()), "; ".join(means), _listed(deviations.tolist())


def _listed(values: list[float]) -> str:
    return "; ".join(f"{value:.4f}" for value in values)
