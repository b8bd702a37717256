"""Functions on plain tensors: samples, exact values, schedules, and what a training loop needs around them."""

from softhot.functional.categorical import categorical_kl
from softhot.functional.choice import choice_probabilities, choice_slopes, expected_logsumexp, expected_max
from softhot.functional.conditional import with_conditional_gradient
from softhot.functional.gaussian import gaussian_means, gaussian_sample
from softhot.functional.log_space import log_of, log_rest_of, remember_log
from softhot.functional.mass import log_mass
from softhot.functional.mixing import uniform_mix
from softhot.functional.reduction import reduce_kl
from softhot.functional.relaxed import (
    relaxed_entropy,
    relaxed_kl,
    relaxed_log_prob,
    relaxed_mean,
    relaxed_variance,
)
from softhot.functional.sampling import (
    gumbel_log_softmax,
    gumbel_softmax,
    one_hot_sample,
    relaxed_sample,
    straight_through,
    with_gradient_of,
)
from softhot.functional.schedules import Constant, Exponential, Linear, Schedule, schedule
from softhot.functional.usage import perplexity, usage

__all__ = [
    "Constant",
    "Exponential",
    "Linear",
    "Schedule",
    "categorical_kl",
    "choice_probabilities",
    "choice_slopes",
    "expected_logsumexp",
    "expected_max",
    "gaussian_means",
    "gaussian_sample",
    "gumbel_log_softmax",
    "gumbel_softmax",
    "log_mass",
    "log_of",
    "log_rest_of",
    "one_hot_sample",
    "perplexity",
    "reduce_kl",
    "relaxed_entropy",
    "relaxed_kl",
    "relaxed_log_prob",
    "relaxed_mean",
    "relaxed_sample",
    "relaxed_variance",
    "remember_log",
    "schedule",
    "straight_through",
    "uniform_mix",
    "usage",
    "with_conditional_gradient",
    "with_gradient_of",
]
