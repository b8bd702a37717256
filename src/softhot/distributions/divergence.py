"""Exact divergences, registered with :func:`torch.distributions.kl_divergence`.

Each pair is registered for the classes of softhot and, where torch has the same distribution, for its class on either
side: a program may change its imports one at a time.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch.distributions as td
from torch import Tensor
from torch.distributions.kl import kl_divergence, register_kl
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from softhot.distributions.logits import two_logits
from softhot.distributions.mixture_of_discrete_flows import MixtureOfDiscreteFlows
from softhot.distributions.one_hot import OneHotCategorical
from softhot.distributions.relaxed import (
    ExpRelaxedOneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from softhot.functional.categorical import categorical_kl
from softhot.functional.check import wide
from softhot.functional.mass import log_mass
from softhot.functional.relaxed import relaxed_kl

__all__ = ["kl_divergence"]


def _categorical(q: Any, p: Any) -> Tensor:
    return categorical_kl(q.logits, p.logits)


def _relaxed(q: Any, p: Any) -> Tensor:
    return relaxed_kl(q.logits, q.temperature, p.logits, p.temperature)


def _binary(q: Any, p: Any) -> Tensor:
    return relaxed_kl(two_logits(q.logits), q.temperature, two_logits(p.logits), p.temperature)


def _flows(q: MixtureOfDiscreteFlows, p: Any) -> Tensor:
    return -q.entropy() - q.expectation(lambda z: p.log_prob(wide(z))).to(q.dtype)


def _flows_to_independent(q: MixtureOfDiscreteFlows, p: td.Independent) -> Tensor:  # type: ignore[type-arg]  # not generic in torch 2.6
    prior = p.base_dist
    if not isinstance(prior, OneHotCategorical | td.OneHotCategorical):
        raise ValueError(
            f"a mixture of discrete flows has a divergence to independent one-hot variables, not to {prior}; "
            "use Independent(OneHotCategorical(logits=logits), 1)."
        )
    # all classes have a slope here, as a straight-through draw needs; in log_prob of the prior only its own has
    return -q.entropy() - q.expectation(lambda z: log_mass(wide(z), prior.logits).sum(-1)).to(q.dtype)


register_kl(MixtureOfDiscreteFlows, MixtureOfDiscreteFlows)(_flows)
register_kl(MixtureOfDiscreteFlows, td.Independent)(_flows_to_independent)
for _ours, _theirs, _divergence in (
    (OneHotCategorical, td.OneHotCategorical, _categorical),
    (RelaxedOneHotCategorical, td.RelaxedOneHotCategorical, _relaxed),
    (ExpRelaxedOneHotCategorical, ExpRelaxedCategorical, _relaxed),
    (RelaxedBernoulli, td.RelaxedBernoulli, _binary),
):
    for _q, _p in itertools.product((_ours, _theirs), repeat=2):
        if not (_q is _theirs and _p is _theirs):  # torch's own pairs stay as they are
            register_kl(_q, _p)(_divergence)
