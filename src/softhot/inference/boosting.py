r"""Boosting: components are added one at a time, each at the configuration that raises the ELBO most.

A component is a delta and a shift, so a mixture of B of them is :math:`m_z` components at each configuration z, and its
ELBO is a sum over these, without any noise:

.. math:: \mathrm{ELBO} = \sum_z \frac{m_z}{B} \Big( \log p(x, z) - \log\frac{m_z}{B} \Big)

With equal weights the next component goes where

.. math:: \log p(x, z) - \big( (m_z + 1) \log(m_z + 1) - m_z \log m_z \big)

is largest. B does not occur in that, and the sum is separable and concave in the numbers :math:`m_z`: after every
component the mixture is the best of that many, not only the best that can be had from the one before. With free weights
the best are those in proportion to :math:`p(x, z)`, on the B likeliest configurations; the ELBO is the logarithm of
their total probability.

What remains is to find the likeliest configurations: :func:`softhot.inference.likeliest`.

Reference:
    Kuśmierczyk, Klami (2020), "Reliable categorical variational inference with mixture of discrete normalizing flows",
    has boosting by gradients.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

from torch.nn.functional import one_hot

from softhot.distributions import MixtureOfDiscreteFlows
from softhot.functional.check import counted
from softhot.inference.fit import Fit, LogJoint
from softhot.inference.search import likeliest

__all__ = ["boosting"]


def boosting(
    log_joint: LogJoint,
    cardinalities: Sequence[int],
    components: int,
    *,
    free_weights: bool = False,
    **search: Any,
) -> Fit:
    """The best mixture of B configurations.

    Arguments:
        log_joint: the target; see :mod:`softhot.inference.fit`. It need not be differentiable.
        cardinalities: the number of classes of each of the N variables.
        components: the number B.
        free_weights: weights in proportion to the joint probability, in place of equal ones.
        search: options of :func:`softhot.inference.likeliest`, such as ``limit``, ``starts`` and ``generator``.

    Raises:
        ValueError: If there is no component, or for the reasons of the search.

    Example:
        >>> import torch
        >>> probs = torch.tensor([0.6, 0.3, 0.1])
        >>> fit = boosting(lambda z: (z @ probs.log().double()).sum(-1), (3,), components=10)
        >>> fit.q.mean, abs(fit.elbo) < 1e-6  # the evidence is log 1
        (tensor([[0.6000, 0.3000, 0.1000]], dtype=torch.float64), True)
    """
    counted("components", components, 1, "is no mixture")
    found = likeliest(log_joint, cardinalities, components, **search)
    log_p = found.log_joint.double().tolist()
    if free_weights:
        chosen, history = list(range(len(log_p))), found.log_joint.double().logcumsumexp(0).tolist()
        weights = found.log_joint
    else:
        chosen, history = _placed(log_p, components)
        weights = None
    logits = one_hot(found.classes[chosen], max(cardinalities)).to(found.log_joint.dtype)
    q = MixtureOfDiscreteFlows.of_deltas(logits, 1.0, weights, cardinalities)
    return Fit(q, history[-1], 0.0, tuple(history), found.evaluations, found.proven)


def _placed(log_p: list[float], components: int) -> tuple[list[int], list[float]]:
    """Where each component goes, of configurations given by their log-probability, and the ELBO after each."""
    counts = [0] * len(log_p)
    waiting = [(-value, place) for place, value in enumerate(log_p)]
    heapq.heapify(waiting)
    chosen, history, total = [], [], 0.0
    for number in range(1, components + 1):
        gain, place = heapq.heappop(waiting)
        total -= gain
        counts[place] += 1
        chosen.append(place)
        history.append(total / number + math.log(number))
        heapq.heappush(waiting, (-log_p[place] + _excess(counts[place] + 1), place))
    return chosen, history


def _excess(count: int) -> float:
    """count log count, less the same of one fewer."""
    return count * math.log(count) - ((count - 1) * math.log(count - 1) if count > 1 else 0.0)
