r"""Plain variational inference: gradient ascent of the ELBO in all parameters of a mixture of discrete flows.

.. math:: \nabla \sum_b w_b\, E_{u \sim p_b} \big[ \log p(x, T_b(u)) - \log q(T_b(u)) \big]

With deltas, or bases small enough to be summed over, the ELBO and its straight-through gradient have no noise.
Otherwise they are means over draws that are spread evenly over the components (stratified). The gradient is biased, so
the ELBO need not rise: the best of all steps is kept.

The slope of the target in entry (n, k) of z is that of automatic differentiation, or with a floor its value where
variable n has class k and the others are as they are: the same for a target that is linear in each variable, as that of
a Bayesian network is. The target then need not be differentiable, and impossible configurations count as the floor.

For a mixture of deltas :func:`softhot.inference.boosting` is better and faster; this is for any flow and base.

Reference:
    Kuśmierczyk, Klami (2020), "Reliable categorical variational inference with mixture of discrete normalizing flows".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from softhot.distributions import MixtureOfDiscreteFlows
from softhot.estimators.integrand import numbers
from softhot.functional import Constant, Schedule, with_gradient_of
from softhot.functional.check import counted, sizes
from softhot.inference.fit import Fit, LogJoint

__all__ = ["Family", "shifted_deltas", "variational"]

FRESH = 10_000  # draws for the ELBO that is reported, where it is not a sum
Family = tuple[Callable[[float], MixtureOfDiscreteFlows], list[Tensor]]
"""What makes a mixture at a temperature, and the parameters that it is made of."""


def shifted_deltas(
    cardinalities: Sequence[int],
    components: int,
    *,
    learned_weights: bool = False,
    generator: torch.Generator | None = None,
) -> Family:
    """B deltas with random shifts: what makes the mixture at a temperature, and the parameters to be trained.

    Raises:
        ValueError: If there is no component or variable, or a variable has no class.

    Example:
        >>> make, parameters = shifted_deltas((2, 3), components=4)
        >>> make(1.0).components, [tuple(p.shape) for p in parameters]
        (4, [(4, 2, 3)])
    """
    counted("components", components, 1, "is no mixture")
    shape = (components, len(cardinalities), max(sizes(cardinalities)))
    logits = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    weights = torch.zeros(components, dtype=torch.float64, requires_grad=learned_weights)

    def make(temperature: float) -> MixtureOfDiscreteFlows:
        return MixtureOfDiscreteFlows.of_deltas(logits, temperature, weights, cardinalities)

    return make, [logits, weights] if learned_weights else [logits]


def variational(
    log_joint: LogJoint,
    make: Callable[[float], MixtureOfDiscreteFlows],
    parameters: Iterable[Tensor],
    *,
    steps: int = 500,
    learning_rate: float = 0.1,
    temperature: Schedule | float = 1.0,
    samples: int | None = None,
    floor: float | None = None,
    generator: torch.Generator | None = None,
) -> Fit:
    """The best mixture that Adam comes by.

    Arguments:
        log_joint: the target; see :mod:`softhot.inference.fit`.
        make: the mixture at a temperature of its straight-through gradients, a function of the parameters.
        parameters: what is trained; they are left as they are for the best step.
        steps: of the optimiser.
        learning_rate: of the optimiser.
        temperature: a number, or a schedule over the steps.
        samples: stratified draws for each step, and the ELBO of the result from fresh draws; exact sums if not given.
        floor: what log p(x, z) counts as where it is lower, in training; the ELBO that is returned has none. The
            target is then evaluated at all configurations that differ from a component's in one variable.
        generator: the source of randomness of the draws; torch's default generator if not given.

    Raises:
        ValueError: If there is no step, the target has no slope where it needs one, or the ELBO is not finite.

    Example:
        >>> import torch
        >>> target = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
        >>> family = shifted_deltas((3,), 10, learned_weights=True, generator=torch.Generator().manual_seed(0))
        >>> fit = variational(lambda z: (z * target).sum((-1, -2)), *family, steps=200)
        >>> -1e-3 < fit.elbo < 1e-12  # the evidence is log 1
        True
    """
    counted("steps", steps, 1, "trains nothing")
    if samples is not None:
        counted("samples", samples, 1, "draws nothing")
    heat = temperature if isinstance(temperature, Schedule) else Constant(temperature)
    trained = list(parameters)
    optimiser = torch.optim.Adam(trained, lr=learning_rate)
    best, kept, history, evaluations = -math.inf, [p.detach().clone() for p in trained], [], 0

    checked = numbers(log_joint, "log_joint")

    def evaluated(z: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += z.shape[:-2].numel()
        return checked(z)

    def target(z: Tensor) -> Tensor:
        if floor is not None:
            return _by_differences(evaluated, z, floor)
        value = evaluated(z)
        if z.requires_grad and not value.requires_grad:
            raise ValueError(
                "log_joint has no slope: its value does not depend on z by differentiable operations; use floor=-50.0, "
                "for example, which needs none."
            )
        return value

    for step in range(steps):
        q = make(heat(step))
        if samples is None:
            elbo = q.expectation(target) + q.entropy()
        else:
            z, log_q = q.rsample_and_log_prob((samples,), stratified=True, generator=generator)
            elbo = (target(z) - log_q).mean(0)
        history.append(elbo.item())
        if not math.isfinite(history[-1]):
            raise ValueError(
                f"the ELBO is {history[-1]} at step {step}: a component is where the target is impossible; "
                "use floor=-50.0, for example, or boosting(log_joint, cardinalities, components)."
            )
        if history[-1] > best:
            best, kept = history[-1], [p.detach().clone() for p in trained]
        optimiser.zero_grad()
        (-elbo).backward()
        optimiser.step()
    with torch.no_grad():
        for parameter, value in zip(trained, kept, strict=True):
            parameter.copy_(value)
        q = make(heat(steps - 1))
        if samples is None:
            reported, error = q.expectation(lambda z: checked(z) - q.log_prob(z)).item(), 0.0
        else:
            z = q.sample((FRESH,), generator=generator)
            values = checked(z) - q.log_prob(z)
            reported, error = values.mean().item(), values.std().item() / math.sqrt(FRESH)
            if reported == -math.inf:  # which one draw makes certain
                error = 0.0
    return Fit(q, reported, error, tuple(history), evaluations, False)


def _by_differences(log_joint: LogJoint, z: Tensor, floor: float) -> Tensor:
    """The target, no lower than the floor, with a slope in each entry of z that is its value there."""
    latents, classes = z.shape[-2:]
    with torch.no_grad():
        one = torch.eye(classes, dtype=z.dtype, device=z.device)
        own = torch.eye(latents, dtype=torch.bool, device=z.device)[:, None, :, None]
        # of shape (*sample, N, K, N, K): variable n of class k, the others as in z
        around = torch.where(own, one[:, None], z[..., None, None, :, :])
        slope = log_joint(around).clamp(min=floor)
        value = (slope * z).sum(-1)[..., 0]
    return with_gradient_of(value, (slope * z).sum((-1, -2)))
