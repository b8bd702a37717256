"""Does it matter for the gradient to the logits of "eq. 21" whether its sample is discretised?

Eq. 21 is sum_k z_k (log pi_k - log pi'_k). Its gradient has two routes to the logits: through the sample z, and
directly through log pi. This prints the mean of each route, by Monte Carlo with its standard error, for the relaxed
sample and for the discretised one, which passes gradients straight through to the relaxed one of the same noise; beside
them the exact means. Run: python examples/eq21_discretised.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from softhot.functional import gumbel_log_softmax, relaxed_mean, with_gradient_of
from softhot.kl import Categorical, DiscreteMass

PROBS, PRIOR = (0.6, 0.3, 0.1), (0.2, 0.3, 0.5)
DRAWS = 200_000


def routes(z: Tensor, logits: Tensor, prior: Tensor) -> dict[str, Tensor]:
    """The gradient of eq. 21 to the logits of every draw, by route."""
    ratio = logits.log_softmax(-1) - prior.log_softmax(-1)
    through = torch.autograd.grad((z * ratio.detach()).sum(), logits, retain_graph=True)[0]
    direct = torch.autograd.grad((z.detach() * ratio).sum(), logits)[0]
    return {"through the sample alone": through, "through log pi alone": direct, "both": through + direct}


def exact(logits: Tensor, prior: Tensor, temperature: float) -> dict[str, Tensor]:
    """The exact means for the relaxed sample."""
    both = torch.autograd.grad(DiscreteMass()(logits, prior, temperature), logits)[0]
    direct = relaxed_mean(logits, temperature).detach() - logits.softmax(-1).detach()
    return {"through the sample alone": both - direct, "through log pi alone": direct, "both": both}


def main() -> None:
    """Print the table."""
    logits = torch.tensor(PROBS, dtype=torch.float64).log().requires_grad_()
    prior = torch.tensor(PRIOR, dtype=torch.float64).log()
    truth = torch.autograd.grad(Categorical()(logits, prior), logits)[0]
    print(f"probabilities {PROBS}, prior {PRIOR}, {DRAWS:,} draws; first component of the gradient to the logits")
    print(f"the gradient of the categorical divergence is {truth[0]:.4f}\n")
    print(f"{'t':>4}  {'route':26} {'relaxed':>18} {'discretised':>18} {'exact, relaxed':>15}  same on every draw")
    for temperature in (1.0, 0.5, 0.1):
        batch = logits.detach().expand(DRAWS, -1).clone().requires_grad_()
        soft = gumbel_log_softmax(batch, temperature, generator=torch.Generator().manual_seed(0)).exp()
        hard = torch.nn.functional.one_hot(soft.argmax(-1), len(PROBS)).to(soft.dtype)
        relaxed, discretised = (routes(z, batch, prior) for z in (soft, with_gradient_of(hard, soft)))
        for route, value in exact(logits, prior, temperature).items():
            cells = [
                f"{g[:, 0].mean():8.4f} ± {g[:, 0].std() / DRAWS**0.5:.4f}"
                for g in (relaxed[route], discretised[route])
            ]
            same = "yes" if torch.allclose(relaxed[route], discretised[route], atol=1e-12) else "no"
            print(f"{temperature:4g}  {route:26} {cells[0]:>18} {cells[1]:>18} {value[0]:15.4f}  {same}")


if __name__ == "__main__":
    main()
