"""Relaxed samples and the log-space samples they came from.

At a low temperature most entries of a relaxed one-hot sample underflow to zero, and its density, which is a function
of their logarithms, can no longer be computed from it. Whoever draws a relaxed sample therefore leaves its logarithm
here; it is found again by the identity of the tensor, and goes when the tensor goes. The sample stays a plain tensor.
"""

from __future__ import annotations

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["log_of", "remember_log"]

_KEPT = WeakTensorKeyDictionary()


def remember_log(sample: Tensor, log_sample: Tensor) -> Tensor:
    """Keep the logarithm of a sample for as long as the sample lives; returns the sample."""
    _KEPT[sample] = (_version(sample), log_sample)
    return sample


def log_of(sample: Tensor) -> Tensor:
    """The logarithm of a sample: the one it was made from where that is known, otherwise log(sample).

    Example:
        >>> import torch, softhot
        >>> q = softhot.distributions.RelaxedOneHotCategorical(0.001, logits=torch.tensor([0.0, 9.0]))
        >>> softhot.functional.log_of(q.rsample()).isfinite().all()
        tensor(True)
    """
    version, log_sample = _KEPT.get(sample, (None, None))
    return log_sample if log_sample is not None and version == _version(sample) else sample.log()


def _version(sample: Tensor) -> int:
    """How often the sample was changed in place; tensors of inference mode do not count it."""
    return 0 if sample.is_inference() else sample._version
