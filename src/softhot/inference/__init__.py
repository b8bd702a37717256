"""Approximate posteriors by mixtures of discrete flows: boosting and plain variational inference."""

from softhot.inference.boosting import boosting
from softhot.inference.fit import Fit, LogJoint
from softhot.inference.search import Found, likeliest
from softhot.inference.variational import Family, shifted_deltas, variational

__all__ = ["Family", "Fit", "Found", "LogJoint", "boosting", "likeliest", "shifted_deltas", "variational"]
