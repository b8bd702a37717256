"""Shapes and types of signatures are checked while tests run, and only then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Self

import jaxtyping
import pytest
import torch
from beartype import BeartypeConf, FrozenDict, beartype

# an int is a float (PEP 484); Self cannot be resolved for one method at a time
checked = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({Self: Any})))

# before anything imports softhot; the kernels are left as they are, for their compilers
_CHECKED = ["functional", "distributions", "kl", "estimators", "bounds", "inference", "testing", "problems"]
_CHECKED += ["lab", "cli"]
jaxtyping.install_import_hook([f"softhot.{room}" for room in _CHECKED], f"{__name__}.checked")

torch.set_num_threads(1)  # tests run side by side
os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton: kernels for GPUs run on the CPU


@pytest.fixture
def unchecked() -> Iterator[None]:
    """What a user sees, who has no type checker: for calls that the annotations forbid."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts alike, whatever ran before: the same draws, and torch's checks, which compiling turns off."""
    torch.manual_seed(0)
    torch.distributions.Distribution.set_default_validate_args(True)
