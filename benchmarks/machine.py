"""The machine that is measured: its name, how many cores every library may use, and who else uses them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

__all__ = ["elsewhere", "name", "restrict"]


def name(device: str) -> str:
    """The model of the processor or of the graphics card."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def elsewhere() -> float:
    """Seconds of processor time that were spent so far outside this process; zero where that is not known."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]  # of all cores, in ticks
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *interrupts = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields)
    return user + nice + system + sum(interrupts) - sum(os.times()[:4])


def restrict(threads: int | None) -> int:
    """Let this process use that many cores, all it has if not given; returns their number.

    The process is bound to them, as JAX has no setting of its own; so this comes before JAX is imported.

    Raises:
        ValueError: If there are not that many.
    """
    bound = hasattr(os, "sched_setaffinity")
    cores = sorted(os.sched_getaffinity(0)) if bound else list(range(os.cpu_count() or 1))
    threads = len(cores) if threads is None else threads
    if not 1 <= threads <= len(cores):
        raise ValueError(f"--threads {threads} is not between 1 and {len(cores)}, the cores of this process.")
    if bound:
        os.sched_setaffinity(0, cores[:threads])
    torch.set_num_threads(threads)
    return threads
