r"""The mean of random draws, held against its expected value at a stated false-alarm rate.

For M independent draws of n components with sample mean :math:`\bar x`, sample standard deviation s and expected value
:math:`\mu`, the central limit theorem bounds each component by

.. math:: |\bar x - \mu| \le z \frac{s}{\sqrt M} + r, \qquad z = \Phi^{-1}\Big(1 - \frac{\alpha}{2n}\Big)

which all n together exceed with probability at most :math:`\alpha` (Bonferroni) if :math:`\mu` is right. Nobody picks a
tolerance: :math:`\alpha` is the false-alarm rate, and M decides how small an error is found. r allows for rounding: 16
times the machine epsilon of the coarser dtype, times the largest absolute value among the draws and :math:`\mu`. It is
all that is allowed to components which do not vary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FEWEST", "assert_mean"]

FEWEST = 100  # draws
_ROUNDING = 16


def assert_mean(draws: Float[Tensor, "M *shape"], expected: Float[Tensor, "*shape"], false_alarm: float = 1e-6) -> None:
    r"""Assert that the mean of independent draws is the expected value, up to their own randomness.

    A component of which hardly any draw is different from the others, such as a very rare class, is not normal at any
    M that misses it; draw more, or leave it out.

    Arguments:
        draws: independent draws, of shape (M, \*shape) with M at least 100.
        expected: the expected value, of shape (\*shape).
        false_alarm: the probability to fail where the expected value is right, for all components together.

    Raises:
        AssertionError: If a component's mean is further from its expected value than the false-alarm rate allows.
        ValueError: If there are fewer than 100 draws, shapes do not match, a value is NaN or infinite, or the
            false-alarm rate is not between 0 and 1.

    Example:
        >>> import torch
        >>> draws = torch.rand(10_000, 2, generator=torch.Generator().manual_seed(0))
        >>> assert_mean(draws, torch.tensor([0.5, 0.5]))
        >>> assert_mean(draws, torch.tensor([0.5, 0.6]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        AssertionError: component (1,): the mean 0.501043 of 10000 draws is 34.2 standard errors from 0.6; ...
    """
    if draws.dim() < 1 or draws.shape[1:] != expected.shape:
        raise ValueError(
            f"draws of shape {tuple(draws.shape)} do not match an expected value of shape {tuple(expected.shape)}; "
            "use draws of shape (M, *expected.shape)."
        )
    if len(draws) < FEWEST:
        raise ValueError(
            f"the mean of {len(draws)} draws is not close enough to normal; use {FEWEST} or more, better thousands."
        )
    if not 0 < false_alarm < 1:
        raise ValueError(f"false_alarm={false_alarm} is not between 0 and 1; use false_alarm=1e-6, for example.")
    eps = max(torch.finfo(dtype).eps for dtype in (draws.dtype, expected.dtype))
    draws, expected = draws.detach().to(torch.float64), expected.detach().to(torch.float64)
    for name, value in (("draws", draws), ("expected", expected)):
        if not value.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinities; use torch.isfinite({name}) to find where.")
    if not expected.numel():
        return
    mean, error = draws.mean(0), draws.std(0) / len(draws) ** 0.5
    rounding = _ROUNDING * eps * torch.maximum(draws.abs().amax(0), expected.abs())
    # the tail itself, as 1 - tail would round
    limit = -torch.special.ndtri(torch.tensor(false_alarm / (2 * expected.numel()), dtype=torch.float64))
    distance = (mean - expected).abs()
    if (distance <= limit * error + rounding).all():
        return
    flat = int(((distance - rounding).clamp_min(0.0) / error).nan_to_num(0.0, posinf=torch.inf).argmax())
    where = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), expected.shape))
    component = f"component {where}: " if where else ""
    raise AssertionError(
        f"{component}the mean {mean[where]:.6g} of {len(draws)} draws is "
        f"{distance[where] / error[where]:.3g} standard errors from {expected[where]:.6g}; "
        f"{limit:.3g} are allowed (false-alarm rate {false_alarm:g}, {expected.numel()} components)."
    )
