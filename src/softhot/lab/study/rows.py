"""Optimisers of several runs as one: what they move is rows of one tensor.

The rules of Adam and RAdam are the same for every number and know nothing of its neighbours, so that an optimiser of
the rows does what an optimiser of each run does. Runs of one learning rate share a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Rows"]

_COUNT = "step"  # what the state of a parameter holds beside one number for each of its own


class Rows:
    """The parameters of R optimisers, and one optimiser of all of them, in the state that they are in.

    Arguments:
        optimisers: of one kind, each of the same shapes in one group; they have taken equally many steps.

    Example:
        >>> import torch
        >>> runs = [torch.ones(2, 3, requires_grad=True) for _ in range(4)]
        >>> rows = Rows([torch.optim.Adam([run], lr=0.5) for run in runs])
        >>> rows.descend((rows.parted(rows.all())[0] ** 2).sum())
        >>> rows.write()
        >>> runs[3]
        tensor([[0.5000, 0.5000, 0.5000],
                [0.5000, 0.5000, 0.5000]], requires_grad=True)
    """

    def __init__(self, optimisers: Sequence[Optimizer]) -> None:
        self._optimisers = optimisers
        self._shapes = [parameter.shape for parameter in _moved(optimisers[0])]
        rates: dict[float, list[int]] = {}
        for run, optimiser in enumerate(optimisers):
            rates.setdefault(optimiser.param_groups[0]["lr"], []).append(run)
        self._runs = list(rates.values())
        self._leaves = [_flat([_moved(optimisers[run]) for run in runs]).requires_grad_() for runs in self._runs]
        order = [run for runs in self._runs for run in runs]
        self._order = torch.tensor(order, device=self._leaves[0].device).argsort()
        kind: Callable[..., Optimizer] = type(optimisers[0])
        self._optimiser = kind(
            [
                {**optimisers[runs[0]].param_groups[0], "params": [leaf]}
                for leaf, runs in zip(self._leaves, self._runs, strict=True)
            ]
        )
        for leaf, runs in zip(self._leaves, self._runs, strict=True):
            states = [[optimisers[run].state[parameter] for parameter in _moved(optimisers[run])] for run in runs]
            self._optimiser.state[leaf] = {
                key: value.clone() if key == _COUNT else _flat([[one[key] for one in own] for own in states])
                for key, value in states[0][0].items()
            }

    def all(self) -> Float[Tensor, "R P"]:
        """The parameters of every run, with a graph to what the optimiser moves."""
        return self._leaves[0] if len(self._leaves) == 1 else torch.cat(self._leaves).index_select(0, self._order)

    def parted(self, rows: Float[Tensor, "*R P"]) -> list[Float[Tensor, "..."]]:
        """The numbers of a run, or of several, in the shapes of its parameters."""
        parts = rows.split([shape.numel() for shape in self._shapes], -1)
        return [part.reshape(rows.shape[:-1] + shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def descend(self, loss: Float[Tensor, ""]) -> None:
        """A step down a sum of which every run has a part of its own."""
        for leaf, slope in zip(self._leaves, torch.autograd.grad(loss, self._leaves), strict=True):
            leaf.grad = slope
        self._optimiser.step()

    @torch.no_grad()
    def write(self) -> None:
        """Bring the parameters of the runs, and the states of their optimisers, to where these are."""
        for leaf, runs in zip(self._leaves, self._runs, strict=True):
            state = self._optimiser.state[leaf]
            for row, run in enumerate(runs):
                parameters = _moved(self._optimisers[run])
                for parameter, value in zip(parameters, self.parted(leaf[row]), strict=True):
                    parameter.copy_(value)
                    self._optimisers[run].state[parameter] = {}
                for key, value in state.items():
                    parts = [value] * len(parameters) if key == _COUNT else self.parted(value[row])
                    for parameter, part in zip(parameters, parts, strict=True):
                        self._optimisers[run].state[parameter][key] = part.clone()


def _moved(optimiser: Optimizer) -> list[Tensor]:
    found: list[Tensor] = optimiser.param_groups[0]["params"]
    return found


def _flat(rows: Iterable[Iterable[Tensor]]) -> Tensor:
    return torch.stack([torch.cat([value.detach().flatten() for value in row]) for row in rows])
