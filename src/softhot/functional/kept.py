"""What is kept with a sample: a tensor that is not changed, by its identity, for as long as it lives.

A slice, a copy or a detached view of it is another tensor, and so it is inside torch.compile. A sample that is changed
in place has lost what was kept with it, but not in inference mode, where torch does not count changes.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Kept"]

T = TypeVar("T")


class Kept(Generic[T]):
    """Something for each of some samples.

    Example:
        >>> import torch
        >>> names, z = Kept[str](), torch.zeros(2)
        >>> names.keep(z, "nothing")
        >>> names.of(z), names.of(z.clone()), names.of(z.add_(1))
        ('nothing', None, None)
    """

    def __init__(self) -> None:
        self._found = WeakTensorKeyDictionary()

    def keep(self, sample: Tensor, what: T) -> None:
        """Keep this with a sample."""
        if not torch.compiler.is_compiling():
            self._found[sample] = (_version(sample), what)

    def of(self, sample: Tensor) -> T | None:
        """What was kept with a sample, if that has not been changed since."""
        if torch.compiler.is_compiling():
            return None
        version, what = self._found.get(sample, (None, None))
        return what if version == _version(sample) else None


def _version(sample: Tensor) -> int:
    """How often the sample was changed in place; tensors of inference mode do not count it."""
    return 0 if sample.is_inference() else sample._version
