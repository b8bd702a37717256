"""Statistical assertions with a derived tolerance: the certificate that the estimators here have, for your own."""

from softhot.testing.enumeration import exact_gradient, exact_value, gradient_draws
from softhot.testing.statistics import assert_mean

__all__ = ["assert_mean", "exact_gradient", "exact_value", "gradient_draws"]
