"""A page for every package: all that is public in it, file by file, each after what the file defines."""

from __future__ import annotations

from collections.abc import Collection

from pages.docstrings import converted
from pages.markup import heading, listed, table
from pages.symbols import PACKAGES, Symbol, definition, described, symbols

__all__ = ["DEFINITIONS", "reference"]

# files with nothing public in them, whose definitions others refer to
DEFINITIONS = {
    "softhot.estimators": ("softhot.estimators.relaxed_control",),
    "softhot.lab": ("softhot.lab.study.declaration",),
    "softhot.problems.data": ("softhot.problems.data.files",),
}


def reference(elsewhere: Collection[str]) -> dict[str, str]:
    """The texts of the pages by their names.

    Arguments:
        elsewhere: the paths of what other pages describe.
    """
    rows = [(f":mod:`{package}`", definition(package).split("\n\n")[0]) for package in PACKAGES]
    index = "\n".join([heading("Reference"), table(("", ""), rows), listed(PACKAGES)])
    return {"packages/index": index} | {f"packages/{package}": _page(package, elsewhere) for package in PACKAGES}


def _page(package: str, elsewhere: Collection[str]) -> str:
    public = [symbol for symbol in symbols(package) if not symbol.is_module]
    here = [symbol for symbol in public if symbol.path not in elsewhere]
    parts = [heading(package), f".. py:module:: {package}\n", converted(definition(package))]
    others = [symbol for symbol in public if symbol.path in elsewhere]
    if others:
        parts += ["", "On pages of their own:\n", table(("", ""), [_row(symbol) for symbol in others])]
    parts += ["", *(described(symbol) for symbol in here if symbol.home == package)]
    for home in dict.fromkeys([*(symbol.home for symbol in here), *DEFINITIONS.get(package, ())]):
        if home != package:
            parts += [heading(home.rpartition(".")[2].replace("_", " "), "-"), *_module(home, package, elsewhere)]
            parts += [described(symbol) for symbol in here if symbol.home == home]
    return "\n".join(parts)


def _module(home: str, package: str, elsewhere: Collection[str]) -> list[str]:
    known = {symbol.path for symbol in symbols(package)}  # a module may have the name of a function
    known |= {symbol.home for symbol in symbols(package) if symbol.path in elsewhere}
    target = [] if home in known else [f".. py:module:: {home}\n"]
    return [*target, f".. py:currentmodule:: {package}\n", converted(definition(home)), ""]


def _row(symbol: Symbol) -> tuple[str, str]:
    return f":class:`~{symbol.path}`", symbol.first_line
