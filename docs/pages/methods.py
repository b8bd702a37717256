"""A page for every estimator, KL term and distribution: definition, what it declares, and what is measured of it.

A page describes its subject, and what is written in the same file and has no page of its own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch.distributions import Distribution

from pages.certificates import certificate
from pages.docstrings import converted
from pages.draws import drawn
from pages.facts import facts_of_distribution, facts_of_estimator, facts_of_term
from pages.markup import heading, listed, table
from pages.symbols import Symbol, definition, described, symbols
from softhot.estimators import ESTIMATORS
from softhot.kl import TERMS

__all__ = ["METHODS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """A kind of methods.

    Attributes:
        title: of the page that lists them.
        package: that they are in.
        home: the module that says what they are.
        methods: the classes, by the names of their pages.
    """

    title: str
    package: str
    home: str
    methods: dict[str, Any]

    @property
    def folder(self) -> str:
        """The folder of the pages."""
        return self.title.lower().replace(" ", "-")

    def subjects(self) -> dict[str, Symbol]:
        """What each page is about."""
        by_class = {symbol.value: symbol for symbol in symbols(self.package) if inspect.isclass(symbol.value)}
        return {name: by_class[one] for name, one in self.methods.items()}

    def on_pages(self) -> dict[str, list[Symbol]]:
        """What each page describes, its subject first."""
        subjects = self.subjects()
        rest = [symbol for symbol in symbols(self.package) if symbol not in subjects.values()]
        found = {name: [one, *(other for other in rest if other.home == one.home)] for name, one in subjects.items()}
        return {"index": [one for one in rest if one.home == self.home != self.package]} | found

    def pages(self) -> dict[str, str]:
        """The texts of the pages by their names."""
        rows = [(f":class:`~{one.path}`", one.first_line) for one in self.subjects().values()]
        index, *methods = self.on_pages().items()
        parts = [heading(self.title), f".. py:currentmodule:: {self.package}\n", converted(definition(self.home))]
        parts += ["", table(("", ""), rows), listed(self.methods), *map(described, index[1])]
        found = {"index": "\n".join(parts)}
        homes = {symbol.path for symbol in symbols(self.package)}  # a module may have the name of a function
        for name, (subject, *others) in methods:
            found[name] = "\n".join(self._page(name, subject, others, subject.home not in homes))
            homes.add(subject.home)
        return {f"{self.folder}/{name}": text for name, text in found.items()}

    def _page(self, name: str, subject: Symbol, others: Iterable[Symbol], first: bool) -> list[str]:
        module = [f".. py:module:: {subject.home}\n"] if first else []
        parts = [heading(subject.name), *module, f".. py:currentmodule:: {self.package}\n"]
        parts += [converted(definition(subject.home)), "", table(("", ""), _facts(subject.value))]
        parts += [heading("In Python", "-"), *map(described, [subject, *others])]
        measured = certificate(name) if subject.value in ESTIMATORS.values() else drawn(subject.value)
        return [*parts, heading("Certificate", "-"), measured]


def _facts(kind: type[Any]) -> list[tuple[str, str]]:
    if kind in ESTIMATORS.values():
        return facts_of_estimator(kind)
    return facts_of_distribution(kind) if issubclass(kind, Distribution) else facts_of_term(kind)


def _named(kinds: Iterable[type[Any]]) -> dict[str, type[Any]]:
    """Classes by their names in the manner of the command line.

    Example:
        >>> list(_named([Distribution]))
        ['distribution']
    """
    return {re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in kinds}


def _distributions() -> list[type[Any]]:
    found = [symbol.value for symbol in symbols("softhot.distributions") if inspect.isclass(symbol.value)]
    return [one for one in found if issubclass(one, Distribution)]


METHODS = (
    Kind("Estimators", "softhot.estimators", "softhot.estimators.estimator", dict(ESTIMATORS)),
    Kind("KL terms", "softhot.kl", "softhot.kl.term", _named(map(type, TERMS.values()))),
    Kind("Distributions", "softhot.distributions", "softhot.distributions", _named(_distributions())),
)
