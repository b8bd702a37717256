"""Estimators of the gradient of E_q[f(z)], all with one call signature."""

from softhot.estimators.arsm import Arsm
from softhot.estimators.carms import Carms
from softhot.estimators.controlled import Controlled
from softhot.estimators.disarm import DisArm
from softhot.estimators.enumeration import configurations
from softhot.estimators.estimator import Estimator, Pathwise
from softhot.estimators.exact import Exact
from softhot.estimators.gumbel_rao import GumbelRao
from softhot.estimators.gumbel_softmax import GumbelSoftmax
from softhot.estimators.integrand import Integrand
from softhot.estimators.invertible_gaussian import InvertibleGaussian
from softhot.estimators.leave_one_out import LeaveOneOut
from softhot.estimators.local_expectation import LocalExpectation
from softhot.estimators.mixture_of_discrete_flows import MixtureOfDiscreteFlows
from softhot.estimators.muprop import MuProp
from softhot.estimators.optimal_straight_through import OptimalStraightThrough
from softhot.estimators.rebar import Rebar, Relaxation
from softhot.estimators.reinmax import ReinMax
from softhot.estimators.reinmax_cv import ReinMaxCv
from softhot.estimators.reinmax_rao import ReinMaxRao
from softhot.estimators.relax import QuadraticSurrogate, Relax
from softhot.estimators.rodeo import Rodeo, TaylorSurrogate
from softhot.estimators.score_function import BASELINES, LearnedBaseline, RunningMean, ScoreFunction
from softhot.estimators.straight_through import StraightThrough
from softhot.estimators.straight_through_gumbel_softmax import StraightThroughGumbelSoftmax
from softhot.estimators.sum_and_sample import SumAndSample
from softhot.estimators.unordered_set import UnorderedSet
from softhot.estimators.vimco import Vimco
from softhot.estimators.zgr import Zgr
from softhot.names import unknown

ESTIMATORS: dict[str, type[Estimator]] = {
    "exact": Exact,
    "leave-one-out": LeaveOneOut,
    "straight-through": StraightThrough,
    "gumbel-softmax": GumbelSoftmax,
    "st-gumbel-softmax": StraightThroughGumbelSoftmax,
    "reinmax": ReinMax,
    "local-expectation": LocalExpectation,
    "score-function": ScoreFunction,
    "muprop": MuProp,
    "disarm": DisArm,
    "arsm": Arsm,
    "carms": Carms,
    "unordered-set": UnorderedSet,
    "sum-and-sample": SumAndSample,
    "rebar": Rebar,
    "relax": Relax,
    "rodeo": Rodeo,
    "vimco": Vimco,
    "gumbel-rao": GumbelRao,
    "zgr": Zgr,
    "reinmax-rao": ReinMaxRao,
    "reinmax-cv": ReinMaxCv,
    "optimal-straight-through": OptimalStraightThrough,
    "invertible-gaussian": InvertibleGaussian,
    "mixture-of-discrete-flows": MixtureOfDiscreteFlows,
}
"""Every estimator by its name."""

__all__ = [
    "BASELINES",
    "ESTIMATORS",
    "Arsm",
    "Carms",
    "Controlled",
    "DisArm",
    "Estimator",
    "Exact",
    "GumbelRao",
    "GumbelSoftmax",
    "Integrand",
    "InvertibleGaussian",
    "LearnedBaseline",
    "LeaveOneOut",
    "LocalExpectation",
    "MixtureOfDiscreteFlows",
    "MuProp",
    "OptimalStraightThrough",
    "Pathwise",
    "QuadraticSurrogate",
    "Rebar",
    "ReinMax",
    "ReinMaxCv",
    "ReinMaxRao",
    "Relax",
    "Relaxation",
    "Rodeo",
    "RunningMean",
    "ScoreFunction",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "SumAndSample",
    "TaylorSurrogate",
    "UnorderedSet",
    "Vimco",
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
