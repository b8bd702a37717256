"""What a method declares of itself, as the rows of a table."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import torch
from torch.distributions import Distribution

from softhot.bounds import incompatible
from softhot.distributions import MixtureOfDiscreteFlows, Shift
from softhot.estimators import ESTIMATORS, Estimator
from softhot.kl import TERMS, Term

__all__ = [
    "SIZES",
    "count",
    "example",
    "facts_of_distribution",
    "facts_of_estimator",
    "facts_of_term",
    "has",
    "settings",
]

SIZES = ((2, 3), (20, 10))  # numbers of variables and classes that costs are given for
_SAMPLES = {"hard": "one-hot", "soft": "relaxed"}
_VALUES = ("mean", "variance", "mode", "entropy")


def facts_of_estimator(kind: type[Estimator]) -> list[tuple[str, str]]:
    """The declarations of an estimator with its default settings."""
    name, one = next(name for name, other in ESTIMATORS.items() if other is kind), kind()
    terms = [term for term, value in TERMS.items() if incompatible(one, value) is None]
    sizes = [(latents, one.classes or classes) for latents, classes in SIZES]
    chosen = settings(one)
    costs = [f"{count(one.evaluations(*size))} for N = {size[0]}, K = {size[1]}" for size in sizes]
    return [
        ("name", f"``{name}``"),
        ("its gradient is", "unbiased" if one.unbiased else "biased"),
        ("f is evaluated at", f"{'one-hot' if one.sample == 'hard' else 'relaxed'} vectors"),
        ("f must be differentiable", "yes" if one.differentiable else "no"),
        ("evaluations of f", "; ".join(costs)),
        ("classes", str(one.classes or "any number")),
        *([("default settings", ", ".join(f"``{setting}``" for setting in chosen))] if chosen else []),
        ("goes with the terms", ", ".join(f"``{term}``" for term in terms) or "none: its value is a bound already"),
        ("source", one.source),
    ]


def facts_of_term(kind: type[Term]) -> list[tuple[str, str]]:
    """The declarations of a KL term."""
    names = {name: one.exact for name, one in TERMS.items() if type(one) is kind}
    return [
        *((f"``{name}``", _exact(kind) if exact else _once(kind)) for name, exact in names.items()),
        ("with a hard sample it bounds", kind.bounds["hard"] or "nothing"),
        ("with a relaxed sample it bounds", kind.bounds["soft"] or "nothing"),
        ("it is of", "a relaxed variable, with a temperature" if kind.temperate else "one-hot variables"),
        ("the posterior is", "a mixture of discrete flows" if kind.mixture else "a product of N variables"),
    ]


def facts_of_distribution(kind: type[Distribution]) -> list[tuple[str, str]]:
    """What a distribution has in closed form or to rounding, and what can be done with its samples."""
    one = example(kind)
    return [
        ("exact", ", ".join(name for name in _VALUES if has(one, name))),
        ("samples are differentiable", "yes" if one.has_rsample else "no"),
        ("its values can be enumerated", "yes" if one.has_enumerate_support else "no"),
    ]


def count(number: int) -> str:
    """A number that may be very large.

    Example:
        >>> count(1024), count(10**20)
        ('1,024', '1e+20')
    """
    return f"{number:,}" if number < 10**6 else f"{number:.2g}"


def settings(one: Estimator) -> list[str]:
    """The settings that are a number, a word or nothing, with their values.

    Example:
        >>> settings(ESTIMATORS["reinmax"]())
        ['samples=1', 'temperature=1.0']
    """
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    return [f"{name}={value!r}" for name, value in values.items() if isinstance(value, int | float | str | None)]


def example(kind: type[Distribution]) -> Distribution:
    """A small distribution of a kind, in float64."""
    logits = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    if issubclass(kind, MixtureOfDiscreteFlows):
        flows = torch.stack([logits, logits.flip(0)])[:, None]  # two, of one variable
        return kind(logits.expand(2, 1, 3), Shift(flows))
    given: dict[str, Any] = {"logits": logits}
    if "temperature" in inspect.signature(kind).parameters:
        given["temperature"] = 1.0
    return kind(**given)


def has(one: Distribution, name: str) -> bool:
    """Whether a distribution has a value that torch.distributions has a name for."""
    try:
        value = getattr(one, name)
        _ = value() if callable(value) else value
    except NotImplementedError:
        return False
    return True


def _exact(kind: type[Term]) -> str:
    cost = "a sum over the classes"
    if kind.mixture:
        cost = "a sum over the components"
    elif kind.temperate and kind.noise == "gumbel":
        cost = "integrals over one dimension, from tables for the temperature"
    return f"its exact value; costs no draw, but {cost}"


def _once(kind: type[Term]) -> str:
    return f"log q(z) - log p(z) at one {_SAMPLES[kind.sample]} sample, whose mean is the exact value"
