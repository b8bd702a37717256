"""What carries out the runs of a study: Dask, on the cores of this machine or on a cluster of your own.

The runs are handed out in groups that train together. A worker that is lost is replaced by another one, which goes on
from the checkpoint of the run; a scheduler that is lost is waited for. Every record is in the folder before it is seen
here, so that a study that was stopped in whatever way goes on where it was, when it is carried out again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from softhot.lab.config import Config
from softhot.lab.files import Unwritable
from softhot.lab.provenance import Code
from softhot.lab.study.folder import check_code, finished, keep, open_study
from softhot.lab.study.plan import Plan
from softhot.lab.study.task import Progress, Task, Unfit, carry_out
from softhot.lab.study.together import together
from softhot.problems.data import load

__all__ = ["CHECKPOINT_SECONDS", "execute"]

CHECKPOINT_SECONDS = 60.0
_FIRST_SECONDS = 10.0  # to wait for a scheduler
_AGAIN_SECONDS = 600.0  # for one that was there

_Group = tuple[Config, ...]


def execute(
    study: Plan,
    folder: Path,
    *,
    command: str,
    workers: int | None = None,
    scheduler: str | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    mix_versions: bool = False,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Generator[dict[str, Any], None, None]:
    """Run what is not yet done, and yield every record, the old ones first.

    A run that fails yields {"failed": arm, "id": ..., "reason": ...}. Close the iterator to stop: the runs in training
    save their state.

    Arguments:
        study: the runs.
        folder: where to keep them.
        command: what to run again to go on, for the report.
        workers: processes on this machine; one for each core if not given.
        scheduler: the address of a Dask scheduler, whose workers are used instead.
        checkpoint_seconds: between the checkpoints of a run.
        mix_versions: whether records of other code, or workers that run other code, are accepted.
        watch: called about once a second for each run in training.

    Raises:
        ValueError: If the folder cannot be written, holds a broken record or a study that runs, or has records of other
            code; if there is no scheduler; or if a worker cannot take part.

    Example:
        >>> import tempfile
        >>> from softhot.lab.study.plan import Grid, plan
        >>> study = plan(Config(epochs=1), [Grid({"estimator": ["reinmax"], "term": ["categorical"]})], seeds=[0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for record in execute(study, Path(folder), command="mine", workers=1):
        ...         print(record["arm"], record["seed"], record["elbo"] < record["log_likelihood"])
        reinmax t=1 + categorical 0 True
    """
    from softhot.lab.study.cluster import cores, local_cluster

    load(study.runs[0].data)  # a bad data set is an error now, not in every worker
    code = Code.here()
    with open_study(study, folder, command=command) as key:
        done = {config: finished(folder, config, scored=study.scored) for config in study.runs}
        old = [record for record in done.values() if record is not None]
        waiting = [config for config, record in done.items() if record is None]
        if not mix_versions:
            check_code(folder, old, code if waiting else Code.of(old[0]))
        yield from old
        if waiting:
            workers = workers or cores()
            threads = max(1, cores() // workers) if scheduler is None else None
            task = Task(
                folder.absolute(), key, None if mix_versions else code, threads, checkpoint_seconds, study.scored
            )
            place = nullcontext(scheduler) if scheduler else local_cluster(min(workers, len(waiting)))
            with place as address:
                yield from _carry_out(_groups(study.runs, waiting), address, task, watch)


def _groups(runs: Sequence[Config], waiting: Sequence[Config]) -> list[_Group]:
    """What waits, in groups that train together: the same ones when a study goes on, with whatever workers."""
    left = set(waiting)
    return [rest for group in together(runs) if (rest := tuple(config for config in group if config in left))]


def _carry_out(
    waiting: Sequence[_Group], address: str, task: Task, watch: Callable[[Progress], None]
) -> Iterator[dict[str, Any]]:
    """Every record, across as many connections to the scheduler as it takes."""
    from softhot.lab.study.cluster import connect

    left = dict.fromkeys(waiting)
    seconds = _FIRST_SECONDS
    while left:
        try:
            with connect(address, seconds=seconds) as client:
                yield from _round(client, left, task, watch)
        except _Lost:
            seconds = _AGAIN_SECONDS


def _round(
    client: Any, left: dict[_Group, None], task: Task, watch: Callable[[Progress], None]
) -> Iterator[dict[str, Any]]:
    """The records of the groups that are left, as long as the scheduler is there; what is done leaves them.

    Raises:
        _Lost: If it is not.
    """
    from distributed import CancelledError
    from distributed.comm.core import CommClosedError

    inbox: SimpleQueue[Any] = SimpleQueue()
    client.subscribe_topic(task.key, lambda event: inbox.put(Progress(*event[1])))
    futures: dict[Any, _Group] = {}

    def submit(group: _Group) -> None:
        future = client.submit(carry_out, group, task, pure=False)
        futures[future] = group
        future.add_done_callback(inbox.put)

    for group in left:
        submit(group)
    while futures:
        arrived = inbox.get()
        if isinstance(arrived, Progress):
            watch(arrived)
            continue
        group = futures.pop(arrived)
        try:
            records = arrived.result()
        except (CancelledError, CommClosedError) as error:
            raise _Lost from error
        except (Unfit, Unwritable):
            raise
        except Exception as error:  # whatever the run raised
            del left[group]
            if len(group) == 1:
                yield {"failed": group[0].arm, "id": group[0].id, "reason": str(error)}
                continue
            for config in group:  # one of them; the others go on without it
                left[config,] = None
                submit((config,))
        else:
            del left[group]
            yield from _kept(group, records, task)


def _kept(group: _Group, records: list[dict[str, Any]], task: Task) -> list[dict[str, Any]]:
    for config, record in zip(group, records, strict=True):
        if finished(task.folder, config, scored=task.scored) is None:  # the worker does not see the folder
            keep(task.folder, config, record, scored=task.scored)
    return records


class _Lost(Exception):
    """The connection to the scheduler."""
