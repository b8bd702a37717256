"""What carries out the runs of a study: a process for each run at a time, each with its share of the cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from softhot.lab.plan import Plan
from softhot.lab.study import carry_out, finished, open_study
from softhot.problems.data import load

__all__ = ["execute"]


def execute(study: Plan, folder: Path, *, command: str, workers: int | None = None) -> Iterator[dict[str, Any]]:
    """Run what is not yet done, and yield every record, the old ones first.

    Each run has one process and its share of the cores. A run that fails yields {"failed": arm, "reason": ...}.

    Raises:
        ValueError: If the folder cannot be written, or a worker was killed from outside.
    """
    load(study.runs[0].data)  # a bad data set is an error now, not in every worker
    open_study(study, folder, command=command)
    waiting = []
    for config in study.runs:
        record = finished(folder, config, scored=study.scored)
        if record is None:
            waiting.append(config)
        else:
            yield record
    cores = os.cpu_count() or 1
    workers = min(workers or cores, max(len(waiting), 1))
    if not waiting:
        return
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_worker,
        initargs=(max(1, cores // workers),),
    )
    try:
        futures = {pool.submit(carry_out, folder, config, scored=study.scored): config for config in waiting}
        for future in as_completed(futures):
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                raise ValueError("a worker process was killed; run the same command again to go on.") from error
            yield future.result() if error is None else {"failed": futures[future].arm, "reason": str(error)}
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _prepare_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the parent was killed, and nobody would end this worker
