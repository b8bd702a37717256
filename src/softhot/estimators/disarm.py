r"""DisARM, also known as unbiased ARM: an antithetic pair for two classes.

With :math:`\varphi_n = \ell_{n1} - \ell_{n0}`, uniform :math:`u_n` and
:math:`b_n = 1[1 - u_n \le \sigma(\varphi_n)]`, :math:`\tilde b_n = 1[u_n < \sigma(\varphi_n)]`,

.. math:: \frac{\partial}{\partial \varphi_n} \approx \tfrac{1}{2} \big( f(b) - f(\tilde b) \big)
    (-1)^{\tilde b_n} \, 1[b_n \ne \tilde b_n] \, \sigma(|\varphi_n|)

the ARM estimator, with everything integrated out but the pair. Unbiased. Costs two evaluations of f, which need not be
differentiable. For more classes see Carms.

References:
    Dong, Mnih, Tucker (2020), "DisARM: an antithetic gradient estimator for binary latent variables".
    Yin, Ho, Yan, Qian, Zhou (2020), "Probabilistic best subset selection via gradient-based optimization".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.estimators.estimator import Estimator
from softhot.estimators.gradients import carry, detached
from softhot.estimators.integrand import Integrand
from softhot.kernels.streams import drawn
from softhot.kl.term import Sample

__all__ = ["DisArm"]


@dataclass(frozen=True)
class DisArm(Estimator):
    """An antithetic pair for variables of two classes.

    Raises:
        ValueError: When called with other than two classes.

    Example:
        >>> import torch, softhot
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> softhot.estimators.DisArm()(lambda z: z[..., 0].sum(-1), logits).backward()
        >>> logits.grad
        tensor([[ 0.2500, -0.2500]])
    """

    unbiased: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    sample: ClassVar[Sample] = "hard"
    source: ClassVar[str] = "Dong et al. 2020; Yin et al. 2020"
    classes: ClassVar[int | None] = 2

    def estimate(
        self, f: Integrand, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None
    ) -> Float[Tensor, "*batch"]:
        if logits.shape[-1] != 2:
            raise ValueError(
                f"DisArm is for two classes, and logits of shape {tuple(logits.shape)} have {logits.shape[-1]}; "
                "use Carms(samples=2), which is DisArm for two classes and is for any number of them."
            )
        known = detached(logits)
        probs = known.softmax(-1)
        shape, dtype, device = known.shape[:-1], known.dtype, known.device
        u = drawn(lambda own: torch.rand(shape, dtype=dtype, device=device, generator=own), generator)
        second = torch.stack((1 - u <= probs[..., 1], u < probs[..., 1]))  # 0 <= u < 1
        z = torch.stack((~second, second), -1).to(logits.dtype)
        value = f(z)  # with gradient: f may have parameters of its own
        with torch.no_grad():
            # (b - b~) / 2 is (-1)^b~ 1[b != b~] / 2; the larger probability is sigma(|phi|)
            half = (z[0] - z[1]) / 2
            gradient = (value[0] - value[1])[..., None, None] * half * probs.amax(-1, keepdim=True)
        return carry(value.mean(0), logits, gradient)

    def evaluations(self, latents: int, classes: int) -> int:
        return 2
