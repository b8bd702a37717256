"""Problems: what they call exact is what enumeration gives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from softhot.problems import (
    PROBLEMS,
    Polynomial,
    Problem,
    Quadratic,
    QuadraticProgramme,
    SharedLogit,
    normal_values,
    problem,
)
from softhot.testing import exact_gradient, exact_value

# small enough to enumerate
SMALL: dict[str, Problem] = {
    "polynomial": Polynomial(latents=3),
    "polynomial-1.5": Polynomial(latents=3, power=1.5),
    "polynomial-3": Polynomial(latents=3, power=3.0),
    "polynomial-four": Polynomial(latents=3, values=normal_values()),
    "rebar": Polynomial(latents=1),
    "shared-logit": SharedLogit(),
    "quadratic-programme": QuadraticProgramme(),
    "quadratic-programme of four": QuadraticProgramme(classes=4),
    "random-quadratic": Quadratic(latents=3),
    "random-quadratic of two": Quadratic(classes=2, seed=1),
}
each_small = pytest.mark.parametrize("toy", SMALL.values(), ids=SMALL.keys())
each_one = pytest.mark.parametrize("toy", PROBLEMS.values(), ids=PROBLEMS.keys())


def parameters(toy: Problem, *batch: int) -> Tensor:
    shape = *batch, *toy.start().shape
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@each_small
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)], ids=str)
def test_values_and_gradients_are_those_of_enumeration(toy: Problem, batch: tuple[int, ...]) -> None:
    leaf = parameters(toy, *batch).requires_grad_()
    logits = toy.logits(leaf)
    assert logits.shape == (*batch, toy.latents, toy.classes)
    value = toy.value(logits)
    assert (value.shape, value.dtype) == (batch, torch.float64)
    torch.testing.assert_close(value, exact_value(toy.f, logits))
    (chained,) = torch.autograd.grad(logits, leaf, exact_gradient(toy.f, logits))
    torch.testing.assert_close(toy.gradient(leaf), chained)
    torch.testing.assert_close(Problem.value(toy, logits), value)


def test_every_problem_has_a_small_one() -> None:
    assert {type(each) for each in SMALL.values()} == {type(each) for each in PROBLEMS.values()}


@each_one
def test_the_start_and_the_minimum(toy: Problem) -> None:
    assert torch.equal(toy.start(3), toy.start(3))
    logits = toy.logits()
    assert logits.shape == (toy.latents, toy.classes)
    least, value = toy.minimum(), toy.value(logits)
    assert least is not None
    assert least < value
    assert toy.source
    sharp = toy.logits(40 * toy.start(1).sign() + 40 * (toy.start(1) == 0))
    assert toy.value(sharp).item() >= least - 1e-6
    assert toy.f(torch.zeros(7, 2, toy.latents, toy.classes)).shape == (7, 2)


@each_small
def test_the_minimum_is_that_of_the_configurations(toy: Problem) -> None:
    least = Problem.minimum(toy)
    assert least is not None
    if isinstance(toy, SharedLogit | QuadraticProgramme):  # not every configuration can be reached
        assert toy.minimum() > least
    else:
        assert toy.minimum() == pytest.approx(least)


def test_known_numbers() -> None:
    assert PROBLEMS["rebar-0.499"].value(torch.zeros(1, 2)).item() == pytest.approx((0.501**2 + 0.499**2) / 2)
    assert PROBLEMS["polynomial-3"].minimum() == pytest.approx(0.45**3)
    torch.manual_seed(0)
    w = torch.randn(4)
    w = (w - w.min()) / (w.max() - w.min())
    z = torch.eye(4)[torch.arange(128) % 4]
    expected = ((z @ w) - 0.45).square().mean()
    assert PROBLEMS["polynomial-four"].f(z).item() == pytest.approx(expected.item())
    assert PROBLEMS["polynomial-four"].start().abs().max() <= 0.01
    assert PROBLEMS["shared-logit-hard"].start().tolist() == [-4.0]
    assert PROBLEMS["shared-logit"].minimum() == pytest.approx(0.4**2 + 0.49**2 + 0.52**2)
    p, place = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), torch.arange(3)
    programme = torch.exp(-2.0 * (place - place[:, None]).abs()).double()
    expected = (p - 1 / 3) @ programme @ (p - 1 / 3)
    torch.testing.assert_close(PROBLEMS["quadratic-programme"].value(QuadraticProgramme().logits(p.log())), expected)
    form = Quadratic().form(p)
    assert torch.equal(form, form.T)
    eigenvalues = torch.linalg.eigvalsh(form)
    assert eigenvalues.min() < 0 < eigenvalues.max()
    assert Quadratic(latents=9, classes=4).minimum() is None


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: Polynomial(latents=0), r"latents=0.*use latents >= 1"),
    (lambda: Polynomial(values=(1.0,)), r"values=\(1.0,\).*two values"),
    (lambda: Polynomial(power=0.5), r"power=0.5 has no gradient"),
    (lambda: Polynomial(power=math.inf), r"power=inf has no gradient"),
    (lambda: SharedLogit(targets=()), r"leaves no variable"),
    (lambda: Quadratic(latents=0), r"latents=0 leaves nothing to choose"),
    (lambda: QuadraticProgramme(classes=1), r"classes=1 leaves nothing to choose"),
    (lambda: problem("polinomial"), r"unknown problem 'polinomial'; did you mean 'polynomial'"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_errors(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_normal_values_span_the_unit_interval() -> None:
    values = normal_values(7, seed=3)
    assert (min(values), max(values), len(values)) == (0.0, 1.0, 7)
