"""Discrete flows are invertible, and their mixtures are proper distributions: by enumeration of everything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.distributions import ComposeTransform, Independent, Transform
from torch.nn.functional import one_hot

from softhot.distributions import (
    Autoregressive,
    MaskedNetwork,
    MixtureOfDiscreteFlows,
    OneHotCategorical,
    Scale,
    Shift,
    bases,
    kl_divergence,
    location_scale,
)
from softhot.kernels.streams import Streams
from softhot.testing import assert_mean
from tests.integrands import cubic, seeded

INF = math.inf
DRAWS = 20_000
UNEVEN = (4, 3, 2)  # the numbers of classes of three variables, of up to four


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=seeded(seed))


def configurations(cardinalities: Sequence[int]) -> Tensor:
    every = torch.tensor(list(itertools.product(*map(range, cardinalities))))
    return one_hot(every, max(cardinalities)).double()


def network(components: int, seed: int = 0, **options: object) -> MaskedNetwork:
    torch.manual_seed(seed)
    return MaskedNetwork(3, 4, hidden=5, components=components, **options).double()  # type: ignore[arg-type]


def autoregressive(b: int, own: Sequence[int] | None) -> Transform:
    order = (2, 0, 1)
    return Autoregressive(network(b, order=order, scales=True), order, temperature=0.7, cardinalities=own)


def layers(b: int, own: Sequence[int] | None) -> Transform:
    middle = Autoregressive(network(b, seed=5), cardinalities=own)
    return ComposeTransform([Shift(normal(b, 3, 4), 1.0, own), middle, autoregressive(b, own)])


FLOWS: dict[str, Callable[[int, Sequence[int] | None], Transform]] = {
    "shift": lambda b, own: Shift(normal(b, 3, 4), 0.5, own),
    "scale": lambda b, own: Scale(normal(b, 3, 4), 2.0, own),
    "location-scale": lambda b, own: location_scale(normal(b, 3, 4), normal(b, 3, 4, seed=1), 1.0, own),
    "autoregressive": autoregressive,
    "layers": layers,
}
BASES: dict[str, Callable[[int, Sequence[int]], Tensor]] = {
    "enumerated": lambda b, own: bases.enumerated(b, own).double(),
    "uniform": lambda b, own: bases.uniform(b, own).double(),
    "dirichlet": lambda b, own: bases.dirichlet(b, own, 0.5, generator=seeded(3)).double(),
}
flows = pytest.mark.parametrize("make", FLOWS.values(), ids=FLOWS.keys())
sizes = pytest.mark.parametrize("own", [None, UNEVEN, (1, 4, 3)], ids=str)


def mixture(flow: str, base: str, own: Sequence[int] | None = None, components: int = 3) -> MixtureOfDiscreteFlows:
    weights = normal(components, seed=7)
    return MixtureOfDiscreteFlows(BASES[base](components, own or (4, 4, 4)), FLOWS[flow](components, own), weights)


MIXTURES = [*itertools.product(FLOWS, BASES)]
mixtures = pytest.mark.parametrize(("flow", "base"), MIXTURES)


# flows


def bijective(flow: Transform, own: Sequence[int]) -> bool:
    """Whether the flow takes all configurations onto all configurations, and its inverse takes them back."""
    u = configurations(own)[:, None]
    z = flow(u)
    every = {tuple(row) for row in u.flatten(1).tolist()}
    onto = all({tuple(row) for row in z[:, b].flatten(1).tolist()} == every for b in range(z.shape[1]))
    return onto and torch.equal(flow.inv(z), u.expand_as(z))


@flows
@sizes
def test_flows_are_inverted(make: Callable[..., Transform], own: Sequence[int] | None) -> None:
    flow, u = make(4, own), configurations(own or (4, 4, 4))[:, None]
    assert bijective(flow, own or (4, 4, 4))
    assert torch.equal(flow(flow.inv(u)), u.expand(-1, 4, -1, -1))
    assert not torch.equal(flow(u), u.expand(-1, 4, -1, -1))
    determinant = flow.log_abs_det_jacobian(u, flow(u))
    assert determinant.shape == (len(u), 4)
    assert (determinant == 0).all()


def test_what_is_not_invertible_is_seen() -> None:
    looking_ahead = Autoregressive(network(4, order=(2, 0, 1)))  # in another order than that of the network
    assert not bijective(looking_ahead, (4, 4, 4))
    even = Scale(torch.zeros(1, 3, 4))
    even._allowed = torch.tensor([False, False, True, False])  # times two, modulo four
    assert not bijective(even, (4, 4, 4))


@pytest.mark.parametrize("classes", range(1, 9))
def test_shifts_and_scales_are_those_of_arithmetic(classes: int) -> None:
    u = torch.eye(classes, dtype=torch.float64)[:, None]
    for choice in range(classes):
        logits = one_hot(torch.tensor([[choice]]), classes).double()
        j = torch.arange(classes)
        assert torch.equal(Shift(logits)(u).argmax(-1).flatten(), (j + choice) % classes)
        if math.gcd(choice, classes) == 1:
            assert torch.equal(Scale(logits)(u).argmax(-1).flatten(), choice * j % classes)


@pytest.mark.parametrize("t", [0.3, 1.0, 4.0])
def test_the_gradient_of_a_shift_is_that_of_the_softmax(t: float) -> None:
    logits, u = normal(5, 3, 4).requires_grad_(), configurations((4, 4, 4))[17]
    moved = Shift(logits, t)(u)
    slope = normal(5, 3, 4, seed=1)
    (found,) = torch.autograd.grad((moved * slope).sum(), logits)
    # class j of u goes to j + m: the slope of shift m is that of class j + m
    back = torch.stack([slope[:, n].roll(-int(u[n].argmax()), -1) for n in range(3)], 1)
    (expected,) = torch.autograd.grad(((logits / t).softmax(-1) * back).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_gradients_reach_all_parameters() -> None:
    q = mixture("layers", "dirichlet")
    parameters = [p for part in q.flow.parts[1:] for p in part.network.parameters()]  # type: ignore[attr-defined]
    for value in (cubic(q.rsample((500,), generator=seeded())).mean(), q.entropy(), q.expectation(cubic)):
        gradients = torch.autograd.grad(value, parameters)
        assert all(g.isfinite().all() and (g != 0).any() for g in gradients)


# mixtures


@mixtures
@sizes
def test_probabilities_sum_to_one(flow: str, base: str, own: Sequence[int] | None) -> None:
    q, z = mixture(flow, base, own), configurations(own or (4, 4, 4))
    probs = q.log_prob(z).exp()
    torch.testing.assert_close(probs.sum(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(q.entropy(), -torch.xlogy(probs, probs).sum())
    torch.testing.assert_close(q.mean, (probs[:, None, None] * z).sum(0))
    torch.testing.assert_close(q.expectation(cubic), (probs * cubic(z)).sum())


def frequencies(draws: Tensor, own: Sequence[int]) -> Tensor:
    """Which configuration each draw is, as a one-hot vector in the order of the enumeration."""
    z = configurations(own)
    return ((draws.unsqueeze(-3) - z).abs().sum((-1, -2)) == 0).double()


@mixtures
def test_frequencies_are_the_probabilities(flow: str, base: str) -> None:
    q = mixture(flow, base, UNEVEN)
    probs = q.log_prob(configurations(UNEVEN)).exp()
    common = probs * DRAWS > 50  # the others are too rare to be normal
    draws = frequencies(q.sample((DRAWS,), generator=seeded()), UNEVEN)
    assert (draws[:, probs == 0] == 0).all()
    assert_mean(draws[:, common], probs[common])
    assert_mean(draws[:, ~common].sum(-1), probs[~common].sum())


def test_another_distribution_is_seen() -> None:
    q = mixture("shift", "enumerated", UNEVEN)
    z = configurations(UNEVEN)
    draws = frequencies(q.sample((DRAWS,), generator=seeded()), UNEVEN)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_mean(draws, q.product_of_marginals().log_prob(z).exp())


@pytest.mark.parametrize("draws", [1, 2, 7])
def test_stratified_draws_have_the_same_law_and_less_variance(draws: int) -> None:
    q = mixture("location-scale", "dirichlet", UNEVEN).expand((5_000,))
    means = [frequencies(q.sample((draws,), stratified=s, generator=seeded()), UNEVEN) for s in (False, True)]
    probs = mixture("location-scale", "dirichlet", UNEVEN).log_prob(configurations(UNEVEN)).exp()
    common = probs * 5_000 > 50
    for each in means[1]:  # every draw alone
        assert_mean(each[:, common], probs[common])
    plain, even = (each.mean(0).var(0).sum() for each in means)
    assert even < 0.9 * plain or draws == 1


def test_stratified_draws_are_as_even_as_the_weights_allow() -> None:
    q = MixtureOfDiscreteFlows(bases.enumerated(5, (5,)), Shift(torch.zeros(5, 1, 5)), torch.zeros(4, 5))
    assert (q.sample((15,), stratified=True, generator=seeded()).sum(0) == 3).all()
    weights = torch.tensor([0.5, 0.3, 0.0, 0.2, 0.0]).log()
    q = MixtureOfDiscreteFlows(bases.enumerated(5, (5,)), Shift(torch.zeros(5, 1, 5)), weights)
    assert q.sample((10,), stratified=True, generator=seeded()).sum(0).flatten().tolist() == [5, 3, 0, 2, 0]


def test_stratified_draws_of_mapped_runs_are_those_of_each_alone() -> None:
    q = mixture("location-scale", "dirichlet", UNEVEN)

    def draw(own: torch.Generator) -> Tensor:
        return q.sample((6,), stratified=True, generator=own)

    runs = torch.func.vmap(lambda run: draw(Streams([seeded(0), seeded(1)], run)), randomness="same")(torch.arange(2))
    for run, z in enumerate(runs):
        assert torch.equal(z, draw(seeded(run)))


def test_flows_made_in_inference_mode_learn_later_outside() -> None:
    logits = torch.zeros(2, 7, requires_grad=True)  # of as many classes as no other test has
    with torch.inference_mode():
        Shift(torch.zeros(2, 7))(torch.eye(7)[:2])
    Shift(logits)(torch.eye(7)[:2]).square().sum().backward()
    assert logits.grad is not None


def test_entropy_of_deltas_is_bounded_and_that_of_the_product_is_not() -> None:
    same = torch.tensor([[0, 0, 0], [1, 1, 1]])  # two configurations that differ in all variables
    q = MixtureOfDiscreteFlows(bases.delta(same, 4), Shift(torch.zeros(2, 3, 4)))
    product = q.product_of_marginals()
    torch.testing.assert_close(q.entropy(), torch.tensor(math.log(2)))
    torch.testing.assert_close(product.entropy(), torch.tensor(3 * math.log(2)))
    assert q.log_prob(torch.eye(4)[[0, 1, 0]]) == -INF
    torch.testing.assert_close(product.log_prob(torch.eye(4)[[0, 1, 0]]), torch.tensor(-3 * math.log(2)))
    for flow in ("shift", "location-scale"):
        many = mixture(flow, "enumerated", components=9)
        assert many.entropy() <= math.log(9)
        assert many.product_of_marginals().entropy() >= many.entropy()


@mixtures
def test_divergences_are_those_of_the_enumeration(flow: str, base: str) -> None:
    q, p, z = mixture(flow, base), mixture("shift", "dirichlet"), configurations((4, 4, 4))
    prior = Independent(OneHotCategorical(logits=normal(3, 4, seed=2)), 1)
    probs = q.log_prob(z).exp()
    inside = probs > 0
    for other in (p, prior):
        expected = (probs * (q.log_prob(z) - other.log_prob(z)))[inside].sum()
        torch.testing.assert_close(kl_divergence(q, other), expected)
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros((), dtype=torch.float64))


def test_divergence_is_infinite_where_the_prior_excludes() -> None:
    q = mixture("shift", "uniform")
    prior = Independent(OneHotCategorical(logits=torch.tensor([0.0, 0.0, 0.0, -INF]).expand(3, 4)), 1)
    assert kl_divergence(q, prior) == INF
    assert kl_divergence(q, mixture("shift", "enumerated")) == INF


# gradients: of the multilinear extension, by plain products


def extension(q: MixtureOfDiscreteFlows, z: Tensor) -> Tensor:
    inside = (q.flow.inv(z.unsqueeze(-3)) * q.base_logits.exp()).sum(-1)
    return (q.mixture_logits.exp() * inside.prod(-1)).sum(-1).log()


@pytest.mark.parametrize("base", BASES)
def test_the_slope_of_log_prob_is_that_of_the_multilinear_extension(base: str) -> None:
    leaves = normal(3, 3, 4), normal(3, 3, 4, seed=1), normal(3, seed=2), BASES[base](3, (4, 4, 4))
    leaves = tuple(leaf.requires_grad_() for leaf in leaves)
    q = MixtureOfDiscreteFlows(leaves[3], location_scale(*leaves[:2]), leaves[2])
    z = configurations((4, 4, 4))
    z = z[q.log_prob(z) > -INF].requires_grad_()
    slope = normal(len(z), seed=3)
    found = torch.autograd.grad((q.log_prob(z) * slope).sum(), (*leaves, z), retain_graph=True)
    expected = torch.autograd.grad((extension(q, z) * slope).sum(), (*leaves, z))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("base", BASES)
def test_the_slope_of_the_entropy_leaves_out_the_component_of_the_draw(base: str) -> None:
    leaves = normal(3, 3, 4).requires_grad_(), normal(3, 3, 4, seed=1).requires_grad_()
    q = MixtureOfDiscreteFlows(BASES[base](3, (4, 4, 4)), location_scale(*leaves), normal(3, seed=2))
    found = torch.autograd.grad(q.entropy(), leaves)
    z, weight = q.points()
    inside = (q.flow.inv(z.unsqueeze(-3)) * q.base_logits.exp()).sum(-1).prod(-1)
    own = torch.eye(3, dtype=torch.bool).repeat(len(z) // 3, 1)
    known = torch.where(own, inside.detach(), inside)
    expected = torch.autograd.grad(-(weight * (q.mixture_logits.exp() * known).sum(-1).log()).sum(), leaves)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_gradient_to_weights_and_bases_is_the_true_one() -> None:
    weights, base = normal(3, seed=2).requires_grad_(), BASES["dirichlet"](3, UNEVEN).requires_grad_()
    z = configurations(UNEVEN)
    for flow in ("location-scale", "layers"):  # both ways to compute a probability
        q = MixtureOfDiscreteFlows(base, FLOWS[flow](3, UNEVEN), weights)
        found = torch.autograd.grad(q.entropy() + q.expectation(cubic), (weights, base))
        q = MixtureOfDiscreteFlows(base, FLOWS[flow](3, UNEVEN), weights)
        inside = (q.flow.inv(z.unsqueeze(-3))[..., None, :] @ q.base_logits.exp()[..., None])[..., 0, 0].prod(-1)
        mass = (inside * q.mixture_logits.exp()).sum(-1)
        truth = (torch.where(mass > 0, mass * (cubic(z) - mass.log()), 0.0)).sum()
        expected = torch.autograd.grad(truth, (weights, base))
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_the_entropy_has_a_slope_where_components_are_near_and_none_where_they_are_apart() -> None:
    for second, slope in (([1, 2, 3], False), ([0, 0, 1], True), ([0, 0, 0], True)):
        leaf = torch.eye(4)[torch.tensor([[0, 0, 0], second])].requires_grad_()
        q = MixtureOfDiscreteFlows.of_deltas(leaf)
        assert (torch.autograd.grad(q.entropy(), leaf)[0] != 0).any() == slope
        # at a draw alone, log q has every component run from where it is
        z = q.rsample((50,), generator=seeded())
        assert (torch.autograd.grad(q.log_prob(z).mean(), leaf)[0] != 0).any()


@mixtures
def test_draws_with_their_log_probability(flow: str, base: str) -> None:
    q = mixture(flow, base, UNEVEN).expand((2,))
    for stratified in (False, True):
        z, log_q = q.rsample_and_log_prob((5, 3), stratified=stratified, generator=seeded())
        assert torch.equal(z, q.rsample((5, 3), stratified=stratified, generator=seeded()))
        torch.testing.assert_close(log_q, q.log_prob(z))


def test_where_there_is_no_mass_there_is_no_nan() -> None:
    logits = normal(2, 3, 4).requires_grad_()
    q = MixtureOfDiscreteFlows(bases.enumerated(2, (4, 4, 4)), Shift(logits), torch.tensor([0.0, -INF]))
    log_q = q.log_prob(configurations((4, 4, 4)))
    assert (log_q == -INF).sum() == 63
    (gradient,) = torch.autograd.grad(log_q[log_q > -INF].sum() + log_q[log_q == -INF].sum(), logits)
    assert gradient.isfinite().all()


# shapes and types


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_shapes_and_types(batch: tuple[int, ...], dtype: torch.dtype) -> None:
    logits = normal(*batch, 4, 2, 3).to(dtype).requires_grad_()
    q = MixtureOfDiscreteFlows(bases.enumerated(4, (3, 3)).to(dtype), Shift(logits))
    assert (q.batch_shape, q.event_shape, q.components) == (batch, (2, 3), 4)
    for shape in ((), (7,), (2, 0), (6, 5)):
        draws = q.rsample(shape, generator=seeded())
        assert (draws.shape, draws.dtype) == ((*shape, *batch, 2, 3), dtype)
        assert q.log_prob(draws).shape == (*shape, *batch)
        assert q.log_prob(draws).dtype == dtype
        assert q.sample(shape, stratified=True).shape == draws.shape
        assert not q.sample(shape).requires_grad
    assert (q.entropy().shape, q.entropy().dtype) == (batch, dtype)
    assert q.mean.shape == q.variance.shape == (*batch, 2, 3)
    wide = q.expand((6, *batch))
    torch.testing.assert_close(wide.entropy(), q.entropy().expand(6, *batch))
    assert wide.sample((2,)).shape == (2, 6, *batch, 2, 3)
    assert repr(q).startswith("MixtureOfDiscreteFlows(")
    (gradient,) = torch.autograd.grad(q.entropy().sum() + q.rsample().sum(), logits)
    assert gradient.isfinite().all()


def test_one_generator_is_the_only_source_of_randomness() -> None:
    q = mixture("layers", "dirichlet")
    state = torch.get_rng_state()
    for stratified in (False, True):
        one, again, other = (q.sample((50,), stratified=stratified, generator=seeded(s)) for s in (1, 1, 2))
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
    bases.dirichlet(3, (2, 3), generator=seeded())
    assert torch.equal(torch.get_rng_state(), state)


def test_dirichlet_bases_have_the_moments_of_the_distribution() -> None:
    for concentration in (0.05, 1.0, 20.0):
        probs = bases.dirichlet(DRAWS, (3, 2), concentration, generator=seeded()).double().exp()
        spread = (1 / 3) * (2 / 3) / (3 * concentration + 1)
        assert_mean(probs[:, 0], torch.full((3,), 1 / 3, dtype=torch.float64))
        assert_mean((probs[:, 0] - 1 / 3) ** 2, torch.full((3,), spread, dtype=torch.float64))
        assert (probs[:, 1, 2] == 0).all()
    assert bases.dirichlet(1000, (5,), 1e-3, generator=seeded()).amax(-1).isfinite().all()


# errors

REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: Shift(torch.zeros(2, 3, dtype=torch.long)), "logits is a tensor of torch.int64, not of floats"),
    (lambda: Shift(torch.zeros(3)), r"of shape \(3,\)"),
    (lambda: Shift(torch.full((2, 3), math.nan)), r"a row of logits with NaN"),
    (lambda: Scale(torch.tensor([[0.0, -INF, 0.0, -INF]])), r"without a finite entry for what is allowed"),
    (lambda: Shift(torch.zeros(2, 3), temperature=0.0), r"temperature=0.0 is not a positive"),
    (lambda: Shift(torch.zeros(2, 3), cardinalities=(3,)), r"cardinalities=\(3,\) do not fit 2 variables"),
    (lambda: Shift(torch.zeros(2, 3), cardinalities=(3, 4)), r"cardinalities=\(3, 4\) do not fit 2 variables"),
    (lambda: Shift(torch.zeros(1, 3), cardinalities=(True,)), r"cardinalities=\(True,\) do not fit 1 variables"),
    (lambda: Shift(torch.zeros(1, 3), cardinalities=[2.5]), r"use a whole number of classes .* such as \[3\]"),
    (lambda: bases.uniform(1, 3), r"cardinalities=3 do not fit any variables"),  # type: ignore[arg-type]
    (lambda: MaskedNetwork(3, 2, order=(0, 1)), r"does not name each of 3 variables"),
    (lambda: MaskedNetwork(2, 2, order=(1, 1)), r"order=\[1, 1\] is no permutation"),
    (lambda: Autoregressive(lambda z: z[..., :1])(torch.eye(3)), r"the network gives 1 logits .* 3 classes"),
    (lambda: bases.delta(torch.tensor([[3]]), 3), r"classes from 3 to 3, outside 0 to 2"),
    (lambda: bases.uniform(0, (2,)), r"components=0 leaves nothing to draw"),
    (lambda: bases.uniform(1, ()), r"cardinalities=\(\) do not fit any variables"),
    (lambda: bases.dirichlet(1, (2,), -1.0), r"concentration=-1.0 is not a positive"),
    (lambda: mixture("shift", "uniform").expand(()).log_prob(torch.zeros(3, 4)), r"within the support"),
    (
        lambda: MixtureOfDiscreteFlows(torch.zeros(2, 3), Shift(torch.zeros(2, 3))),
        r"base_logits of shape \(2, 3\) and a flow to \(2, 3\) do not describe",
    ),
    (
        lambda: MixtureOfDiscreteFlows(torch.zeros(1, 2, 3), Shift(torch.zeros(5, 2, 3))),
        r"a flow to \(5, 2, 3\) do not describe",
    ),
    (
        lambda: MixtureOfDiscreteFlows(torch.zeros(5, 2, 3), Shift(torch.zeros(5, 2, 3)), torch.zeros(2)),
        r"mixture_logits of shape \(2,\) do not weigh 5 components; use torch.zeros\(5\)",
    ),
    (
        lambda: MixtureOfDiscreteFlows(torch.full((5, 2, 3), -INF), Shift(torch.zeros(5, 2, 3))),
        r"base_logits has a row of -inf only",
    ),
    (
        lambda: MixtureOfDiscreteFlows(torch.zeros(5, 2, 3), Shift(torch.zeros(5, 2, 3)), torch.tensor([math.nan] * 5)),
        r"mixture_logits has NaN",
    ),
    (
        lambda: MixtureOfDiscreteFlows(bases.uniform(9, (4,) * 9), Shift(torch.zeros(9, 9, 4))).entropy(),
        r"2,359,296 configurations of 9 components, more than the limit of 65,536; use the mean over rsample",
    ),
    (
        lambda: kl_divergence(
            mixture("shift", "uniform"), Independent(torch.distributions.Normal(torch.zeros(3, 4), 1.0), 2)
        ),
        r"divergence to independent one-hot variables, not to Normal",
    ),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
