"""A Gaussian mixture: its ELBO is that of the law without the means, and nothing near the solution is better."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from softhot.problems import GaussianMixture
from softhot.testing import exact_gradient
from tests.integrands import seeded

MIXTURE = GaussianMixture(
    torch.randn(5, 2, dtype=torch.float64, generator=seeded()) * 3, classes=2, noise=0.8, spread=2.0
)


def log_joint(mixture: GaussianMixture, assignment: tuple[int, ...]) -> float:
    """log p(x, z), the means integrated out: the rows of a class are correlated normal variables."""
    total = -len(assignment) * math.log(mixture.classes)
    for k in range(mixture.classes):
        own = mixture.data[[n for n, chosen in enumerate(assignment) if chosen == k]]
        if len(own):
            one = torch.ones(len(own), len(own), dtype=torch.float64)
            covariance = mixture.spread**2 * one + mixture.noise**2 * torch.eye(len(own), dtype=torch.float64)
            normal = MultivariateNormal(torch.zeros(len(own), dtype=torch.float64), covariance)
            total += normal.log_prob(own.T).sum().item()
    return total


def start(seed: int = 1) -> Tensor:
    return torch.randn(5, 2, dtype=torch.float64, generator=seeded(seed))


def test_the_elbo_of_one_assignment_is_its_joint_probability() -> None:
    for assignment in itertools.product(range(2), repeat=5):
        logits = torch.nn.functional.one_hot(torch.tensor(assignment), 2).double().log()
        assert MIXTURE.elbo(logits).item() == pytest.approx(log_joint(MIXTURE, assignment), abs=1e-10)


def test_the_solution_is_below_the_evidence_and_above_what_is_near() -> None:
    every = [log_joint(MIXTURE, assignment) for assignment in itertools.product(range(2), repeat=5)]
    evidence = torch.tensor(every).logsumexp(0).item()
    logits = max((MIXTURE.solve(start(seed)) for seed in range(20)), key=lambda logits: MIXTURE.elbo(logits).item())
    found = MIXTURE.elbo(logits).item()
    assert max(every) < found < evidence
    for seed in range(20):
        noise = torch.randn(5, 2, dtype=torch.float64, generator=seeded(seed))
        assert MIXTURE.elbo(logits + 0.1 * noise) < found


def test_the_slope_of_the_elbo_is_that_at_fixed_means() -> None:
    logits = start().requires_grad_()
    (slope,) = torch.autograd.grad(MIXTURE.elbo(logits), logits)
    r = logits.detach().softmax(-1)
    scores = MIXTURE.scores(*MIXTURE.means(r))
    direct = exact_gradient(lambda z: (z * (scores - r.log())).sum((-1, -2)), logits)
    torch.testing.assert_close(slope, direct)


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: GaussianMixture(torch.zeros(0, 2), 2), r"data of shape \(0, 2\) has no row"),
    (lambda: GaussianMixture(torch.tensor([[math.nan]]), 2), r"NaN or infinities"),
    (lambda: GaussianMixture(torch.zeros(3, 2), 1), r"classes=1 leaves nothing to choose"),
    (lambda: GaussianMixture(torch.zeros(3, 2), 2, noise=0.0), r"noise=0.0 is not a positive"),
    (lambda: GaussianMixture(torch.zeros(3, 2), 2, spread=math.inf), r"spread=inf is not a positive"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
