"""Distributions with the names and semantics of torch.distributions, and exact values."""

from softhot.distributions.divergence import categorical_kl, kl_divergence
from softhot.distributions.one_hot import OneHotCategorical
from softhot.distributions.relaxed import (
    ExpRelaxedOneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)

__all__ = [
    "ExpRelaxedOneHotCategorical",
    "OneHotCategorical",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "categorical_kl",
    "kl_divergence",
]
