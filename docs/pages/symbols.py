"""What is public, where it is written, and whether it says what it is.

Public is what stands in the ``__all__`` of one of the packages. A symbol is documented if it has a docstring of its
own; of a constant, the string under it. Public methods and properties of a class need one too, and may inherit it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from textwrap import indent
from typing import Any

from sphinx.pycode import ModuleAnalyzer
from torch.distributions import Distribution

import softhot
from pages.docstrings import converted

__all__ = ["PACKAGES", "Symbol", "definition", "described", "symbols", "undocumented"]

_INTERNAL = {"softhot.cli", "softhot.kernels", "softhot.names"}
_INNER = {
    "softhot.distributions.bases",
    "softhot.lab.gradients.quality",
    "softhot.problems.data",
    "softhot.problems.vae",
}
_TOP = {f"softhot.{module.name}" for module in pkgutil.iter_modules(softhot.__path__)}
PACKAGES = tuple(sorted(_TOP - _INTERNAL | _INNER))
"""The packages whose symbols are public."""


@dataclass(frozen=True)
class Symbol:
    """A public name.

    Attributes:
        name: of it.
        package: that it is imported from.
        home: the module that it is written in.
        value: what it is.
    """

    name: str
    package: str
    home: str
    value: Any

    @property
    def path(self) -> str:
        """The name to import it by."""
        return f"{self.package}.{self.name}"

    @property
    def is_module(self) -> bool:
        """Whether it is a package of its own."""
        return inspect.ismodule(self.value)

    @property
    def docstring(self) -> str:
        """Its own docstring; empty if there is none, or only what a dataclass makes up."""
        if inspect.isclass(self.value) or inspect.isroutine(self.value) or self.is_module:
            inherits = inspect.isclass(self.value)
            own = inspect.cleandoc((vars(self.value).get("__doc__") if inherits else self.value.__doc__) or "")
            return "" if own.startswith(f"{self.name}(") else own
        found = ModuleAnalyzer.for_module(self.home).find_attr_docs()
        return "\n".join(found.get(("", self.name), []))

    @property
    def first_line(self) -> str:
        """The first sentence or so of its docstring, on one line."""
        return self.docstring.split("\n\n")[0].replace("\n", " ")

    def undocumented(self) -> Iterator[str]:
        """What of it has no docstring: itself, or methods and properties of a class."""
        if not self.docstring:
            yield self.path
        if inspect.isclass(self.value):
            for name, member in vars(self.value).items():
                public = not name.startswith("_") and (
                    inspect.isroutine(member) or isinstance(member, property | cached_property)
                )
                if public and not inspect.getdoc(getattr(self.value, name)):
                    yield f"{self.path}.{name}"


def symbols(package: str) -> list[Symbol]:
    """The public symbols of a package, in the order of its ``__all__``.

    Example:
        >>> [symbol.home for symbol in symbols("softhot.kl") if symbol.name == "Relaxed"]
        ['softhot.kl.relaxed']
    """
    module = importlib.import_module(package)
    homes = {
        alias.asname or alias.name: node.module
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return [Symbol(name, package, homes.get(name, package), getattr(module, name)) for name in module.__all__]


def described(symbol: Symbol) -> str:
    """The directive that describes a symbol."""
    if inspect.isroutine(symbol.value):
        return f".. autofunction:: {symbol.path}\n"
    if not inspect.isclass(symbol.value):
        options = f"   :module: {symbol.package}\n   :canonical: {symbol.home}.{symbol.name}\n"
        return f".. py:data:: {symbol.name}\n{options}\n{indent(converted(symbol.docstring), '   ')}\n"
    call = "   :special-members: __call__\n" if "__call__" in vars(symbol.value) else ""
    own = "   :inherited-members: Distribution\n" if issubclass(symbol.value, Distribution) else ""
    return f".. autoclass:: {symbol.path}\n   :members:\n{call}{own}"


def undocumented(package: str) -> list[str]:
    """The public symbols of a package, and their methods and properties, that have no docstring.

    Example:
        >>> undocumented("softhot.kl")
        []
    """
    return [path for symbol in symbols(package) for path in symbol.undocumented()]


def definition(module: str) -> str:
    """The docstring of a module."""
    return inspect.getdoc(importlib.import_module(module)) or ""
