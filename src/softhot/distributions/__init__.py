"""Distributions with the names and semantics of torch.distributions, and exact values."""

from softhot.distributions import bases
from softhot.distributions.autoregressive import Autoregressive, MaskedNetwork
from softhot.distributions.divergence import kl_divergence
from softhot.distributions.flows import Flow, Scale, Shift, location_scale
from softhot.distributions.mixture_of_discrete_flows import MixtureOfDiscreteFlows
from softhot.distributions.one_hot import OneHotCategorical
from softhot.distributions.relaxed import (
    ExpRelaxedOneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from softhot.distributions.straight_through import (
    OneHotCategoricalStraightThrough,
    RelaxedBernoulliStraightThrough,
    RelaxedOneHotCategoricalStraightThrough,
)

__all__ = [
    "Autoregressive",
    "ExpRelaxedOneHotCategorical",
    "Flow",
    "MaskedNetwork",
    "MixtureOfDiscreteFlows",
    "OneHotCategorical",
    "OneHotCategoricalStraightThrough",
    "RelaxedBernoulli",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategorical",
    "RelaxedOneHotCategoricalStraightThrough",
    "Scale",
    "Shift",
    "bases",
    "kl_divergence",
    "location_scale",
]
