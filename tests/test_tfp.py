"""Densities agree with those of TensorFlow Probability to the rounding of float64, and so do their gradients."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import softhot.distributions as sd

CASES = json.loads((Path(__file__).parent / "reference" / "tfp.json").read_text())["cases"]
KINDS = ["RelaxedOneHotCategorical", "ExpRelaxedOneHotCategorical", "RelaxedBernoulli"]


@pytest.mark.parametrize("kind", KINDS)
def test_log_densities_and_gradients(kind: str) -> None:
    cases = [case for case in CASES if case["kind"] == kind]
    assert len(cases) == 20
    for case in cases:
        found, slopes = ours(case)
        # rounding of some ten operations, each of terms no larger than (t + 1) K times the largest number
        largest = max(1.0, *(abs(x) for x in case["logits"]), *(abs(x) for x in logarithms(case)))
        size = (case["temperature"] + 1) * len(case["logits"]) * largest
        limit = 10 * torch.finfo(torch.float64).eps * size
        assert found == pytest.approx(case["log_prob"], rel=0, abs=limit)
        steepest = max(1.0, 1 / case["temperature"])  # slopes divide by the temperature, and by z on the simplex
        if not kind.startswith("Exp"):
            steepest = max(steepest, *(math.exp(-x) for x in logarithms(case)))
        for slope, expected in zip(slopes, case["gradients"], strict=True):
            assert slope == pytest.approx(expected, rel=0, abs=limit * steepest)


def test_the_references_can_tell_densities_apart() -> None:
    case = next(case for case in CASES if case["kind"] == "RelaxedOneHotCategorical")
    for changed in ({"temperature": case["temperature"] * (1 + 1e-9)}, {"kind": "ExpRelaxedOneHotCategorical"}):
        assert ours(case | changed)[0] != pytest.approx(case["log_prob"], rel=0, abs=1e-11)


def ours(case: dict[str, Any]) -> tuple[float, list[Any]]:
    leaves = [
        torch.tensor(case[name], dtype=torch.float64, requires_grad=True) for name in ("temperature", "logits", "value")
    ]
    temperature, logits, value = leaves
    q = getattr(sd, case["kind"])(temperature, logits=logits, validate_args=False)
    log_prob = q.log_prob(value).sum()
    return log_prob.item(), [slope.tolist() for slope in torch.autograd.grad(log_prob, leaves)]


def logarithms(case: dict[str, Any]) -> list[float]:
    value = torch.tensor(case["value"], dtype=torch.float64)
    if case["kind"].startswith("Exp"):
        return value.tolist()
    both = torch.cat([value, 1 - value]) if case["kind"] == "RelaxedBernoulli" else value
    return both.log().tolist()
