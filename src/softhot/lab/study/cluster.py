"""Where the runs of a study are carried out: Dask workers on this machine, or those of a scheduler that is there.

A worker is a process with one task at a time, as PyTorch shares its threads and its generator among all of a process.
On this machine there are as many workers as cores unless told otherwise, and PyTorch's threads in each are its share of
the cores, however few runs are left: the last digits of a sum depend on how many threads add it up. On a machine with
GPUs each worker sees one of them. Dask's limits of memory are off, since what a worker holds is PyTorch's, and pausing
or ending the worker would only lose the run; and so is its limit of what malloc keeps, with which the memory of every
large tensor is asked of the system anew.

This module imports Dask, and is itself imported late.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
import torch
from distributed import Client, Nanny, Scheduler, SpecCluster, Worker, WorkerPlugin
from distributed.utils import silence_logging_cmgr

__all__ = ["connect", "cores", "everywhere", "local_cluster"]

_QUIET = logging.CRITICAL + 1  # a study has words of its own
_KEEP = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def local_cluster(workers: int) -> Iterator[str]:
    """Workers on this machine, as long as they are wanted; gives the address of their scheduler."""
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "dashboard": False}
    common = {**here, "nthreads": 1, "memory_limit": 0, "silence_logs": _QUIET, "plugins": (_Deaf(),)}
    spec = {index: {"cls": Nanny, "options": {**common, "env": _device(index)}} for index in range(workers)}
    scheduler = {"cls": Scheduler, "options": {**here, "port": 0}}
    with dask.config.set(_KEEP), SpecCluster(workers=spec, scheduler=scheduler, silence_logs=_QUIET) as cluster:
        yield cluster.scheduler_address


@contextmanager
def connect(address: str, *, seconds: float) -> Iterator[Client]:
    """A connection to a scheduler, for which it is waited so long.

    Raises:
        ValueError: If there is none.
    """
    with silence_logging_cmgr(_QUIET):
        try:
            client = Client(address, timeout=seconds, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"no Dask scheduler at {address!r} ({reason}); start one: dask scheduler.") from error
        with client:
            yield client


@contextmanager
def everywhere(workers: int) -> Iterator[Callable[..., list[Any]]]:
    """A function that calls another one in so many workers on this machine at once; gives what it returns in each."""
    with local_cluster(workers) as address, connect(address, seconds=10.0) as client:
        client.wait_for_workers(workers)

        def call(function: Callable[..., Any], *given: Any) -> list[Any]:
            calls = [client.submit(function, *given, workers=[name], pure=False) for name in client.nthreads()]
            found: list[Any] = client.gather(calls)
            return found

        yield call


def _device(index: int) -> dict[str, str]:
    count = torch.cuda.device_count()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name] or range(count)
    return {"CUDA_VISIBLE_DEVICES": str(visible[index % count])} if count else {}


class _Deaf(WorkerPlugin):
    """Leaves Ctrl-C, which reaches all processes of a terminal, to the one that asked for the study."""

    def setup(self, worker: Worker) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
