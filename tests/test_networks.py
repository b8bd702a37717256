"""Bayesian networks: what is exact is what loops over all configurations give, and what cannot be is refused."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.estimators import ESTIMATORS, LeaveOneOut
from softhot.inference import boosting, likeliest, mean_field
from softhot.problems import BayesianNetwork, Node, parse_bif, read_bif
from softhot.problems.data.shared import shared
from softhot.problems.elimination import Factor, draw, eliminate
from softhot.testing import assert_mean, exact_gradient, exact_value, gradient_draws
from tests.integrands import seeded

INF = math.inf

# a small house with an alarm; variables of two, three and four states, and probabilities of zero
HOUSE = """
// a network of our own
network house { property author "nobody" ; }
variable Door { type discrete [ 2 ] { open, shut }; property position = (10, 20) ; }
variable Weather { type discrete [ 3 ] { calm, "windy", storm }; }
variable Alarm { type discrete [ 2 ] { on, off }; }
variable Calls { type discrete [ 4 ] { 0, 1-2, 3+, n/a }; }
variable Guard { type discrete [ 3 ] { asleep, awake, gone }; }
probability ( Door ) { table 0.3, 0.7; }
probability ( Weather ) { table 5e-1, .25, 0.25; }
probability ( Alarm | Door, Weather ) {
  default 0.01, 0.99; /* for calm and windy days
                         with the door shut */
  (open, calm) 0.9, 0.1;
  (open, windy) 0.95, 0.05;
  (shut, storm) 0.2, 0.8;
  (open, storm) 1.0, 0.0;
}
probability ( Calls | Alarm ) { (on) 0.1, 0.3, 0.6, 0.0; (off) 0.7, 0.2, 0.0, 0.1; }
probability ( Guard | Calls, Weather ) {
  default 0.4, 0.4, 0.2;
  (3+, calm) 0.0, 1.0, 0.0;
  (3+, storm) 0.0, 0.7, 0.3;
  (0, windy) 0.9, 0.1, 0.0;
}
"""
EVIDENCE: list[dict[str, str]] = [
    {},
    {"Guard": "awake"},
    {"Calls": "3+", "Door": "shut"},
    {"Alarm": "on", "Guard": "gone"},
]
each_evidence = pytest.mark.parametrize("evidence", EVIDENCE, ids=lambda given: ",".join(given) or "none")


def house(evidence: Mapping[str, str] | None = None) -> BayesianNetwork:
    return BayesianNetwork(parse_bif(HOUSE), evidence or {})


def every(network: BayesianNetwork) -> tuple[Tensor, Tensor]:
    """All configurations, one-hot, and their joint probability with the evidence by looking up every table."""
    states = [range(size) for size in network.cardinalities]
    classes = torch.tensor(list(itertools.product(*states)))
    probs = []
    for row in classes.tolist():
        chosen = {node.name: k for node, k in zip(network.hidden, row, strict=True)}
        for node in network.nodes:
            if node.name in network.evidence:
                chosen[node.name] = node.states.index(network.evidence[node.name])
        tables = [node.table[tuple(chosen[v] for v in (*node.parents, node.name))].item() for node in network.nodes]
        probs.append(math.prod(tables))
    return one_hot(classes, max(network.cardinalities)).double(), torch.tensor(probs, dtype=torch.float64)


def product(network: BayesianNetwork, seed: int = 0) -> Tensor:
    return network.logits + torch.randn(network.logits.shape, dtype=torch.float64, generator=seeded(seed))


# the reader


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "house.bif").write_text(HOUSE)
    nodes = {node.name: node for node in read_bif(tmp_path / "house.bif")}
    assert list(nodes) == ["Door", "Weather", "Alarm", "Calls", "Guard"]
    assert nodes["Weather"].states == ("calm", "windy", "storm")
    assert nodes["Calls"].states == ("0", "1-2", "3+", "n/a")
    assert nodes["Alarm"].parents == ("Door", "Weather")
    expected = [[[0.9, 0.1], [0.95, 0.05], [1.0, 0.0]], [[0.01, 0.99], [0.01, 0.99], [0.2, 0.8]]]
    torch.testing.assert_close(nodes["Alarm"].table, torch.tensor(expected, dtype=torch.float64))
    assert nodes["Guard"].table.shape == (4, 3, 3)
    assert nodes["Guard"].table[2, 0].tolist() == [0.0, 1.0, 0.0]


def test_rounded_rows_are_divided_by_their_sum() -> None:
    (node,) = parse_bif("variable A { type discrete [3] { a, b, c }; } probability (A) { table 0.333, 0.333, 0.333; }")
    assert node.table.tolist() == pytest.approx([1 / 3] * 3, abs=1e-16)


def changed(old: str, new: str) -> Callable[[], object]:
    assert old in HOUSE
    return lambda: parse_bif(HOUSE.replace(old, new, 1))


BROKEN: list[tuple[Callable[[], object], str]] = [
    (changed("0.3, 0.7", "0.3, 0.6"), r"a row of variable 'Door' does not sum to one: 0\.3, 0\.6 sum to 0\.9"),
    (changed("0.7, 0.2, 0.0, 0.1", "0.7, 0.2, 0.2, -0.1"), r"variable 'Calls' has the probability -0\.1"),
    (changed("0.3, 0.7", "nan, 0.7"), r"variable 'Door' has the probability nan"),
    (changed("0.3, 0.7", "0.3, much"), r"a row of 'Door' is 0\.3, much; use numbers"),
    (changed("0.3, 0.7", "0.3, 0.3, 0.4"), r"a row of 'Door' has 3 numbers for 2 states"),
    (changed("(on)", "(of)"), r"unknown state of 'Alarm' 'of'; did you mean 'off'"),
    (changed("(on)", "(on, calm)"), r"a row of 'Calls' is for \('on', 'calm'\), and its parents are Alarm"),
    (changed("(on) 0.1, 0.3, 0.6, 0.0;", ""), r"'Calls' has no probabilities at Alarm=on"),
    (changed("(off)", "(on)"), r"'Calls' has two rows for \('on',\)"),
    (changed("Calls | Alarm )", "Calls | Alarn )"), r"unknown variable 'Alarn'; did you mean 'Alarm'"),
    (changed("probability ( Weather ) { table 5e-1, .25, 0.25; }", ""), r"variable 'Weather' has no probabilities"),
    (changed("( Weather ) {", "( Door ) {"), r"variable 'Door' has two blocks"),
    (changed("( Door ) {", "( Door Weather ) {"), r"probability of 'Door' together with 'Weather'"),
    (changed("variable Weather", "variable Door"), r"variable 'Door' is declared twice"),
    (changed("[ 2 ]", "[ 3 ]"), r"variable 'Door' has 2 states and says 3"),
    (changed("{ open, shut }", "{ open, open }"), r"variable 'Door' has the states open, open; name each one once"),
    (changed("discrete [ 2 ]", "continuous [ 2 ]"), r"variable 'Door' is continuous"),
    (changed("type discrete [ 2 ] { open, shut };", ""), r"variable 'Door' has no type"),
    (changed("(on) 0.1", "table 0.1"), r"'Calls' has a table over Alarm.*write a row for each configuration"),
    (changed("variable Door {", "variable Door ["), r"in 'Door', '\[' stands where '{' should"),
    (changed("0.3, 0.7;", "0.3, 0.7"), r"in 'Door', '}' stands where ';' should"),
    (changed("network house", "house"), r"'house' stands where network, variable or probability should"),
    (lambda: parse_bif(HOUSE[:-60]), r"the file ends where"),
    (lambda: parse_bif(""), r"there is no variable"),
    (lambda: read_bif("nowhere.bif"), r"cannot read 'nowhere.bif': No such file"),
]


@pytest.mark.parametrize(("call", "says"), BROKEN, ids=[says for _, says in BROKEN])
def test_broken_files_are_refused(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


# the joint law


@each_evidence
def test_the_joint_law_is_the_product_of_the_tables(evidence: dict[str, str]) -> None:
    network = house(evidence)
    z, probs = every(network)
    torch.testing.assert_close(network.log_joint(z), probs.log(), rtol=0, atol=1e-14)
    assert ((probs == 0) == (network.log_joint(z) == -INF)).all()
    assert (probs == 0).any()
    assert network.possible == pytest.approx((probs > 0).sum().item())
    batched = network.log_joint(z.reshape(-1, 1, *z.shape[1:]).expand(-1, 3, -1, -1))
    assert torch.equal(batched, network.log_joint(z)[:, None].expand(-1, 3))
    # the floor is for each table, and changes nothing that is possible
    floored = network.log_joint(z, floor=-30.0)
    assert torch.equal(floored[probs > 0], network.log_joint(z)[probs > 0])
    assert (floored[probs == 0] < -30.0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_dtypes_are_computed_at_least_in_single(dtype: torch.dtype) -> None:
    network = house()
    z, _ = every(network)
    found = network.log_joint(z.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found, network.log_joint(z.float()).to(dtype), rtol=0, atol=0)


@each_evidence
def test_between_one_hot_vectors_it_is_the_mean(evidence: dict[str, str]) -> None:
    network = house(evidence)
    logits = product(network).requires_grad_()
    mean = network.log_joint(logits.softmax(-1), floor=-7.0)

    def f(z: Tensor) -> Tensor:
        return network.log_joint(z, floor=-7.0)

    torch.testing.assert_close(mean, exact_value(f, logits))
    (slope,) = torch.autograd.grad(mean, logits)
    torch.testing.assert_close(slope, exact_gradient(f, logits))
    # a variable of fewer classes has no slope behind them
    assert (slope[network.logits == -INF] == 0).all()
    assert network.log_joint(logits.softmax(-1)) == -INF


def test_gradients_are_numbers_where_nothing_is_possible() -> None:
    network = house()
    z = product(network).softmax(-1).requires_grad_()
    (slope,) = torch.autograd.grad(network.log_joint(z), z)
    assert not slope.isnan().any()


def test_an_estimator_has_the_gradient_of_the_joint_law() -> None:
    network = house({"Guard": "awake"})
    logits = product(network)

    def f(z: Tensor) -> Tensor:
        return network.log_joint(z, floor=-7.0)

    draws = gradient_draws(LeaveOneOut(samples=4), f, logits, 20_000, seeded())
    inside = network.logits > -INF
    assert_mean(draws[:, inside], exact_gradient(f, logits)[inside])
    biased = gradient_draws(ESTIMATORS["gumbel-softmax"](), f, logits, 20_000, seeded())
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(biased[:, inside], exact_gradient(f, logits)[inside])


# the exact posterior


@each_evidence
def test_elimination_is_enumeration(evidence: dict[str, str]) -> None:
    network = house(evidence)
    z, probs = every(network)
    found = network.posterior
    p = probs / probs.sum()
    assert found.log_partition == pytest.approx(probs.sum().log().item(), abs=1e-14)
    torch.testing.assert_close(found.marginals, (p[:, None, None] * z).sum(0), rtol=0, atol=1e-14)
    assert found.entropy == pytest.approx(-(p * p.log())[p > 0].sum().item(), abs=1e-13)


@pytest.mark.parametrize("seed", range(20))
def test_elimination_of_any_factors(seed: int) -> None:
    generator = seeded(seed)
    sizes = (2, 3, 1, 4, 2)
    factors, table = [], torch.zeros(sizes, dtype=torch.float64)
    for count in (0, 1, 1, 2, 2, 3, 2):
        scope = tuple(torch.randperm(5, generator=generator)[:count].tolist())
        shape = [sizes[n] for n in scope]
        value = 3 * torch.randn(shape, dtype=torch.float64, generator=generator)
        if count > 1:
            value = value.masked_fill(torch.rand(shape, dtype=torch.float64, generator=generator) < 0.2, -INF)
        factors.append(Factor(scope, value))
        order = sorted(range(count), key=scope.__getitem__)
        shape = [sizes[n] if n in scope else 1 for n in range(5)]
        table = table + value.permute(order).reshape(shape)
    found = eliminate(factors, sizes)
    log_z = table.logsumexp(tuple(range(5))).item()
    assert found.log_partition == pytest.approx(log_z, abs=1e-12)
    if log_z == -INF:
        assert not found.marginals.any()
        return
    p = (table - log_z).exp()
    for n, size in enumerate(sizes):
        expected = p.sum([m for m in range(5) if m != n])
        torch.testing.assert_close(found.marginals[n, :size], expected, rtol=0, atol=1e-13)
        assert (found.marginals[n, size:] == 0).all()
    assert found.entropy == pytest.approx(-(p * p.log())[p > 0].sum().item(), abs=1e-11)


@each_evidence
def test_draws_have_the_law_of_the_posterior(evidence: dict[str, str]) -> None:
    network = house(evidence)
    z, probs = every(network)
    draws = one_hot(draw(network.posterior, 20_000, generator=seeded()), z.shape[-1]).double()
    which = torch.einsum("dnk,cnk->dc", draws, z) == len(network.hidden)
    p = probs / probs.sum()
    assert (which.double() @ (p > 0).double() == 1).all()
    common = p > 1e-3  # rare configurations are not normal
    assert_mean(which.double()[:, common], p[common])
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(which.double()[:, common], p.roll(1)[common])


def test_elimination_of_what_has_no_mass_or_is_too_large() -> None:
    nothing = eliminate([Factor((0,), torch.tensor([0.0, -INF])), Factor((0,), torch.tensor([-INF, 0.0]))], (2,))
    assert nothing.log_partition == -INF
    assert not nothing.marginals.any()
    with pytest.raises(ValueError, match="nothing can be drawn"):
        draw(nothing, 1)
    with pytest.raises(
        ValueError, match=r"variable 0 cannot be summed out: .* 8 configurations, more than the limit of 7"
    ):
        eliminate([Factor((0, 1, 2), torch.zeros(2, 2, 2))], (2, 2, 2), limit=7)


def test_a_long_chain_is_summed_without_underflow() -> None:
    step = torch.tensor([[1e-30, 2e-30], [3e-30, 1e-30]], dtype=torch.float64).log()
    found = eliminate([Factor((n, n + 1), step) for n in range(999)], (2,) * 1000)
    scaled = torch.linalg.matrix_power((step - math.log(1e-30)).exp() / 3.5, 999)
    assert found.log_partition == pytest.approx(scaled.sum().log().item() + 999 * math.log(3.5e-30), rel=1e-12)
    assert (found.marginals.sum(-1) - 1).abs().max() < 1e-14


def test_what_is_summed_out_first_has_the_fewest_configurations_and_then_the_least_number() -> None:
    """0 has three neighbours, 1 to 3 one each; 3 has more classes, and 4 stands alone."""
    factors = [Factor((0, n), torch.zeros(2, 2 + (n == 3))) for n in (1, 2, 3)]
    shares = eliminate(factors, (2, 2, 2, 3, 2)).shares
    assert [scope for scope, _ in reversed(shares)] == [(4,), (1, 0), (2, 0), (0, 3), (3,)]


@pytest.mark.parametrize("parents", [0, 1], ids=["independent", "a chain"])
def test_the_work_for_many_variables_grows_as_their_number(parents: int) -> None:
    def work(count: int) -> int:
        """The steps of the interpreter within these files."""
        steps = 0

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal steps
            if "softhot/problems" not in frame.f_code.co_filename:
                return None
            frame.f_trace_opcodes = True
            steps += event == "opcode"
            return trace

        table = torch.full((2,) * (parents + 1), 0.5, dtype=torch.float64)
        nodes = [Node("0", ("a", "b"), (), table[0] if parents else table)]
        nodes += [Node(str(n), ("a", "b"), (str(n - 1),) * parents, table) for n in range(1, count)]
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            BayesianNetwork(tuple(nodes))
        finally:
            sys.settrace(before)
        return steps

    assert 0 < work(400) < 2.2 * work(200)


def changed_nodes(name: str, **settings: object) -> tuple[Node, ...]:
    given = {"name": name, "states": ("a", "b"), "parents": (), "table": torch.tensor([0.5, 0.5]), **settings}
    return (*parse_bif(HOUSE), Node(**given))  # type: ignore[arg-type]


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: house({"Dor": "open"}), r"unknown variable 'Dor'; did you mean 'Door'"),
    (lambda: house({"Door": "opn"}), r"unknown state of 'Door' 'opn'; did you mean 'open'"),
    (
        lambda: house({"Door": "open", "Weather": "storm", "Alarm": "off", "Guard": "awake"}),
        r"the evidence Alarm=off is impossible together with Door=open, Weather=storm: its probability is zero",
    ),
    (
        lambda: house({"Door": "open", "Weather": "calm", "Alarm": "on", "Calls": "0", "Guard": "gone"}),
        r"every variable is observed",
    ),
    (lambda: BayesianNetwork((*parse_bif(HOUSE), *parse_bif(HOUSE))), r"are not all different"),
    (lambda: BayesianNetwork(changed_nodes("New", parents=("Old",), table=torch.eye(2))), r"unknown parent of 'New'"),
    (
        lambda: BayesianNetwork(changed_nodes("New", parents=("Calls",), table=torch.eye(2))),
        r"the table of 'New' has 2 rows for 'Calls', which has 4 states",
    ),
    (lambda: changed_nodes("New", table=torch.eye(2)), r"the table of 'New' has the shape \(2, 2\), for 0 parents"),
    (lambda: changed_nodes("New", states=(), table=torch.ones(0)), r"variable 'New' has the states \(none\)"),
    (
        lambda: BayesianNetwork(
            (
                Node("A", ("a", "b"), ("B",), torch.eye(2)),
                Node("B", ("a", "b"), ("C",), torch.eye(2)),
                Node("C", ("a", "b"), ("B",), torch.eye(2)),
            )
        ),
        r"variables A, B, C depend on each other in a circle",
    ),
    (lambda: house().log_joint(torch.ones(5, 3)), r"z of shape \(5, 3\) is not that of 5 hidden variables of up to 4"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


# products of independent variables


def divergence(network: BayesianNetwork, logits: Tensor) -> float:
    """KL(q||p) by enumeration, of a product."""
    z, probs = every(network)
    q = (z * logits.log_softmax(-1).masked_fill(z == 0, 0.0)).sum((-1, -2))
    p = probs.log() - probs.sum().log()
    return torch.where(q > -INF, q.exp() * (q - p), 0.0).sum().item()


@each_evidence
def test_coordinate_ascent_stands_still_at_its_end(evidence: dict[str, str]) -> None:
    network = house(evidence)
    starts = likeliest(network.log_joint, network.cardinalities, 100).classes
    fit = mean_field(network.log_joint, network.cardinalities, starts, generator=seeded())
    found = network.posterior.log_partition - fit.elbo
    assert found == pytest.approx(divergence(network, fit.logits), abs=1e-12)
    assert fit.elbo == max(fit.elbos)
    assert len(fit.elbos) == len(starts)
    # no other product of the same support is better: neither near it, nor at the end of an ascent by gradients
    for seed in range(20):
        noise = torch.randn(fit.logits.shape, dtype=torch.float64, generator=seeded(seed))
        assert divergence(network, fit.logits + 0.01 * noise) > found
    # and each support that is closed under coordinate ascent ends at or above it
    single = [mean_field(network.log_joint, network.cardinalities, s[None], generator=seeded()).elbo for s in starts]
    assert max(single) <= fit.elbo + 1e-9


def test_classes_are_left_out_until_nothing_impossible_is_likely() -> None:
    network = house({"Guard": "awake"})
    for seed in range(10):
        logits = product(network, seed)
        assert divergence(network, logits) == INF
        inside = network.supported(logits)
        kept = inside > -INF
        assert torch.equal(inside[kept], logits[kept])
        assert kept.any(-1).all()
        assert math.isfinite(divergence(network, inside))
        assert torch.equal(network.supported(inside), inside)
    # a product that has nothing else to leave out stays impossible
    storm = one_hot(torch.tensor([0, 2, 1, 0]), 4).double().log()
    assert torch.equal(network.supported(storm), storm)


def test_a_start_must_be_possible() -> None:
    network = house()
    with pytest.raises(ValueError, match="none of 1 starts is possible"):
        mean_field(network.log_joint, network.cardinalities, torch.tensor([[0, 2, 1, 0, 0]]))
    with pytest.raises(ValueError, match="sweeps=0 leads nowhere"):
        mean_field(network.log_joint, network.cardinalities, torch.tensor([[0, 0, 0, 0, 0]]), sweeps=0)


# what is known of public networks

SHIPPED = Path(__file__).parent.parent / "examples" / "networks"
KNOWN = {  # evidence, B, the best product, the best mixture of B configurations
    "earthquake": ({"MaryCalls": "True"}, 100, 0.7533, 0.0070),
    "asia": ({"asia": "yes", "xray": "yes"}, 8, 1.0371, 0.4369),
    "sachs": ({"Akt": "LOW"}, 8, 0.7080, None),
    "cancer": ({"Cancer": "True"}, 8, 0.0783, None),
}


def network_file(name: str) -> Path:
    shipped = SHIPPED / f"{name}.bif"
    path = shipped if shipped.exists() else shared(f"bayesnets/{name}.bif")
    if path is None:
        pytest.skip(f"SOFTHOT_DATA does not hold bayesnets/{name}.bif")
    return path


@pytest.mark.parametrize("name", KNOWN)
def test_public_networks(name: str) -> None:
    evidence, components, ceiling, floor = KNOWN[name]
    network = BayesianNetwork.from_bif(network_file(name), evidence)
    log_z = network.posterior.log_partition
    starts = likeliest(network.log_joint, network.cardinalities, 64).classes
    fit = mean_field(network.log_joint, network.cardinalities, starts, generator=seeded())
    assert log_z - fit.elbo == pytest.approx(ceiling, abs=5e-5)
    if floor is not None:
        mixture = boosting(network.log_joint, network.cardinalities, components)
        assert mixture.proven
        assert log_z - mixture.elbo == pytest.approx(floor, abs=5e-5)


@pytest.mark.parametrize("name", ["alarm", "child", "insurance", "hepar2"])
def test_large_networks_have_an_exact_posterior(name: str) -> None:
    network = BayesianNetwork.from_bif(network_file(name))
    assert network.posterior.log_partition == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(network.posterior.marginals.sum(-1), torch.ones(len(network.nodes)).double())
