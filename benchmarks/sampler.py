"""Samples of the relaxed one-hot variable: softhot's, torch's, compiled by torch and by JAX, Pyro's and TFP's.

Run: python -m benchmarks.sampler
"""

from __future__ import annotations

import torch

from benchmarks.agreement import Task
from benchmarks.contest import Case, contest, sweeps
from benchmarks.peers import TEMPERATURE, jax_jit, ours, pyro, tfp, torch_compile, torch_eager
from benchmarks.settings import RESULTS, Device, Out, Picture, Quick, Settings, Threads, launch
from softhot.functional import relaxed_entropy, relaxed_mean

SHAPES = ((8, 4, 4), (64, 8), (100, 200, 10), (256, 32, 32), (64, 64, 1024))
CUDA_SHAPES = ((64, 50257),)

TASKS = (
    Task("soft", lambda logits, _: relaxed_mean(logits, TEMPERATURE), simplex=True),
    Task(
        "hard",
        lambda logits, _: logits.softmax(-1),
        smooth=lambda logits, _: relaxed_mean(logits, TEMPERATURE),
        simplex=True,
    ),
    Task("rsample", lambda logits, _: relaxed_mean(logits, TEMPERATURE), simplex=True),
    Task("rsample and log_prob", lambda logits, _: -relaxed_entropy(logits, TEMPERATURE)),
)


def main(
    quick: Quick = False,
    threads: Threads = None,
    device: Device = "cpu",
    out: Out = RESULTS,
    picture: Picture = "svg",
) -> None:
    """Time samples, alone and with their gradient."""
    settings = Settings.of(quick, threads, device, out, picture)
    shapes = SHAPES[:2] if quick else SHAPES + (CUDA_SHAPES if device == "cuda" else ())
    cases = [Case(task.name, backward, shape) for task in TASKS for backward in (False, True) for shape in shapes]
    torch.manual_seed(0)
    makers = [ours, torch_eager, *([] if quick else [torch_compile]), pyro, jax_jit, tfp]
    contest("sampler", makers, TASKS, cases + sweeps("soft", quick), settings)


if __name__ == "__main__":
    launch(main)
