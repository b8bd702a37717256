"""Exact values of the relaxed one-hot variable beside one draw of them: KL, entropy and mean, with their gradients.

softhot integrates; the others estimate by one draw, which is an answer of another kind: see benchmarks.accuracy.
Run: python -m benchmarks.exact
"""

from __future__ import annotations

import torch

from benchmarks.agreement import Task
from benchmarks.contest import Case, contest, sweeps
from benchmarks.peers import PRIOR, TEMPERATURE, ours, pyro, tfp, torch_eager
from benchmarks.settings import RESULTS, Device, Out, Picture, Quick, Settings, Threads, launch
from softhot.functional import relaxed_entropy, relaxed_kl, relaxed_mean

SHAPES = ((8, 4, 4), (100, 200, 10), (256, 32, 32), (64, 64, 1024))
CUDA_SHAPES = ((64, 50257),)
LARGE = ((64, 50_000), (1, 1_000_000))  # forward only

TASKS = (
    Task("KL", lambda logits, prior: relaxed_kl(logits, TEMPERATURE, prior, PRIOR)),
    Task("KL, equal temperatures", lambda logits, prior: relaxed_kl(logits, TEMPERATURE, prior, TEMPERATURE)),
    Task("entropy", lambda logits, _: relaxed_entropy(logits, TEMPERATURE)),
    Task("mean", lambda logits, _: relaxed_mean(logits, TEMPERATURE), simplex=True),
)


def main(
    quick: Quick = False,
    threads: Threads = None,
    device: Device = "cpu",
    out: Out = RESULTS,
    picture: Picture = "svg",
) -> None:
    """Time exact values and their gradients."""
    settings = Settings.of(quick, threads, device, out, picture)
    shapes = SHAPES[:1] if quick else SHAPES + (CUDA_SHAPES if device == "cuda" else ())
    cases = [Case(task.name, True, shape) for task in TASKS for shape in shapes]
    cases += [Case(task.name, False, shape) for task in TASKS for shape in (() if quick else LARGE)]
    torch.manual_seed(0)
    contest("exact", [ours, torch_eager, pyro, tfp], TASKS, cases + sweeps("KL", quick), settings)


if __name__ == "__main__":
    launch(main)
