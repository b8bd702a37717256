"""Which code made a number: two results of different code are not to be compared unless somebody says so.

A run's numbers depend on its configuration, on the source of this package and on PyTorch. The version alone does not
tell two sources apart while they are worked on, so a digest of the files stands beside it: of every module but those
that no number of a study depends on. They parse, draw, print, certify or sum up what the others have computed, or they
answer questions of their own, without a study.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import softhot

__all__ = ["Code"]

_ASIDE = ["cli/", "inference/", "testing/"]  # what no number of a study depends on
_ASIDE += [f"lab/{part}" for part in ("experiments/", "figures/", "report/", "gradients/diagnosis", "gradients/places")]
_ASIDE += [f"lab/study/{part}" for part in ("archive", "declaration", "forecast", "summary")]
_ASIDE += [f"lab/training/{part}" for part in ("images", "single", "tensorboard")]


@dataclass(frozen=True)
class Code:
    """What a run was made by.

    Arguments:
        version: of softhot.
        source: a digest of the files that numbers depend on.
        torch: the version of PyTorch.

    Example:
        >>> Code("0.1.0", "5d41402a", "2.13.0").differences(Code("0.2.0", "7d793037", "2.13.0"))
        'softhot 0.1.0 and 0.2.0, source 5d41402a and 7d793037'
    """

    version: str
    source: str
    torch: str

    @classmethod
    @lru_cache(maxsize=1)
    def here(cls) -> Code:
        """The code of this process."""
        return cls(softhot.__version__, _digest(Path(softhot.__file__).parent), torch.__version__)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Code:
        """The code that made a record; a question mark for what it does not say."""
        return cls(*(str(record.get(item.name, "?")) for item in dataclasses.fields(cls)))

    def to_json(self) -> dict[str, str]:
        """As it stands in a record."""
        return dataclasses.asdict(self)

    def differences(self, other: Code) -> str:
        """What differs, in words; empty if nothing does."""
        labels = {"version": "softhot", "source": "source", "torch": "torch"}
        pairs = ((label, getattr(self, name), getattr(other, name)) for name, label in labels.items())
        return ", ".join(f"{label} {one} and {another}" for label, one, another in pairs if one != another)


def _digest(package: Path) -> str:
    total = hashlib.blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith(tuple(_ASIDE)):
            total.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()
