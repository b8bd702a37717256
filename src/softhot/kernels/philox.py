r"""Random numbers by counting: Philox 4x32-10, in plain torch.

Element i of a tensor has the word (i / 256) mod 4 of the counter 256 (i / 1024) + i mod 256 (whole-number divisions),
under a key of 64 bits, its seed. Two such words, from the streams 0 and 1 of the counter, make the 63 bits of one
uniform number, so that both tails of the noise are right where 1,000,000 classes compete. Nothing depends on the
device, the number of threads or the dtype, except for rounding.

Reference:
    Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from softhot.kernels.streams import drawn

__all__ = ["END", "exponential", "new_seed", "passing_seed", "philox"]

_LOW = 0xFFFFFFFF
END = 2**63 - 1  # of seeds


def new_seed(device: torch.device, generator: torch.Generator | None) -> Tensor:
    """A seed of 63 random bits, from the generator: what a call consumes of it, whatever its size."""
    return drawn(lambda own: torch.randint(END, (), device=device, generator=own), generator)


_KEPT = threading.local()  # a seed of each thread


def passing_seed(generator: torch.Generator | None) -> Tensor:
    """The same seed on the CPU, until the thread's next: for a kernel that needs it no more when it returns."""
    if not hasattr(_KEPT, "seed"):
        with torch.inference_mode(False):  # it is changed in place, in that mode and outside
            _KEPT.seed = torch.zeros((), dtype=torch.int64, device="cpu")
    seed: Tensor = _KEPT.seed
    return seed.random_(END, generator=generator)


def exponential(seeds: Tensor, count: int, first: int = 0) -> Tensor:
    """Standard exponential variables, elements `first` and so on, of shape (*seeds, count), in float64."""
    index = torch.arange(first, first + count, device=seeds.device)
    counter, word = (index >> 10 << 8) + (index & 255), index >> 8 & 3
    high, low = (
        torch.stack(philox(counter, stream, seeds[..., None]), -1).gather(-1, _beside(word, seeds)).squeeze(-1)
        for stream in (0, 1)
    )
    # v = (31 bits of high, 32 of low, half a bit); each of -log(1 - v) and v where it keeps its relative accuracy
    high = high >> 1
    below = (high.double() * 2**32 + low + 0.5) * 2.0**-63
    above = ((2**31 - 1 - high).double() * 2**32 + (2**32 - low) - 0.5) * 2.0**-63
    return -torch.where(below < 0.29, torch.log1p(-below), above.log())


def philox(counter: Tensor, stream: int, seed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four words of 32 bits of the counter (counter, stream), of 64 bits each, under the key `seed`, as int64."""
    a, b = counter & _LOW, counter >> 32 & _LOW
    c, d = torch.full_like(a, stream & _LOW), torch.full_like(a, stream >> 32 & _LOW)
    key_a, key_b = seed & _LOW, seed >> 32 & _LOW
    for _ in range(10):
        # products of 64 bits, whose sign does not matter: shifted, then masked
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32 & _LOW) ^ b ^ key_a, q & _LOW, (p >> 32 & _LOW) ^ d ^ key_b, p & _LOW
        key_a, key_b = key_a + 0x9E3779B9 & _LOW, key_b + 0xBB67AE85 & _LOW
    return a, b, c, d


def _beside(word: Tensor, seeds: Tensor) -> Tensor:
    return word[:, None].expand(*seeds.shape, -1, 1)
