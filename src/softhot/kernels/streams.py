"""Randomness of functions that are mapped over runs, each of which draws what it would draw alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor

__all__ = ["Streams", "drawn"]


class Streams(torch.Generator):
    """A generator for each of the runs that :func:`torch.func.vmap` maps a function over, given as one generator.

    What draws by :func:`drawn`, as everything in softhot does, draws from that of each run. The mapping must be made
    with ``randomness="same"``, as the draws of all runs are made together and then shared out.

    Arguments:
        generators: one for each run.
        run: inside the mapped function, the number of the run: a scalar that is mapped.
    """

    def __new__(cls, generators: Sequence[torch.Generator], run: Tensor) -> Self:
        """A generator of the same device."""
        return super().__new__(cls, generators[0].device)  # type: ignore[call-arg]

    def __init__(self, generators: Sequence[torch.Generator], run: Tensor) -> None:
        self.generators, self.run = generators, run


def drawn(draw: Callable[[torch.Generator | None], Tensor], generator: torch.Generator | None) -> Tensor:
    """What a function draws from a generator, or inside a mapped function from that of each run."""
    if isinstance(generator, Streams):
        return torch.stack([draw(own) for own in generator.generators])[generator.run[None]].squeeze(0)
    return draw(generator)
