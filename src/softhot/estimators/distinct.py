r"""Distinct configurations of N one-hot variables: the likeliest ones, and draws that are not among given ones.

What a set S of configurations leaves out splits by where a configuration departs from S: it shares its first d
variables with some member, and no member has also its next class. There are at most \|S\| N such parts, disjoint, each
a product of independent variables again, with probability

.. math:: \Big( \prod_{e < d} \pi_{e, s_e} \Big) \sum_{k \text{ not taken}} \pi_{d, k}

so that the mass outside S is a sum of positive terms, however close to one that of S may be, and a draw from it is a
draw of a part, of its class at d and of the free variables behind it: no rejection, and no loop over variables.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot, pad

from softhot.functional import one_hot_sample

__all__ = ["distinct_draws", "likeliest", "outside"]


def outside(
    members: Float[Tensor, "m *batch N K"],
    logits: Float[Tensor, "*batch N K"],
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "*batch N K"], Float[Tensor, "*batch"]]:
    """A draw of q given that it is none of the members, and the log-probability of that.

    Where nothing is left, the log-probability is -inf and the draw is the first member. Members may repeat.

    Example:
        >>> import torch
        >>> outside(torch.eye(3)[:2, None], torch.zeros(1, 3))
        (tensor([[0., 0., 1.]]), tensor(-1.0986))
    """
    open_, part = _parts(members, logits)
    log_rest = part.logsumexp(-1)
    nothing = log_rest == -math.inf

    chosen = one_hot_sample(part.masked_fill(nothing[..., None], 0.0), generator=generator).argmax(-1)
    latents = logits.shape[-2]
    member, depth = chosen // latents, (chosen % latents)[..., None]
    of_part = open_.movedim(0, -3).flatten(-3, -2)
    row = of_part.gather(-2, chosen[..., None, None].expand(*chosen.shape, 1, logits.shape[-1]))
    departing = one_hot_sample(row.masked_fill(nothing[..., None, None], 0.0), generator=generator)
    behind = one_hot_sample(logits, generator=generator)
    prefix = members.movedim(0, -3).gather(
        -3, member[..., None, None, None].expand(*chosen.shape, 1, *logits.shape[-2:])
    )
    place = torch.arange(latents, device=logits.device)
    z = torch.where((place == depth)[..., None], departing, behind)
    z = torch.where((place < depth)[..., None], prefix[..., 0, :, :].to(z.dtype), z)
    return torch.where(nothing[..., None, None], members[0].to(z.dtype), z), log_rest


def _parts(members: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """For each member and depth d: log-probabilities of the classes that depart there, and that of the whole part.

    Of shape (m, *batch, N, K) and (*batch, m N).
    """
    log_pi = logits.log_softmax(-1)
    taken = members > 0
    alike = (taken[:, None] & taken).any(-1).cumprod(-1)  # two members have all variables up to this one in common
    shared = torch.cat((torch.ones_like(alike[..., :1]), alike[..., :-1]), -1).bool()  # all before this one
    first = ~torch.tril(shared.movedim((0, 1), (-2, -1)), -1).any(-1).movedim(-1, 0)  # each part once
    closed = (shared[..., None] & taken).any(1)  # classes that continue some member
    open_ = log_pi.masked_fill(closed, -math.inf)
    before = torch.where(taken, log_pi, 0.0).sum(-1).cumsum(-1)
    before = torch.cat((torch.zeros_like(before[..., :1]), before[..., :-1]), -1)
    part = (before + open_.logsumexp(-1)).masked_fill(~first, -math.inf).movedim(0, -2).flatten(-2)
    return open_, part


def distinct_draws(
    count: int, logits: Float[Tensor, "*batch N K"], generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "m *batch N K"], Bool[Tensor, "m *batch"], Float[Tensor, "*batch"]]:
    """Draws without replacement, which of them there are, and the log-probability of all others.

    Each is drawn by :func:`outside` of those before it, all of the batch at once: the loop over the few draws is what a
    draw given the others costs. Perturbed log-probabilities need none, but a search for the largest through the N
    variables, one after the other. Where fewer are possible than are asked for, the first stands in for those that are
    missing.

    Example:
        >>> import torch
        >>> z, there, log_rest = distinct_draws(4, torch.zeros(2, 2))
        >>> z.sum(0).tolist(), log_rest.item()
        ([[2.0, 2.0], [2.0, 2.0]], -inf)
    """
    members = one_hot_sample(logits, generator=generator)[None]
    there = [torch.ones(logits.shape[:-2], dtype=torch.bool, device=logits.device)]
    for _ in range(count - 1):
        z, log_rest = outside(members, logits, generator)
        members = torch.cat((members, z[None]))
        there.append(log_rest > -math.inf)
    return members, torch.stack(there), _parts(members, logits)[1].logsumexp(-1)


def likeliest(
    count: int, logits: Float[Tensor, "*batch N K"]
) -> tuple[Float[Tensor, "m *batch N K"], Float[Tensor, "m *batch"]]:
    """The likeliest configurations, from the likeliest on, and their log-probabilities.

    Neighbouring variables are merged, then neighbouring pairs, and so on, in as many steps as N has binary digits: the
    best of a block are among the sums of the best of its halves. There must be as many as are asked for, though some
    may be impossible.

    Example:
        >>> import torch
        >>> z, log_p = likeliest(2, torch.tensor([[0.6, 0.4], [0.9, 0.1]]).log())
        >>> z.argmax(-1).tolist(), log_p.exp()
        ([[0, 0], [1, 0]], tensor([0.5400, 0.3600]))
    """
    latents, classes = logits.shape[-2:]
    blocks = 1 << (latents - 1).bit_length()
    score = pad(logits.log_softmax(-1), (0, 0, 0, blocks - latents), value=-math.inf)
    score[..., latents:, 0] = 0.0  # a variable that has one class only
    best, index = score.topk(min(count, classes))
    index = index[..., None]
    while best.shape[-2] > 1:
        left, right = index[..., 0::2, :, :], index[..., 1::2, :, :]
        width, sums = best.shape[-1], best[..., 0::2, :, None] + best[..., 1::2, None, :]
        best, place = sums.flatten(-2).topk(min(count, width**2))
        halves = [
            half.gather(-2, at[..., None].expand(*at.shape, half.shape[-1]))
            for half, at in ((left, place // width), (right, place % width))
        ]
        index = torch.cat(halves, -1)
    z = one_hot(index[..., 0, :, :latents], classes).to(logits.dtype)
    return z.movedim(-3, 0), best[..., 0, :].movedim(-1, 0)
