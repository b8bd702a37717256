"""Tables to choose by, made of what the classes declare: parts of the page that compares them."""

from __future__ import annotations

from pages.facts import SIZES, count
from pages.markup import table
from pages.symbols import symbols
from softhot.bounds import incompatible
from softhot.estimators import ESTIMATORS, Estimator
from softhot.kl import TERMS, Term

__all__ = ["choice"]


def choice() -> dict[str, str]:
    """The texts of the parts by their names."""
    return {"estimators.txt": _estimators(), "terms.txt": _terms(), "pairs.txt": _pairs()}


def _estimators() -> str:
    sizes = [f"N = {latents}, K = {classes}" for latents, classes in SIZES]
    headings = ["estimator", "gradient", "samples", "f must be differentiable", "temperature"]
    rows = [
        [
            f":class:`{name} <{_path('softhot.estimators', kind)}>`",
            "unbiased" if kind.unbiased else "biased",
            kind.sample,
            "yes" if kind.differentiable else "no",
            f"{getattr(kind(), 'temperature', '')}",
            *(count(kind().evaluations(latents, kind.classes or classes)) for latents, classes in SIZES),
        ]
        for name, kind in ESTIMATORS.items()
    ]
    return table([*headings, *(f"evaluations of f, {one}" for one in sizes)], rows)


def _terms() -> str:
    headings = ("term", "it is", "with a hard sample it bounds", "with a relaxed sample it bounds", "has a temperature")
    rows = [
        (
            f":class:`{name} <{_path('softhot.kl', type(one))}>`",
            "exact" if one.exact else "one draw",
            one.bounds["hard"] or "nothing",
            one.bounds["soft"] or "nothing",
            "yes" if one.temperate else "no",
        )
        for name, one in TERMS.items()
    ]
    return table(headings, rows)


def _pairs() -> str:
    rows = [
        [f"``{name}``", *(_pair(kind(), term) for term in TERMS.values())]
        for name, kind in ESTIMATORS.items()
        if not kind.multi_sample
    ]
    return table(["estimator", *(f"``{name}``" for name in TERMS)], rows)


def _pair(estimator: Estimator, term: Term) -> str:
    if incompatible(estimator, term):
        return ""
    bound = term.bounds[estimator.sample] or "nothing"
    return next((word for word in ("loosely", "relaxed", "discrete") if word in bound), bound)


def _path(package: str, kind: type[Estimator] | type[Term]) -> str:
    return next(symbol.path for symbol in symbols(package) if symbol.value is kind)
