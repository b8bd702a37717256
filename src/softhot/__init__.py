"""softhot: categorical latent variables in PyTorch, correct, measured and small."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softhot import bounds, distributions, estimators, functional, inference, kl, lab, problems, testing

__version__ = "0.1.0"

__all__ = ["__version__", "bounds", "distributions", "estimators", "functional"]
__all__ += ["inference", "kl", "lab", "problems", "testing"]


def __getattr__(name: str) -> ModuleType:
    """A room when it is first asked for: importing torch takes longer than a shell may for completing a word."""
    if name in __all__:
        return importlib.import_module(f"softhot.{name}")
    raise AttributeError(f"module 'softhot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
