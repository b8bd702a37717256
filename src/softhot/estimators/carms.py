r"""CARMS: REINFORCE with a leave-one-out baseline, from jointly antithetic draws.

The n draws of a variable avoid each other; each alone has the law q. For two draws of which z takes class a and z'
class b of variable n, with joint probability :math:`P_n(a, b)`,

.. math:: \hat g_n = \frac{1}{n (n - 1)} \sum_{i < j} \big( f(z_i) - f(z_j) \big) (z_{in} - z_{jn}) \,
    \frac{\pi_{na} \pi_{nb}}{P_n(a, b)}

is unbiased for any exchangeable draws for which :math:`P_n(a, b) > 0` whenever :math:`a \ne b`: pairs that agree in
variable n add nothing. Independent draws give LeaveOneOut; for two classes this is ARMS, and its pair DisARM.

The draws break a stick: classes are tried from the least likely to the likeliest, each taken with its probability
given that no earlier one was, :math:`\rho_m \le 1/2` (but for the last). Draw i takes class m where
:math:`u_{im} < \rho_m`, with uniform u of a Dirichlet copula: :math:`u_i = (1 - d_i)^{n - 1}`, d from the flat
Dirichlet distribution of n entries. Two of them are below :math:`\rho` together with probability
:math:`\Phi(\rho) = \max(0, 2 \rho^{1 / (n - 1)} - 1)^{n - 1}`, and with m the earlier class of the two,

.. math:: \frac{\pi_a \pi_b}{P(a, b)} = \frac{1 - \rho_m}{1 - \Phi(\rho_m) / \rho_m}
    \prod_{j < m} \frac{(1 - \rho_j)^2}{1 - 2 \rho_j + \Phi(\rho_j)}

The paper also describes one inverse CDF for all classes at once. Alone that is unsound for more than two: of three even
classes an antithetic pair is never the first and the second, the weight of such a pair does not exist, and the gradient
is biased. The paper averages over permutations of the classes; the stick, the paper's too, needs none.

Costs n evaluations of f, which need not be differentiable.

References:
    Dimitriev, Zhou (2021), "CARMS: categorical-antithetic-REINFORCE multi-sample gradient estimator".
    Dimitriev, Zhou (2021), "ARMS: antithetic-REINFORCE-multi-sample gradient for binary variables".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from softhot.estimators.estimator import Estimator
from softhot.estimators.gradients import carry, detached, exponential
from softhot.estimators.integrand import Integrand
from softhot.functional.check import counted
from softhot.kl.term import Sample

__all__ = ["Carms"]


@dataclass(frozen=True)
class Carms(Estimator):
    """REINFORCE with a leave-one-out baseline, from draws that avoid each other.

    Arguments:
        samples: the number of draws n, at least 2.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.Carms(samples=2)(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Dimitriev & Zhou 2021"

    samples: int = 4

    def __post_init__(self) -> None:
        counted("samples", self.samples, 2, "has no other draw to avoid", who="Carms")

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        known, order = detached(logits).sort(-1)
        rest = known.flip(-1).logcumsumexp(-1).flip(-1)
        stick = (known - rest).exp()  # probability of each class, given none of the less likely
        times = exponential((self.samples, *known.shape), known, generator)
        u = (1 - times / times.sum(0)) ** (self.samples - 1)
        taken = u < stick
        taken[..., -1] = True
        stage = taken.to(torch.uint8).argmax(-1)  # the first that is taken
        classes = order.expand_as(u).gather(-1, stage[..., None])[..., 0]
        z = one_hot(classes, logits.shape[-1]).to(logits.dtype)
        value = f(z)  # with gradient: f may have parameters of its own
        with torch.no_grad():
            weight = _weights(stick, self.samples)
            earlier = torch.minimum(stage[:, None], stage)
            weight = weight.expand(*earlier.shape, -1).gather(-1, earlier[..., None])[..., 0]
            weight = weight.masked_fill(stage[:, None] == stage, 0.0)
            advantage = ((value[:, None] - value)[..., None] * weight).sum(1)
            gradient = (advantage[..., None] * z).sum(0) / (self.samples * (self.samples - 1))
        return carry(value.mean(0), logits, gradient)

    def evaluations(self, latents: int, classes: int) -> int:
        return self.samples


def _weights(stick: Tensor, samples: int) -> Tensor:
    """The ratio of the module's docstring, by the earlier class in the order of the stick."""
    both = (2 * stick ** (1 / (samples - 1)) - 1).clamp_min(0.0) ** (samples - 1)
    alone = (1 - stick) / (1 - both / torch.where(stick > 0, stick, 1.0))
    neither = (1 - stick) ** 2 / (1 - 2 * stick + both)
    before = neither[..., :-1].cumprod(-1)
    return alone * torch.cat((torch.ones_like(stick[..., :1]), before), -1)
