"""KL and entropy terms by name: each exact, all but those of a mixture Monte Carlo as well, and what each bounds."""

from softhot.kl.categorical import Categorical
from softhot.kl.discrete_mass import DiscreteMass
from softhot.kl.gaussian import Gaussian
from softhot.kl.mixture import Mixture, ProductOfMixtures
from softhot.kl.relaxed import Relaxed
from softhot.kl.relaxed_posterior import RelaxedPosterior
from softhot.kl.term import Term
from softhot.names import unknown

TERMS: dict[str, Term] = {
    "categorical": Categorical(),
    "discretised": Categorical(exact=False),
    "maddison21": DiscreteMass(exact=False),
    "maddison21-exact": DiscreteMass(),
    "concrete": Relaxed(exact=False),
    "concrete-exact": Relaxed(),
    "relaxed-posterior": RelaxedPosterior(exact=False),
    "relaxed-posterior-exact": RelaxedPosterior(),
    "gaussian": Gaussian(exact=False),
    "gaussian-exact": Gaussian(),
    "mixture": Mixture(),
    "product-of-mixtures": ProductOfMixtures(),
}
"""Every term by its name."""

ALIASES = {"maddison22": "categorical", "jang": "categorical", "maddison20": "concrete"}
"""Other names of terms."""

__all__ = [
    "ALIASES",
    "TERMS",
    "Categorical",
    "DiscreteMass",
    "Gaussian",
    "Mixture",
    "ProductOfMixtures",
    "Relaxed",
    "RelaxedPosterior",
    "Term",
    "term",
]


def term(name: str) -> Term:
    """The term of a name in TERMS or ALIASES.

    Raises:
        ValueError: If the name is not known; it gives the nearest that is.

    Example:
        >>> term("maddison22") == term("jang") == Categorical()
        True
    """
    name = ALIASES.get(name, name)
    if name not in TERMS:
        raise unknown("KL term", name, [*TERMS, *ALIASES])
    return TERMS[name]
