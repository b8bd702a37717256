"""softhot: categorical latent variables in PyTorch, correct, measured and small."""

from softhot import bounds, distributions, estimators, functional, kl

__version__ = "0.1.0"

__all__ = ["__version__", "bounds", "distributions", "estimators", "functional", "kl"]
