"""A world model with categorical latents: a recurrent state, and 8 variables of 8 classes at every step.

Something walks on a ring of 8 places, one to the left or right as an action says, and is seen. The model keeps a
deterministic state h and a discrete one z: the posterior of z sees h and the observation, the prior sees h alone. Both
are mixed with one per cent of the uniform law, draws have straight-through gradients, and the divergence goes in two
parts, one that teaches the prior and one that restrains the posterior, each with free nats. In the end it imagines: it
sees three steps, and then the actions alone.

Reference:
    Hafner, Pasukonis, Ba, Lillicrap (2023), "Mastering diverse domains through world models".
"""

import torch
from torch import nn

from softhot.functional import categorical_kl, perplexity, reduce_kl, straight_through, uniform_mix

PLACES, LATENTS, CLASSES, HIDDEN, LENGTH, SEEN, STEPS = 8, 8, 8, 64, 8, 3, 250

torch.manual_seed(0)
cell = nn.GRUCell(LATENTS * CLASSES + 1, HIDDEN)
prior_head = nn.Linear(HIDDEN, LATENTS * CLASSES)
posterior_head = nn.Linear(HIDDEN + PLACES, LATENTS * CLASSES)
decoder = nn.Linear(HIDDEN + LATENTS * CLASSES, PLACES)
weights = [weight for part in (cell, prior_head, posterior_head, decoder) for weight in part.parameters()]
optimiser = torch.optim.Adam(weights, lr=5e-3)


def walks(count):
    """Places of shape (length, count), and the actions before them, -1 or 1."""
    actions = 2 * torch.randint(2, (LENGTH, count)) - 1
    return (torch.randint(PLACES, (count,)) + actions.cumsum(0)) % PLACES, actions[..., None].float()


def logits_of(head, *inputs):
    return uniform_mix(head(torch.cat(inputs, -1)).unflatten(-1, (LATENTS, CLASSES)), 0.01)


def unrolled(places, actions, seen):
    """What is decoded at every step, with the logits of prior and posterior, and the draws."""
    h, z = torch.zeros(places.shape[1], HIDDEN), torch.zeros(places.shape[1], LATENTS * CLASSES)
    steps = []
    for step, action in enumerate(actions):
        h = cell(torch.cat([z, action], -1), h)
        prior = logits_of(prior_head, h)
        posterior = logits_of(posterior_head, h, nn.functional.one_hot(places[step], PLACES).float())
        z = straight_through(posterior if step < seen else prior).flatten(-2)
        steps.append((decoder(torch.cat([h, z], -1)), prior, posterior, z))
    return (torch.stack(each) for each in zip(*steps, strict=True))


def loss(places, actions):
    decoded, prior, posterior, _ = unrolled(places, actions, LENGTH)
    cost = nn.functional.cross_entropy(decoded.flatten(0, 1), places.flatten())
    teaching = reduce_kl(categorical_kl(posterior.detach(), prior), "mean", free_nats=1.0)
    restraint = reduce_kl(categorical_kl(posterior, prior.detach()), "mean", free_nats=1.0)
    return cost + 0.5 * teaching + 0.1 * restraint


for _ in range(STEPS):
    optimiser.zero_grad()
    loss(*walks(64)).backward()
    optimiser.step()

with torch.no_grad():
    places, actions = walks(500)
    decoded, _, _, z = unrolled(places, actions, SEEN)
    right = (decoded.argmax(-1) == places).float().mean(-1)
    print(f"places right while it sees: {right[:SEEN].mean():.2f}")
    print(f"places right in imagination: {right[SEEN:].mean():.2f} (by chance {1 / PLACES:.2f})")
    print("classes in use:", *(f"{value:.1f}" for value in perplexity(z.unflatten(-1, (LATENTS, CLASSES)))))
