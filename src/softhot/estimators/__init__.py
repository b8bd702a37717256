"""Estimators of the gradient of E_q[f(z)], all with one call signature."""

from softhot.estimators.enumeration import configurations
from softhot.estimators.estimator import Estimator, Integrand, Pathwise
from softhot.estimators.exact import Exact
from softhot.estimators.gumbel_rao import GumbelRao
from softhot.estimators.gumbel_softmax import GumbelSoftmax
from softhot.estimators.invertible_gaussian import InvertibleGaussian
from softhot.estimators.leave_one_out import LeaveOneOut
from softhot.estimators.optimal_straight_through import OptimalStraightThrough
from softhot.estimators.reinmax import ReinMax
from softhot.estimators.reinmax_cv import ReinMaxCv
from softhot.estimators.reinmax_rao import ReinMaxRao
from softhot.estimators.straight_through import StraightThrough
from softhot.estimators.straight_through_gumbel_softmax import StraightThroughGumbelSoftmax
from softhot.estimators.zgr import Zgr
from softhot.names import unknown

ESTIMATORS: dict[str, type[Estimator]] = {
    "exact": Exact,
    "leave-one-out": LeaveOneOut,
    "straight-through": StraightThrough,
    "gumbel-softmax": GumbelSoftmax,
    "st-gumbel-softmax": StraightThroughGumbelSoftmax,
    "reinmax": ReinMax,
    "gumbel-rao": GumbelRao,
    "zgr": Zgr,
    "reinmax-rao": ReinMaxRao,
    "reinmax-cv": ReinMaxCv,
    "optimal-straight-through": OptimalStraightThrough,
    "invertible-gaussian": InvertibleGaussian,
}

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "Exact",
    "GumbelRao",
    "GumbelSoftmax",
    "Integrand",
    "InvertibleGaussian",
    "LeaveOneOut",
    "OptimalStraightThrough",
    "Pathwise",
    "ReinMax",
    "ReinMaxCv",
    "ReinMaxRao",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "Zgr",
    "configurations",
    "estimator",
]


def estimator(name: str) -> type[Estimator]:
    """The estimator class of a name in ESTIMATORS.

    Raises:
        ValueError: If the name is not known; it gives the nearest that is.

    Example:
        >>> estimator("reinmax")(temperature=1.0)
        ReinMax(samples=1, temperature=1.0)
    """
    if name not in ESTIMATORS:
        raise unknown("estimator", name, ESTIMATORS)
    return ESTIMATORS[name]
