"""Problems: models with data and, where it exists, their exact truth."""

from softhot.names import unknown
from softhot.problems.bayesian_network import BayesianNetwork
from softhot.problems.bif import Node, parse_bif, read_bif
from softhot.problems.gaussian_mixture import GaussianMixture
from softhot.problems.polynomial import Polynomial, normal_values
from softhot.problems.problem import Problem
from softhot.problems.quadratic import Quadratic
from softhot.problems.quadratic_programme import QuadraticProgramme
from softhot.problems.shared_logit import SharedLogit

PROBLEMS: dict[str, Problem] = {
    "polynomial": Polynomial(),
    "polynomial-1.5": Polynomial(power=1.5),
    "polynomial-3": Polynomial(power=3.0),
    "polynomial-four": Polynomial(values=normal_values()),
    "rebar": Polynomial(latents=1),
    "rebar-0.499": Polynomial(latents=1, target=0.499),
    "shared-logit": SharedLogit(),
    "shared-logit-hard": SharedLogit(initial=-4.0),
    "quadratic-programme": QuadraticProgramme(),
    "random-quadratic": Quadratic(),
}
"""Every problem by its name."""

__all__ = [
    "PROBLEMS",
    "BayesianNetwork",
    "GaussianMixture",
    "Node",
    "Polynomial",
    "Problem",
    "Quadratic",
    "QuadraticProgramme",
    "SharedLogit",
    "normal_values",
    "parse_bif",
    "problem",
    "read_bif",
]


def problem(name: str) -> Problem:
    """The problem of a name in PROBLEMS.

    Raises:
        ValueError: If the name is not known; it gives the nearest that is.

    Example:
        >>> problem("rebar").target
        0.45
    """
    if name not in PROBLEMS:
        raise unknown("problem", name, PROBLEMS)
    return PROBLEMS[name]
