r"""The control variate of REBAR and RELAX: a function c of the relaxed sample, whose mean gradient is known two ways.

With scores :math:`y = \log \pi + G`, G Gumbel, the hard sample z is the largest, and the relaxed one
:math:`\zeta = \operatorname{softmax}(y / t)`. Given z the scores are a differentiable function
:math:`\tilde y` of the logits, too, whose noise is independent of z: the largest is a Gumbel variable, and the others
are Gumbel variables truncated there. So for every c and :math:`\eta`

.. math:: \hat g = \big( f(z) - \eta \, c(\tilde\zeta) \big) \nabla_\ell \log q_\ell(z)
    + \eta \, \nabla_\ell \, c(\zeta) - \eta \, \nabla_\ell \, c(\tilde\zeta)

is unbiased. The two are coupled as closely as can be, by taking for the noise of :math:`\tilde y` that which makes
it equal to y: then :math:`\tilde\zeta = \zeta` in value, c is evaluated once, and only the two slopes differ,
:math:`\partial y_k / \partial \log \pi_k = 1` and
:math:`\partial \tilde y_k / \partial \log \pi_k = 1 - e^{y_k - y_z}`, so that

.. math:: \hat g = \big( f(z) - \eta \, c(\zeta) \big) (z - \pi) + \eta \, (r - \pi \textstyle\sum_k r_k), \qquad
    r_k = e^{y_k - \max_j y_j} \, \frac{\partial c(\zeta)}{\partial y_k}
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.estimators.controlled import Parts
from softhot.estimators.gradients import detached, sloped
from softhot.estimators.integrand import Integrand, no_slope
from softhot.functional import gumbel_log_softmax

__all__ = ["relaxed_control"]


def relaxed_control(
    f: Integrand,
    control: Integrand,
    logits: Float[Tensor, "*batch N K"],
    temperature: float | Tensor,
    eta: float | Tensor,
    generator: torch.Generator | None,
    learning: bool,
) -> Parts:
    """Value, gradient and its second moment; with ``learning`` with a graph to temperature, eta and the control.

    Raises:
        ValueError: If the control is f itself and cannot be differentiated in z.
    """
    known = detached(logits)
    probs = known.softmax(-1)
    score = gumbel_log_softmax(known, 1.0, generator=generator)  # up to a constant, which the softmax forgets
    largest, chosen = score.max(-1, keepdim=True)
    z = one_hot(chosen[..., 0], logits.shape[-1]).to(logits.dtype)
    value = f(z)  # with gradient: f may have parameters of its own
    possible = score > -math.inf

    def relaxed(score: Tensor) -> Tensor:
        soft = (score / temperature).masked_fill(~possible, -math.inf).softmax(-1)
        return control(soft.to(logits.dtype))

    c, slope = sloped(relaxed, score.masked_fill(~possible, 0.0), graph=learning)
    if slope is None:
        if control is f:
            raise no_slope("Rebar")
        slope = torch.zeros_like(score)
    with torch.set_grad_enabled(learning):
        rising = (score - largest).exp() * slope
        straight = rising - probs * rising.sum(-1, keepdim=True)
        gradient = (value.detach() - eta * c)[..., None, None] * (z - probs) + eta * straight
        return Parts(value, gradient, gradient.square().sum((-1, -2)))
