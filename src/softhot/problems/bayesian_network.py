r"""Bayesian networks with evidence: the joint law of what is not observed, and its exact posterior.

A network is a product of conditional probabilities, and evidence x fixes some of its variables; the others are z:

.. math:: \log p(x, z) = \sum_n \log p(v_n \mid v_{\text{parents of } n})

as a function of one-hot vectors it is a sum over the entries of each table, which is linear in each variable. It is
defined so between the one-hot vectors too: at the probabilities of a factorised q it is :math:`E_q[\log p(x, z)]`, and
it can be differentiated.

Probabilities of zero are -inf in log space, and stay so. With a floor they count as that, which estimators need that
go through the impossible.

Variables have different numbers of classes; K is the largest, and of a variable with fewer the last entries are zero
in z, and -inf in logits.

Networks and files: Scutari, "Bayesian network repository", and the reader :mod:`softhot.problems.bif`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import wide
from softhot.names import unknown
from softhot.problems.bif import Node, read_bif
from softhot.problems.elimination import Eliminated, Factor, eliminate

__all__ = ["BayesianNetwork"]


@dataclass(frozen=True)
class BayesianNetwork:
    r"""A network of discrete variables, some of them observed.

    Arguments:
        nodes: the variables with their conditional probabilities.
        evidence: the state of each variable that is observed.

    Raises:
        ValueError: If a variable or state is unknown, variables depend on each other in a circle, nothing is left to
            infer, the evidence is impossible, or the posterior is too large to be computed.

    Example:
        >>> import torch
        >>> from softhot.problems.bif import Node
        >>> rain = Node("Rain", ("yes", "no"), (), torch.tensor([0.2, 0.8]))
        >>> wet = Node("Wet", ("yes", "no"), ("Rain",), torch.tensor([[0.9, 0.1], [0.0, 1.0]]))
        >>> network = BayesianNetwork((rain, wet), {"Wet": "no"})
        >>> network.posterior.marginals  # 0.02 and 0.8 of 0.82
        tensor([[0.0244, 0.9756]], dtype=torch.float64)
        >>> network.log_joint(torch.eye(2).unsqueeze(1)).exp()
        tensor([0.0200, 0.8000])
    """

    nodes: tuple[Node, ...]
    evidence: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_bif(cls, path: Path | str, evidence: Mapping[str, str] | None = None) -> BayesianNetwork:
        """The network of a .bif file.

        Raises:
            ValueError: If the file cannot be read, or for the reasons of the class.
        """
        return cls(read_bif(path), evidence or {})

    def __post_init__(self) -> None:
        states = {node.name: node.states for node in self.nodes}
        if len(states) < len(self.nodes):
            raise ValueError(f"variables {', '.join(node.name for node in self.nodes)} are not all different.")
        for node in self.nodes:
            for parent, size in zip(node.parents, node.table.shape, strict=False):
                if parent not in states:
                    raise unknown(f"parent of {node.name!r}", parent, states)
                if size != len(states[parent]):
                    raise ValueError(
                        f"the table of {node.name!r} has {size} rows for {parent!r}, which has "
                        f"{len(states[parent])} states; give a row for each."
                    )
        self._refuse_circles()
        for name, state in self.evidence.items():
            if name not in states:
                raise unknown("variable", name, states)
            if state not in states[name]:
                raise unknown(f"state of {name!r}", state, states[name])
        if not self.hidden:
            raise ValueError("every variable is observed, and nothing is left to infer; leave out some evidence.")
        if self.posterior.log_partition == -math.inf:
            raise ValueError(self._impossible())

    @cached_property
    def hidden(self) -> tuple[Node, ...]:
        """The variables that are not observed, in the order of the rows of z."""
        return tuple(node for node in self.nodes if node.name not in self.evidence)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of classes of each hidden variable."""
        return tuple(len(node.states) for node in self.hidden)

    @cached_property
    def logits(self) -> Float[Tensor, "N K"]:
        """Logits of the uniform law: zero, and -inf behind the classes of variables that have fewer than K."""
        sizes = torch.tensor(self.cardinalities)[:, None]
        return torch.where(torch.arange(int(sizes.max())) < sizes, 0.0, -math.inf).double()

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """The logarithm of each conditional probability, with the evidence put in."""
        place = {node.name: n for n, node in enumerate(self.hidden)}
        states = {node.name: node.states for node in self.nodes}
        found = []
        for node in self.nodes:
            family = (*node.parents, node.name)
            seen = [states[v].index(self.evidence[v]) if v in self.evidence else slice(None) for v in family]
            found.append(Factor(tuple(place[v] for v in family if v in place), node.table[tuple(seen)].log()))
        return tuple(found)

    @cached_property
    def posterior(self) -> Eliminated:
        """The exact posterior: the logarithm of the evidence's probability, the marginals, and the entropy."""
        return eliminate(self.factors, self.cardinalities)

    @cached_property
    def possible(self) -> float:
        """How many configurations of z have a probability above zero; inf if they are more than a float can say."""
        support = [Factor(f.scope, torch.where(f.log_value > -math.inf, 0.0, -math.inf).double()) for f in self.factors]
        log_count = torch.tensor(eliminate(support, self.cardinalities).log_partition, dtype=torch.float64)
        return log_count.exp().item()  # math.exp raises OverflowError

    def log_joint(self, z: Float[Tensor, "*sample N K"], floor: float | None = None) -> Float[Tensor, "*sample"]:
        r"""The logarithm of the joint probability of evidence and z.

        Arguments:
            z: one-hot, or relaxed, or probabilities.
            floor: what the logarithm of a probability of zero counts as; -inf if not given.

        Raises:
            ValueError: If z is not of shape (\*sample, N, K).
        """
        if z.shape[-2:] != self.logits.shape:
            raise ValueError(
                f"z of shape {tuple(z.shape)} is not that of {len(self.hidden)} hidden variables of up to "
                f"{self.logits.shape[-1]} classes; use z of shape (*sample, {', '.join(map(str, self.logits.shape))})."
            )
        given, z = z, wide(z)
        total = z.new_zeros(z.shape[:-2])
        outside = torch.zeros_like(total, dtype=torch.bool)
        for (scope, log_value), never in zip(self.factors, self._never, strict=True):
            if never is None:
                total = total + _mean(log_value, scope, z)
                continue
            total = total + _mean(log_value.masked_fill(never, floor or 0.0), scope, z)
            if floor is None:
                outside = outside | (_mean(never, scope, z.detach()) > 0)
        return total.masked_fill(outside, -math.inf).to(given.dtype)

    def supported(self, logits: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        """Logits of a product of independent variables, less the classes that make anything impossible likely.

        As long as the product gives mass to a probability of zero, the least likely class of the likeliest such
        configuration of a table is left out: its logit becomes -inf. Where each variable has one class left the
        product may be impossible even so.

        Arguments:
            logits: of the product.
        """
        logits = logits.clone()
        tables = [(f.scope, never) for f, never in zip(self.factors, self._never, strict=True) if never is not None]
        while True:
            q = logits.softmax(-1)
            worst, least = 0.0, None
            for scope, never in tables:
                mass = _outer([q[n, :size] for n, size in zip(scope, never.shape, strict=True)]) * never
                if mass.max() > worst:
                    where = torch.unravel_index(mass.argmax(), mass.shape)
                    pairs = [(n, int(k)) for n, k in zip(scope, where, strict=True) if q[n, int(k)] < 1]
                    if pairs:
                        worst, least = mass.max().item(), min(pairs, key=lambda pair: q[pair].item())
            if least is None:
                return logits
            logits[least] = -math.inf

    @cached_property
    def _never(self) -> tuple[Tensor | None, ...]:
        """Where each factor is -inf; None where it is nowhere."""
        places = (factor.log_value == -math.inf for factor in self.factors)
        return tuple(never if never.any() else None for never in places)

    def _refuse_circles(self) -> None:
        left = {node.name: node.parents for node in self.nodes}
        order = TopologicalSorter(left)
        with suppress(CycleError):  # it still gives all that do not depend on a circle
            order.prepare()
        while ready := order.get_ready():
            for name in ready:
                del left[name]
            order.done(*ready)
        if left:
            raise ValueError(f"variables {', '.join(left)} depend on each other in a circle; take out an arc.")

    def _impossible(self) -> str:
        """What to say of evidence without probability: the first that is impossible together with those before it."""
        given = list(self.evidence.items())
        for count in range(1, len(given)):
            try:
                BayesianNetwork(self.nodes, dict(given[:count]))
            except ValueError as error:
                return str(error)
        *before, (name, state) = given
        where = f" together with {', '.join(f'{n}={s}' for n, s in before)}" if before else ""
        return (
            f"the evidence {name}={state} is impossible{where}: its probability is zero; use another state of {name!r}."
        )


def _mean(table: Tensor, scope: tuple[int, ...], z: Tensor) -> Tensor:
    """The table at z: its mean, where each variable is drawn alone."""
    value = table.to(z.dtype)
    if not scope:
        return value
    first, *others = (z[..., n, : table.shape[i]] for i, n in enumerate(scope))
    value = first @ value.reshape(table.shape[0], -1)
    for other in others:
        value = (value.unflatten(-1, (other.shape[-1], -1)) * other[..., None]).sum(-2)
    return value.squeeze(-1)


def _outer(rows: list[Tensor]) -> Tensor:
    product = rows[0]
    for row in rows[1:]:
        product = product[..., None] * row
    return product
