"""Calls of estimators: what cannot be right is said in one line, by all of them alike, and before it is a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from softhot.estimators import ESTIMATORS, Estimator, Relax
from tests.integrands import seeded

estimators = pytest.mark.parametrize("name", ESTIMATORS)
pytestmark = pytest.mark.usefixtures("unchecked")


def made(name: str) -> Estimator:
    return ESTIMATORS[name].of_size(2, 2)


def random(name: str, *batch: int, latents: int = 2, classes: int = 2) -> Tensor:
    components = (made(name).evaluations(latents, classes),) if ESTIMATORS[name].mixture else ()
    return torch.randn(*batch, *components, latents, classes, generator=seeded()).requires_grad_()


def total(z: Tensor) -> Tensor:
    return (z * torch.arange(1.0, 1 + z.shape[-1], dtype=z.dtype)).sum((-1, -2))


def refused(call: Callable[[], object], says: str) -> None:
    """In one line, with what to write instead."""
    with pytest.raises(ValueError, match=says) as error:
        call()
    assert "use " in str(error.value) or "sum over" in str(error.value)
    assert "\n" not in str(error.value)


# ---- f

INTEGRANDS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "one number for all": (lambda z: total(z).mean(), r"^f gives shape \(\) for z of shape \(.*3, 2, 2\)"),
    "one number for all, as a row": (lambda z: total(z).reshape(-1)[:1], r"^f gives shape \(1,\) for z of shape"),
    "a number for each variable": (lambda z: z[..., 0], r"^f gives shape \(.*3, 2\) for z of shape \(.*3, 2, 2\)"),
    "a column": (lambda z: total(z)[..., None], r"^f gives shape \(.*3, 1\) for z of shape \(.*3, 2, 2\)"),
    "more numbers": (lambda z: total(z).expand(7, *z.shape[:-2]), r"^f gives shape \(7, .*3\) for z of shape"),
    "a float": (lambda z: 1.0, "^f gives a float, not a tensor"),
    "nothing": (lambda z: None, "^f gives a NoneType, not a tensor"),
    "a tuple": (lambda z: (total(z),), "^f gives a tuple, not a tensor"),
    "an array": (lambda z: total(z).detach().numpy(), "^f gives a ndarray, not a tensor"),
    "integers": (lambda z: total(z).long(), r"^f gives a tensor of torch.int64, not of floats; use .to\(z.dtype\)"),
    "truth values": (lambda z: total(z) > 0, r"^f gives a tensor of torch.bool, not of floats"),
    "complex numbers": (lambda z: total(z) + 0j, r"^f gives a tensor of torch.complex64, not of floats"),
}


@estimators
@pytest.mark.parametrize(("f", "says"), INTEGRANDS.values(), ids=INTEGRANDS.keys())
def test_what_f_gives_must_be_one_number_for_each(name: str, f: Callable[[Tensor], Any], says: str) -> None:
    """Of the wrong shape, it used to broadcast to a wrong value and a wrong gradient."""
    estimator = made(name)
    refused(lambda: estimator(f, random(name, 3)), says)
    refused(lambda: estimator.learn(f, random(name, 3)), says)
    refused(lambda: estimator.with_loss(f, random(name, 3)), says)


@estimators
def test_an_f_without_a_slope_is_refused_where_one_is_needed(name: str) -> None:
    estimator, logits = made(name), random(name, 3)
    for f in (lambda z: total(z).detach(), lambda z: total(z.detach().round()), lambda z: z.new_ones(z.shape[:-2])):
        if estimator.differentiable:
            refused(lambda f=f: estimator(f, logits), f"^{type(estimator).__name__} needs the slope of f")
        else:
            estimator(f, logits).sum().backward()


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name not in ("muprop", "rebar", "rodeo")])
def test_without_gradients_a_slope_is_not_asked_for(name: str) -> None:
    """But by those that have it in their control variate."""
    estimator, logits = made(name), random(name, 3)
    with torch.no_grad():
        assert estimator(lambda z: total(z).detach(), logits).shape == (3,)
    assert estimator(lambda z: total(z).detach(), logits.detach()).shape == (3,)


@estimators
def test_what_is_no_function(name: str) -> None:
    estimator, logits = made(name), random(name, 3)
    refused(lambda: estimator(3.0, logits), r"^f is a float, not a function of z; use a function, and give it first")  # type: ignore[arg-type]
    refused(lambda: estimator(logits, total), r"^f is a Tensor, not a function of z")  # type: ignore[arg-type]


# ---- logits

LOGITS: dict[str, tuple[Any, str]] = {
    "a number": (torch.tensor(0.0), r"^logits of shape \(\) has no classes"),
    "one variable alone": (torch.zeros(2), r"^logits of shape \(2,\) are not those of N variables.*unsqueeze\(-2\)"),
    "no classes": (torch.zeros(8, 2, 0), r"^logits of shape \(8, 2, 0\) are not those of N variables of K classes"),
    "no variables": (torch.zeros(8, 0, 2), r"^logits of shape \(8, 0, 2\) are not those of N variables of K classes"),
    "integers": (torch.zeros(8, 2, 2, dtype=torch.int64), r"^logits is a tensor of torch.int64.*use logits.float\(\)"),
    "truth values": (torch.zeros(8, 2, 2, dtype=torch.bool), r"^logits is a tensor of torch.bool, not of floats"),
    "complex numbers": (torch.zeros(8, 2, 2, dtype=torch.complex64), r"^logits is a tensor of torch.complex64"),
    "a list": ([[0.0, 1.0]], r"^logits is a list, not a tensor; use torch.as_tensor"),
    "an array": (np.zeros((1, 2)), r"^logits is a ndarray, not a tensor; use torch.as_tensor"),
}


@estimators
@pytest.mark.parametrize(("logits", "says"), LOGITS.values(), ids=LOGITS.keys())
def test_what_are_no_logits(name: str, logits: Any, says: str) -> None:
    seen: list[Tensor] = []

    def f(z: Tensor) -> Tensor:
        seen.append(z)
        return total(z)

    estimator = made(name)
    refused(lambda: estimator(f, logits), says)
    refused(lambda: estimator.with_loss(f, logits), says)
    assert not seen


@estimators
def test_logits_without_a_dimension_for_variables(name: str) -> None:
    """A batch of rows reads as one element of as many variables, for which f gives too many numbers."""
    if ESTIMATORS[name].mixture:
        refused(lambda: made(name)(total, torch.zeros(5, 2)), "are not those of 8 components")
        return
    estimator = ESTIMATORS[name].of_size(5, 2)
    refused(lambda: estimator(lambda z: z[..., 0], torch.zeros(5, 2)), r"^f gives shape \(.*5,?\) for z of shape")


# ---- what is right

SIZES = {"no batch": ((), 2, 2), "one class": ((3,), 2, 1), "one variable": ((3,), 1, 2), "two": ((2, 3), 2, 2)}
SIZES["an empty batch"] = (0,), 2, 2


@estimators
@pytest.mark.parametrize(("batch", "latents", "classes"), SIZES.values(), ids=SIZES.keys())
def test_what_is_right_stays_so(name: str, batch: tuple[int, ...], latents: int, classes: int) -> None:
    estimator = ESTIMATORS[name].of_size(latents, classes)
    logits = random(name, *batch, latents=latents, classes=classes)
    if estimator.classes not in (None, classes):
        refused(lambda: estimator(total, logits), "is for two classes")
        return
    estimate = estimator.learn(total, logits, generator=seeded())
    assert estimate.shape == batch
    (slope,) = torch.autograd.grad(estimate.sum(), logits)
    assert slope.isfinite().all()
    if classes == 1:
        assert torch.equal(estimate, torch.full(batch, float(latents)))
        assert not slope.any()


@estimators
def test_f_may_compute_in_another_precision(name: str) -> None:
    assert made(name)(lambda z: total(z).double(), random(name, 3)).dtype == torch.float64


# ---- the rest


@estimators
@pytest.mark.parametrize("generator", [0, np.random.default_rng(0)], ids=["seed", "NumPy's"])
def test_what_is_no_generator(name: str, generator: Any) -> None:
    refused(
        lambda: made(name)(total, random(name, 3), generator=generator),
        r"^generator is a (int|Generator); use torch.Generator\(\).manual_seed\(0\)",
    )


COUNTS = [
    (kind, field.name)
    for kind in ESTIMATORS.values()
    for field in fields(kind)
    if field.name in ("samples", "draws", "components", "likeliest", "chunk")
]


@pytest.mark.parametrize(("kind", "name"), COUNTS, ids=[f"{kind.__name__}, {name}" for kind, name in COUNTS])
def test_numbers_of_draws_are_whole_and_enough(kind: type[Estimator], name: str) -> None:
    for wrong in (1.5, math.nan, math.inf, "2", None, True, torch.tensor(2)):
        refused(lambda wrong=wrong: kind(**{name: wrong}), rf"^{kind.__name__}\({name}=.*\) is not a whole number")
    for few in (0, -1):
        refused(lambda few=few: kind(**{name: few}), rf"^{kind.__name__}\({name}={few}\) .*; use {name} >= [12]\.$")
    assert getattr(kind(**{name: np.int64(3)}), name) == 3


def test_the_surrogate_of_relax_must_give_numbers_too() -> None:
    class Columns(torch.nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z[..., 0]

    refused(lambda: Relax(Columns())(total, torch.zeros(3, 2, 2)), r"^surrogate gives shape \(3, 2\) for z of shape")
