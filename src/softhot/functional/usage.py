"""How much of a codebook is used."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import floating
from softhot.kernels.routes import unseen

__all__ = ["perplexity", "usage"]

_OFF = 0.05  # more than rounding makes of a sum of probabilities, and less than what are none would give


def usage(z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "N K"]:
    r"""How often each class of each variable occurs: the mean of one-hot samples, or of probabilities, over the batch.

    Arguments:
        z: of shape (\*batch, N, K), with rows that sum to one.

    Raises:
        ValueError: If the batch is empty, these are no floats (torch.nn.functional.one_hot gives integers), or no
            probabilities: logits, for example.

    Example:
        >>> import torch
        >>> usage(torch.eye(4)[[0, 0, 0, 1]][:, None])
        tensor([[0.7500, 0.2500, 0.0000, 0.0000]])
    """
    floating("z", z, least=1)
    flat = z.flatten(0, -3) if z.dim() > 2 else z[None]
    if not len(flat):
        raise ValueError(f"a batch of shape {tuple(z.shape)} is empty, so no class is used; leave it out.")
    mean = flat.mean(0)
    if not unseen(mean):
        bad = (mean < 0).any(-1) | ~((mean.sum(-1) - 1).abs() < _OFF)
        if bad.any():
            row = mean[bad][0]
            raise ValueError(
                f"z has no probabilities: the mean of a variable sums to {row.sum().item():.6g}, and its smallest "
                f"entry is {row.min().item():.6g}; use logits.softmax(-1), or one-hot samples."
            )
    return mean


def perplexity(z: Float[Tensor, "*batch N K"]) -> Float[Tensor, " N"]:
    r"""The effective number of classes that each variable uses, from 1 to K.

    .. math:: \exp H(\bar z), \qquad \bar z = \text{the usage}

    Arguments:
        z: of shape (\*batch, N, K), one-hot samples or probabilities.

    Raises:
        ValueError: If the batch is empty, these are no floats (torch.nn.functional.one_hot gives integers), or no
            probabilities: logits, for example.

    Example:
        >>> import torch
        >>> perplexity(torch.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]][:, None])
        tensor([4.])

    Reference:
        van den Oord, Vinyals, Kavukcuoglu (2017), "Neural discrete representation learning", whose implementation
        reports it.
    """
    entropy: Tensor = torch.special.entr(usage(z)).sum(-1)
    return entropy.exp()
