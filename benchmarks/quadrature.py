r"""One KL divergence and one entropy by quadrature, in extended precision where the machine has it.

An evaluation that shares no code with softhot's and less of the mathematics: the mean of the largest is the integral of
x times its density, with the distribution function and the density of the noise summed at every node and class,

.. math:: E[\max_k (b_k + \varepsilon_k)] = \int x \sum_k f(x - b_k) \prod_{j \ne k} F(x - b_j) \, dx, \qquad
    \varepsilon = G' + s G

by the trapezoid rule, whose error at these steps is below the rounding. The rest is algebra: docs/mathematics.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["entropy", "kl"]

Array = NDArray[np.longdouble]

EULER = np.longdouble("0.577215664901532860606512090082402431")
STEP = np.longdouble(1) / 8


def kl(logits: Sequence[float], t: float, prior_logits: Sequence[float], s: float) -> float:
    """The divergence of two relaxed one-hot variables."""
    r, classes = np.longdouble(s) / np.longdouble(t), len(logits)
    b = np.array(prior_logits, np.longdouble) - r * np.array(logits, np.longdouble)
    largest = _expected_max(b, -r)
    rest = -(classes - 1) * np.log(r) + classes * (EULER * (r - 1) - _digamma(classes))
    return float(classes * (largest - EULER) - b.sum() + rest)


def entropy(logits: Sequence[float], t: float) -> float:
    """The entropy of a relaxed one-hot variable."""
    heat, classes = np.longdouble(t), len(logits)
    scores = np.array(logits, np.longdouble)
    largest = _expected_max(scores, heat)
    log_gamma = np.log(np.longdouble(math.factorial(classes - 1)))
    negative = log_gamma + (classes - 1) * np.log(heat) + (classes * largest - scores.sum()) / heat
    return -float(negative - classes * (EULER * (2 + 1 / heat) + _digamma(classes)))


def _expected_max(b: Array, s: np.longdouble) -> np.longdouble:
    x = _nodes(b.min() - 60, b.max() + 60)
    g = _nodes(-5, 60)
    weight = STEP * np.exp(-g - np.exp(-g))
    product, hazard = np.ones_like(x), np.zeros_like(x)
    with np.errstate(over="ignore", under="ignore"):
        for location in b:
            fallen = np.exp(-(x[:, None] - location - s * g))
            below = np.exp(-fallen)
            cdf, density = below @ weight, (fallen * below) @ weight
            product *= cdf
            hazard += np.divide(density, cdf, out=np.zeros_like(x), where=cdf > 0)
    mean: np.longdouble = STEP * (x * product * hazard).sum()
    return mean


def _nodes(low: float, high: float) -> Array:
    return low + STEP * np.arange(int((high - low) / STEP))


def _digamma(count: int) -> np.longdouble:
    return np.longdouble(-EULER + sum(1 / np.longdouble(n) for n in range(1, count)))
