"""Statistical assertions with a derived tolerance, and the certificate that the estimators here have, for your own."""

from softhot.testing.certificate import Certificate, Check, Figures, certify
from softhot.testing.enumeration import exact_gradient, exact_value, gradient_draws, target
from softhot.testing.outcomes import ExactMoments, Moments, NotEnumerable, exact_moments
from softhot.testing.statistics import assert_mean

__all__ = [
    "Certificate",
    "Check",
    "ExactMoments",
    "Figures",
    "Moments",
    "NotEnumerable",
    "assert_mean",
    "certify",
    "exact_gradient",
    "exact_moments",
    "exact_value",
    "gradient_draws",
    "target",
]
