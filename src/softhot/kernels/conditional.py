r"""The mean Jacobian of relaxed samples whose largest score is that of a given class.

With w the ratio of 1 to the probability of each class, 0 for the given class and infinite for impossible ones, and E of
independent standard exponential variables, one relaxed sample given class i is

.. math:: z = u / \textstyle\sum_k u_k, \qquad u_k = \Big( \frac{E_i}{E_i + w_k E_k} \Big)^r, \qquad r = 1 / t

For a score x, :math:`e^{-x}` is an exponential variable; given that i has the least, that is
:math:`E_i / \sum_k e^{\ell_k}`, and each other one exceeds it by :math:`E_k e^{-\ell_k}`. The gradient g is mapped to
the mean over draws of :math:`r z \odot (g - \sum_k z_k g_k)`.

Noise is made when the gradient is, and nothing of the size of the draws is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softhot.kernels.parallel import run
from softhot.kernels.philox import exponential
from softhot.kernels.routes import compiled, needs_gradient, route, unseen

__all__ = ["with_mean_jacobian"]

_CHUNK = 2**22  # noise variables held at once


def with_mean_jacobian(
    value: Tensor, logits: Tensor, ratios: Tensor, seed: Tensor, rate: float | Tensor, draws: int
) -> Tensor:
    """The value, with that gradient in the logits; it is constant in them, where it is differentiated in turn.

    Arguments:
        value, logits, ratios: of shape (*batch, K); ratios are w.
        seed: of the noise.
        rate: r, a scalar.
        draws: how many.
    """
    rate = rate if isinstance(rate, Tensor) and unseen(rate) else float(rate)
    sample: Tensor = _Given.apply(value, logits, ratios, seed, rate, draws)  # type: ignore[no-untyped-call]
    return sample


class _Given(torch.autograd.Function):
    @staticmethod
    def vmap(info: Any, dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        """One after the other, as the kernel has one seed and one rate, and the many draws are work enough."""
        each = zip(*(_each(info, dim, x) for dim, x in zip(dims, inputs, strict=True)), strict=True)
        return torch.stack([with_mean_jacobian(*one) for one in each]), 0

    @staticmethod
    def forward(value: Tensor, logits: Tensor, ratios: Tensor, seed: Tensor, rate: float, draws: int) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, _, ratios, seed, *ctx.call = inputs
        ctx.save_for_backward(ratios, seed)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, mean_jacobian(gradient, *ctx.saved_tensors, *ctx.call), None, None, None, None


def _each(info: Any, dim: int | None, x: Any) -> Any:
    """An argument of a mapped function for each of its calls."""
    return [x] * info.batch_size if dim is None else x.unbind(dim)


def mean_jacobian(gradient: Tensor, ratios: Tensor, seed: Tensor, rate: float, draws: int) -> Tensor:
    """The mean Jacobian of the module's docstring, times the gradient."""
    cpu = compiled("conditional_cpu")
    if cpu is None or needs_gradient(gradient) or route(gradient, ratios, seed) != "direct":
        return mean_jacobian_reference(gradient, ratios, seed, rate, draws)
    out = torch.empty_like(ratios, memory_format=torch.contiguous_format)
    run(
        cpu.average_body(ratios.dtype), ratios.shape, rate, draws, seed, ratios.contiguous(), gradient.contiguous(), out
    )
    return out


def mean_jacobian_reference(gradient: Tensor, ratios: Tensor, seed: Tensor, rate: float, draws: int) -> Tensor:
    """The same in plain torch, some rows at a time; rows, classes and draws are the order of the noise."""
    classes = ratios.shape[-1]
    rows = max(1, _CHUNK // (classes * draws))
    parts, first = [], 0
    pairs = zip(gradient.reshape(-1, classes).split(rows), ratios.reshape(-1, classes).split(rows), strict=True)
    for g, w in pairs:
        noise = exponential(seed, w.numel() * draws, first).to(w.dtype).reshape(*w.shape, draws)
        first += w.numel() * draws
        given = (w == 0)[..., None]
        least = noise.masked_fill(~given, 0.0).sum(-2, keepdim=True)
        u = (1 + w[..., None] * (noise / least)).masked_fill(given, 1.0).pow(-rate)
        z = u / u.sum(-2, keepdim=True)
        centre = (z * g[..., None]).sum(-2, keepdim=True)
        parts.append(rate * (z * (g[..., None] - centre)).mean(-1))
    return torch.cat(parts).reshape(ratios.shape)
