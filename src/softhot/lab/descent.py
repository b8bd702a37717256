"""What descents with any estimator have in common."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import Parameter

from softhot.estimators import Controlled, Estimator, Integrand
from softhot.lab.seeds import stream

__all__ = ["learning", "unsuited"]


def unsuited(estimator: Estimator, f: Integrand, logits: Tensor) -> str | None:
    """Why an estimator cannot descend E_q[f(z)] in logits of a product of independent variables; None if it can.

    Example:
        >>> import torch
        >>> from softhot.estimators import Vimco
        >>> unsuited(Vimco(), lambda z: z.sum((-1, -2)), torch.zeros(2, 2))
        'its value is a bound of several draws, not an expectation.'
    """
    if estimator.multi_sample:
        return "its value is a bound of several draws, not an expectation."
    if estimator.mixture:
        return "its posterior is a mixture, not a product of independent variables."
    try:
        estimator(f, logits, generator=stream(0))
    except ValueError as error:
        return str(error)
    return None


def learning(estimator: Estimator) -> tuple[Callable[..., Tensor], list[Parameter]]:
    """What to call for an estimate, and the parameters of the control that it learns on the way, if it has any.

    Example:
        >>> from softhot.estimators import Zgr
        >>> learning(Zgr())
        (Zgr(samples=1), [])
    """
    control = estimator.control if isinstance(estimator, Controlled) else None
    learned = [] if control is None else [p for p in control.parameters() if p.requires_grad]
    return (estimator.learn if isinstance(estimator, Controlled) and learned else estimator), learned
