"""What the one-hot distributions share: logits or probabilities, checked once."""

from __future__ import annotations

import math
from abc import ABC
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraint_registry import biject_to, transform_to
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import (
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
    SoftmaxTransform,
    StickBreakingTransform,
    Transform,
    identity_transform,
)
from torch.distributions.utils import lazy_property

from softhot.distributions.logits import log_probabilities
from softhot.functional.check import positive

__all__ = ["Categorical", "Temperate", "begin", "log_simplex", "logit_vector", "simplex"]


class _Simplex(Constraint):
    """Non-negative vectors that sum to one, to the rounding of their dtype and length."""

    event_dim = 1
    is_discrete = False

    def check(self, value: Tensor) -> Tensor:
        tolerance = max(1e-6, 4 * torch.finfo(value.dtype).eps * math.sqrt(value.shape[-1]))
        total = value.sum(-1, dtype=torch.float64)
        checked: Tensor = (value >= 0).all(-1) & ((total - 1).abs() < tolerance)
        return checked


class _LogitVector(Constraint):
    """Vectors without NaN or +inf, and with a finite entry."""

    event_dim = 1
    is_discrete = False

    def check(self, value: Tensor) -> Tensor:
        checked: Tensor = (value < math.inf).all(-1) & (value > -math.inf).any(-1)
        return checked


class _LogSimplex(Constraint):
    """Vectors without an entry above zero, to rounding."""

    event_dim = 1
    is_discrete = False

    def check(self, value: Tensor) -> Tensor:
        checked: Tensor = (value < 1e-6).all(-1)
        return checked


def _onto_log_simplex(constraint: _LogSimplex) -> Transform:
    return ComposeTransform([StickBreakingTransform(), ExpTransform().inv])


def _to_log_simplex(constraint: _LogSimplex) -> Transform:
    return ComposeTransform([SoftmaxTransform(), ExpTransform().inv])


# unconstrained parameters of these, as torch has them for its own
biject_to.register(_Simplex, lambda constraint: StickBreakingTransform())
transform_to.register(_Simplex, lambda constraint: SoftmaxTransform())
biject_to.register(_LogSimplex, _onto_log_simplex)
transform_to.register(_LogSimplex, _to_log_simplex)
for _registry in (biject_to, transform_to):
    _registry.register(_LogitVector, lambda constraint: IndependentTransform(identity_transform, 1))

simplex = _Simplex()
log_simplex = _LogSimplex()
logit_vector = _LogitVector()


class Categorical(Distribution, ABC):
    """A distribution over K classes given by probabilities or logits; abstract."""

    arg_constraints = {"probs": simplex, "logits": logit_vector}  # noqa: RUF012 - torch's own spelling

    def __init__(
        self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        if (probs is None) == (logits is None):
            raise ValueError(
                f"{type(self).__name__} takes either probs or logits, not {'neither' if probs is None else 'both'}; "
                f"use {type(self).__name__}(logits=logits)."
            )
        given = logits if probs is None else probs
        if not isinstance(given, Tensor) or not given.is_floating_point() or given.dim() < 1:
            raise ValueError(
                f"{type(self).__name__} takes a floating-point tensor of shape (*batch, K), not {_described(given)}; "
                "use torch.tensor([...])."
            )
        validate = bool(Distribution._validate_args if validate_args is None else validate_args)
        if probs is None:
            if validate:
                check(given, "logits")
            self.logits = given.log_softmax(-1)
        else:
            self.probs = _normalised(given, validate)
        begin(self, given.shape[:-1], given.shape[-1:], validate_args)

    @lazy_property
    def logits(self) -> Tensor:
        """Normalised log-probabilities, of shape (*batch, K)."""
        return log_probabilities(self.probs)

    @lazy_property
    def probs(self) -> Tensor:
        """Probabilities, of shape (*batch, K)."""
        return self.logits.exp()

    @property
    def param_shape(self) -> torch.Size:
        """The shape of logits and of probs."""
        return self.batch_shape + self.event_shape

    def _expanded(self, sample_shape: Any) -> Tensor:
        """The logits of draws of that shape."""
        shape = torch.Size(sample_shape)
        return self.logits.expand(shape + self.batch_shape + self.event_shape) if shape else self.logits

    def _parameters(self) -> tuple[str, Tensor]:
        name = "probs" if "probs" in self.__dict__ and "logits" not in self.__dict__ else "logits"
        return name, getattr(self, name)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """The same distribution with its batch expanded to a shape."""
        name, value = self._parameters()
        new: Self = Distribution._get_checked_instance(self, Categorical, _instance)
        batch_shape = torch.Size(batch_shape)
        setattr(new, name, value.expand(batch_shape + self.event_shape))
        begin(new, batch_shape, self.event_shape, self.__dict__.get("_validate_args"))
        return new


class Temperate(Categorical, ABC):
    """A relaxed distribution over K classes: with a temperature too; abstract."""

    def __init__(
        self,
        temperature: float | Tensor,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, validate_args)
        self._heat = positive("temperature", temperature, self.batch_shape)

    @property
    def temperature(self) -> Tensor:
        """The temperature, as a tensor that broadcasts with the batch."""
        return self._heat if isinstance(self._heat, Tensor) else self._parameters()[1].new_tensor(self._heat)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """The same distribution with its batch expanded to a shape."""
        new = super().expand(batch_shape, Distribution._get_checked_instance(self, Temperate, _instance))
        new._heat = positive("temperature", self._heat, new.batch_shape)
        return new


def begin(
    distribution: Distribution, batch_shape: torch.Size, event_shape: torch.Size, validate_args: bool | None
) -> None:
    """What torch begins every distribution with, but its checks; whether to validate is its default if not given."""
    Distribution.__init__(distribution, batch_shape, event_shape, validate_args=False)
    if validate_args is None:
        del distribution._validate_args  # torch's own default, at the time of use
    else:
        distribution._validate_args = validate_args


def check(value: Tensor, name: str) -> None:
    """An error if a row of these logits holds NaN or +inf, or no number."""
    if (bad := ~logit_vector.check(value)).any():
        row = value.detach()[bad][0]
        shown = "NaN" if row.isnan().any() else "+inf" if (row == math.inf).any() else "a row of -inf only"
        raise ValueError(
            f"{name} has {shown}, but each row must hold numbers or -inf, with at least one number; "
            "use -inf to exclude a class, and torch.isfinite to find where it comes from."
        )


def _normalised(probs: Tensor, validate: bool) -> Tensor:
    """Each row divided by its sum; an error, if wanted, where that gives no probabilities."""
    total = probs.sum(-1, keepdim=True)
    if validate and not (good := (probs >= 0).all(-1, keepdim=True) & (total > 0) & (total < math.inf)).all():
        row = probs.detach()[~good.squeeze(-1)][0]
        shown = (
            "NaN"
            if row.isnan().any()
            else f"a row with the smallest entry {row.min().item():.6g}"
            if (row < 0).any()
            else f"a row that sums to {row.sum().item():.6g}"
        )
        raise ValueError(
            f"probs has {shown}, but each row must be non-negative, with a sum that is positive and finite; "
            "use logits=... for unnormalised log-probabilities."
        )
    return probs / total


def _described(value: object) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
