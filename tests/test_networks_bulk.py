"""Bayesian networks hold over graphs, sizes, zeros and evidence: what is exact is what enumeration gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_problems_bulk import INF, close
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.problems import BayesianNetwork, Node
from tests.bulk import bulk
from tests.integrands import seeded


@dataclass(frozen=True)
class Net:
    """Variables in any order, and what is observed, which may be impossible."""

    settings: tuple[tuple[Any, ...], ...]
    evidence: Mapping[str, str]
    seed: int

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(*each) for each in self.settings)

    @property
    def hidden(self) -> list[int]:
        return [n for n, node in enumerate(self.nodes) if node.name not in self.evidence]

    def joint(self, floor: float = -INF) -> tuple[Tensor, Tensor]:
        """All configurations of what is not observed, and their log-probability with the evidence, entry by entry."""
        place = {node.name: n for n, node in enumerate(self.nodes)}
        seen = {place[name]: self.nodes[place[name]].states.index(state) for name, state in self.evidence.items()}
        own = [[seen[n]] if n in seen else range(len(node.states)) for n, node in enumerate(self.nodes)]
        rows = list(itertools.product(*own))
        log_p = torch.zeros(len(rows), dtype=torch.float64)
        for i, row in enumerate(rows):
            for node in self.nodes:
                entry = node.table[tuple(row[place[v]] for v in (*node.parents, node.name))]
                log_p[i] += entry.log() if entry > 0 else floor
        return torch.tensor(rows)[:, self.hidden], log_p


@st.composite
def nets(draw: Callable[..., Any]) -> Net:
    seed = draw(st.integers(0, 10**6))
    generator = seeded(seed)
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    spread, zeros = draw(st.sampled_from([0.0, 1.0, 30.0, 300.0])), draw(st.sampled_from([0.0, 0.3, 0.6]))
    nodes = []
    for n, size in enumerate(sizes):
        parents = draw(st.sets(st.integers(0, n - 1), max_size=2)) if n else set()
        shape = *(sizes[m] for m in parents), size
        logits = spread * torch.randn(shape, dtype=torch.float64, generator=generator)
        mask = torch.rand(shape, generator=generator) < zeros
        mask[..., seed % size] = False
        table = logits.masked_fill(mask, -INF).softmax(-1)
        states = tuple(f"s{k}" for k in range(size))
        nodes.append((f"v{n}", states, tuple(f"v{m}" for m in parents), table))
    seen = draw(st.sets(st.sampled_from(range(len(sizes))), max_size=len(sizes) - 1))
    evidence = {f"v{n}": f"s{draw(st.integers(0, sizes[n] - 1))}" for n in sorted(seen)}
    return Net(tuple(draw(st.permutations(nodes))), evidence, seed)


@settings(bulk, max_examples=100)
@given(net=nets(), floor=st.sampled_from([None, -30.0, -1e4]), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_networks(net: Net, floor: float | None, dtype: torch.dtype) -> None:
    classes, log_p = net.joint()
    if log_p.max() == -INF:
        with pytest.raises(ValueError, match=r"^the evidence v\d=s\d is impossible.*use another state") as error:
            BayesianNetwork(net.nodes, net.evidence)
        assert "\n" not in str(error.value)
        return
    network = BayesianNetwork(net.nodes, net.evidence)
    assert network.cardinalities == tuple(len(net.nodes[n].states) for n in net.hidden)
    z = one_hot(classes, max(network.cardinalities)).double()
    size = 1 + len(net.nodes) * log_p[log_p > -INF].abs().max().item()

    # the posterior
    exact, p = network.posterior, log_p.softmax(-1)
    assert exact.log_partition == pytest.approx(log_p.logsumexp(0).item(), abs=1e-14 * size)
    close(exact.marginals, (p[:, None, None] * z).sum(0), size)
    assert exact.entropy == pytest.approx(-torch.special.xlogy(p, p).sum().item(), abs=1e-14 * size)
    assert network.possible == pytest.approx((log_p > -INF).sum().item())

    # the joint law, at configurations and between them
    value = log_p if floor is None else net.joint(floor)[1]
    size = size if floor is None else size - floor * len(net.nodes)
    found = network.log_joint(z.to(dtype), floor)
    assert (found.shape, found.dtype) == (log_p.shape, dtype)
    close(found[value > -INF], value[value > -INF], size)
    assert (found[value == -INF] == -INF).all()
    logits = network.logits + 3 * torch.randn(network.logits.shape, dtype=torch.float64, generator=seeded(net.seed))
    inside = network.supported(logits)
    for each in (logits, inside):
        q = each.softmax(-1).to(dtype).requires_grad_()
        mean = network.log_joint(q, floor)
        mass = (z * q.detach()).sum(-1).prod(-1)
        expected = torch.where(mass > 0, mass * value, 0.0).sum()
        if expected > -INF:
            close(mean, expected, size)
        else:
            assert mean == -INF
        assert torch.autograd.grad(mean, q)[0].isfinite().all()
    # what is left of a product is possible, or none of it where a table has one impossible entry left
    kept = inside > -INF
    assert torch.equal(inside[kept], logits[kept])
    assert kept.any(-1).all()
    left = log_p[(z * kept).sum(-1).prod(-1) > 0]
    assert (left > -INF).all() or (left == -INF).all()


@bulk
@given(
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    off=st.sampled_from([0.0, 5e-4, -5e-4, 2e-3, -2e-3, math.nan, INF, -1.5]),
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_rows_of_a_variable(shape: list[int], off: float, seed: int, dtype: torch.dtype) -> None:
    """They are divided by their sum, if it is near one."""
    table = torch.rand(shape, dtype=torch.float64, generator=seeded(seed)).softmax(-1)
    given = table.clone()
    given.view(-1)[seed % given.numel()] += off
    node = ("v", tuple(map(str, range(shape[-1]))), tuple(f"p{n}" for n in range(len(shape) - 1)))
    if abs(off) < 1e-3:
        found = Node(*node, given.to(dtype)).table
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.sum(-1), torch.ones(shape[:-1], dtype=torch.float64))
        torch.testing.assert_close(found, table, atol=abs(off) + 1e-6, rtol=0)
    else:
        with pytest.raises(ValueError, match=r"^(a row of )?variable 'v' .*; (correct it|use numbers)") as error:
            Node(*node, given.to(dtype))
        assert "\n" not in str(error.value)


def test_a_network_of_more_configurations_than_a_float_can_count() -> None:
    coin = torch.tensor([0.5, 0.5], dtype=torch.float64)
    network = BayesianNetwork(tuple(Node(str(n), ("a", "b"), (), coin) for n in range(1100)))
    assert network.posterior.entropy == pytest.approx(1100 * math.log(2))
    assert network.possible == INF
