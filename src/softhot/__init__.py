"""softhot: categorical latent variables in PyTorch, correct, measured and small."""

from softhot import distributions, functional

__version__ = "0.1.0"

__all__ = ["distributions", "functional"]
