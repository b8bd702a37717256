"""What each entropy term is for one categorical variable: samples beside exact values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softhot.distributions import OneHotCategorical, RelaxedOneHotCategorical
from softhot.kl import TERMS
from softhot.lab.seeds import stream

__all__ = ["KINDS", "curves", "entropies"]

KINDS = {name: TERMS[name] for name in ("discretised", "maddison21", "concrete")}


def entropies(logits: Tensor, temperatures: Sequence[float], samples: int, seed: int) -> dict[str, Any]:
    """Frequencies and E[log q] of every kind, by Monte Carlo with standard errors beside the exact values.

    Arguments:
        logits: of one categorical variable, of shape (K,).
        temperatures: of the relaxed variable.
        samples: the number of draws of each variable.
        seed: of the draws.

    Returns:
        A dictionary of plain numbers and lists: "discrete" and, for each of "temperatures", "relaxed" and
        "discretised" means and the "log_q" of each kind. Values in nats.

    Raises:
        ValueError: If the logits, a temperature or the number of samples are out of range.
    """
    if samples < 2:
        raise ValueError(f"samples={samples} gives no standard error; use samples=10000, for example.")
    discrete = OneHotCategorical(logits=logits, validate_args=True)
    generator = stream(seed, "entropies")
    z = discrete.sample((samples,), generator=generator)
    relaxed = [RelaxedOneHotCategorical(heat, logits=logits) for heat in temperatures]
    return {
        "probs": discrete.probs.tolist(),
        "samples": samples,
        "seed": seed,
        "discrete": {
            "frequencies": z.mean(0).tolist(),
            "mean": discrete.mean.tolist(),
            "log_q": _estimate(discrete.log_prob(z), -discrete.entropy()),
        },
        "temperatures": [_relaxed(one, samples, generator) for one in relaxed],
    }


def curves(logits: Tensor, low: float, high: float, points: int = 121) -> dict[str, Any]:
    """The exact E[log q] of every kind over a range of temperatures."""
    heats = torch.logspace(math.log10(low), math.log10(high), points, dtype=torch.float64)
    rows = logits.to(torch.float64).expand(points, -1)
    return {
        "temperatures": heats.tolist(),
        **{name: kind.expected_log_q(rows, heats).tolist() for name, kind in KINDS.items()},
    }


def _relaxed(relaxed: RelaxedOneHotCategorical, samples: int, generator: torch.Generator) -> dict[str, Any]:
    logits, heat = relaxed.logits, relaxed.temperature.item()
    z = relaxed.sample((samples,), generator=generator)
    hard = torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]).to(z.dtype)
    return {
        "temperature": heat,
        "relaxed": {"frequencies": z.mean(0).tolist(), "mean": relaxed.mean.tolist()},
        "discretised": {"frequencies": hard.mean(0).tolist(), "mean": relaxed.probs.tolist()},
        "log_q": {
            name: _estimate(
                kind.log_q(hard if kind.sample == "hard" else z, logits, heat), kind.expected_log_q(logits, heat)
            )
            for name, kind in KINDS.items()
        },
    }


def _estimate(values: Tensor, exact: Tensor) -> dict[str, float]:
    return {
        "estimate": values.mean().item(),
        "standard_error": values.std().item() / math.sqrt(len(values)),
        "exact": exact.item(),
    }
