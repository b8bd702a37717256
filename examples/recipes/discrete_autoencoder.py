"""A discrete autoencoder of handwritten digits, with a codebook, as VQ-VAE has one.

An image becomes N = 8 codes out of K = 16, each a vector of a codebook; the decoder sees the vectors alone. The code is
drawn, with straight-through gradients, rather than the nearest: then the loss is a lower bound of the evidence with ten
nats for nothing, no code has to commit to anything, and classes that are not used come back, since the divergence pulls
to the uniform law. How many are in use is the perplexity.
"""

import torch
from torch import nn

from softhot.functional import categorical_kl, perplexity, reduce_kl, straight_through
from softhot.problems.data import load, prepare

LATENTS, CLASSES, WIDTH, STEPS = 8, 16, 8, 500

torch.manual_seed(0)
images = prepare(load("digits"), "threshold")
encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, LATENTS * CLASSES))
codebook = nn.Parameter(0.3 * torch.randn(LATENTS, CLASSES, WIDTH))
decoder = nn.Sequential(nn.Linear(LATENTS * WIDTH, 128), nn.ReLU(), nn.Linear(128, 64))
optimiser = torch.optim.Adam([*encoder.parameters(), codebook, *decoder.parameters()], lr=3e-3)


def parts(x):
    """The cost of the pixels and the divergence of every code, in nats, and the codes."""
    logits = encoder(x).unflatten(-1, (LATENTS, CLASSES))
    z = straight_through(logits)  # one-hot, of shape (batch, N, K)
    vectors = torch.einsum("bnk,nkw->bnw", z, codebook)
    cost = nn.functional.binary_cross_entropy_with_logits(decoder(vectors.flatten(-2)), x, reduction="sum")
    return cost / len(x), categorical_kl(logits, torch.zeros(CLASSES)), z


for _ in range(STEPS):
    cost, kl, _ = parts(images.train[torch.randint(len(images.train), (100,))])
    optimiser.zero_grad()
    (cost + reduce_kl(kl, "mean", free_nats=10.0)).backward()
    optimiser.step()

with torch.no_grad():
    cost, kl, z = parts(images.test)
    rate = images.train.mean(0).clamp(0.01, 0.99)
    blind = nn.functional.binary_cross_entropy(rate.expand_as(images.test), images.test, reduction="sum")
    print("classes in use:", *(f"{value:.1f}" for value in perplexity(z)))
    print("nats of each code:", *(f"{value:.2f}" for value in kl.mean(0)))
    print(f"nats of the pixels: {cost:.2f} with codes, {blind / len(z):.2f} with the mean image")
