"""A Gaussian mixture: what estimators come to in its discrete assignments, beside the closed-form solution.

Every method starts from the same assignments; the means are at their best for the assignments at every step. Give a
table as .csv or .csv.gz, with a line of names and a column of names: ``python gaussian_mixture.py reviews.csv.gz``.
"""

import csv
import gzip
import sys
from pathlib import Path

import torch

from softhot.distributions import OneHotCategorical
from softhot.estimators import estimator
from softhot.problems import GaussianMixture


def table(path: Path) -> torch.Tensor:
    """The numbers of a table, each column with mean zero and variance one."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = [[float(value) for value in row[1:] if value] for row in list(csv.reader(file))[1:]]
    data = torch.tensor(rows, dtype=torch.float64)
    return (data - data.mean(0)) / data.std(0)


def made_up() -> torch.Tensor:
    """Rows around three corners of a triangle."""
    corners = torch.tensor([[-3.0, -1.0], [3.0, -1.0], [0.0, 3.0]], dtype=torch.float64)
    return corners.repeat(50, 1) + torch.randn(150, 2, dtype=torch.float64)


def climb(mixture: GaussianMixture, start: torch.Tensor, name: str, steps: int = 300) -> float:
    """The ELBO after Adam, with an estimator for the assignments; each row of data is one variable of a batch."""
    logits = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        with torch.no_grad():
            scores = mixture.scores(*mixture.means(logits.softmax(-1)))
        estimate = estimator(name)()(lambda z, s=scores: (z[..., 0, :] * s).sum(-1), logits[:, None])
        (-(estimate + OneHotCategorical(logits=logits).entropy())).sum().backward()
        optimiser.step()
    return mixture.elbo(logits).item()


if __name__ == "__main__":
    torch.manual_seed(0)
    data = table(Path(sys.argv[1])) if len(sys.argv) > 1 else made_up()
    mixture = GaussianMixture(data, classes=3)
    start = torch.randn(len(data), 3, dtype=torch.float64)
    print(f"{'start':20}{mixture.elbo(start).item():12.2f}")
    print(f"{'closed form':20}{mixture.elbo(mixture.solve(start)).item():12.2f}")
    for name in ("exact", "local-expectation", "leave-one-out", "reinmax", "gumbel-softmax"):
        print(f"{name:20}{climb(mixture, start, name):12.2f}")
