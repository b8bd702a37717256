"""Approximate posteriors: mixtures of discrete flows by boosting or by gradients, and coordinate ascent of products."""

from softhot.inference.boosting import boosting
from softhot.inference.fit import Fit, LogJoint
from softhot.inference.mean_field import MeanField, mean_field
from softhot.inference.search import Found, likeliest
from softhot.inference.variational import Family, shifted_deltas, variational

__all__ = [
    "Family",
    "Fit",
    "Found",
    "LogJoint",
    "MeanField",
    "boosting",
    "likeliest",
    "mean_field",
    "shifted_deltas",
    "variational",
]
