r"""One run on several devices, a process for each, with its slopes gathered after every step.

The n processes draw the same batch from the one order of the images. Each takes its share, with noise of its own,
and adds up the slopes of :math:`\frac1B \sum_{i \in \text{share}} \text{objective}(x_i)` for a batch of B; one sum over
the processes then gives all of them the slope of the whole batch, so that they take equal steps. A batch, and with it
the learning rate, means what it means for one process. A share may be cut further, into parts that are computed one
after the other, where it is too large for the memory.

The slopes are added up here rather than by ``DistributedDataParallel``, which does so while ``backward`` passes through
a module whose ``forward`` was called once. An estimator evaluates the decoder several times, differentiates it by
``torch.autograd.grad`` on the way, and teaches its control by a loss of its own. After the pass it is one sum for all
of that, exact and in one message; it is not hidden behind the computation, which a very large network would notice.

Lightning Fabric starts the processes, chooses their devices and carries the message: by NCCL between GPUs and by gloo
between processes on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from softhot.lab.training.loop import Run
from softhot.names import unknown

__all__ = ["ACCELERATORS", "Devices", "Process"]

ACCELERATORS = ("cpu", "gpu", "auto")

T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """One of the processes of a run.

    Arguments:
        fabric: Lightning's, launched.
        accumulate: how many parts its share of a batch is computed in.
    """

    fabric: Any
    accumulate: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and prints."""
        return bool(self.fabric.is_global_zero)

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.fabric.barrier()

    def take(self, run: Run) -> None:
        """Move a run to the device of this process; its steps are then those of all processes.

        Raises:
            ValueError: If the run ends by the clock, which is not the same in all processes.
        """
        if run.config.budget_seconds is not None:
            raise ValueError(
                f"budget_seconds={run.config.budget_seconds:g} ends a run by the clock, and several "
                "processes would not stop at one step; use epochs=20, for example."
            )
        run.place(self.fabric.device)
        run.climb = self.climb

    def follow(self, run: Run) -> None:
        """Take the steps of a run along with the process that leads, and keep nothing."""
        for _ in run.epochs():
            pass

    def climb(self, run: Run, x: Tensor) -> Tensor:
        """The slopes of a batch in ``.grad``, of the control too, and its objective, with all processes together.

        What the control keeps in buffers, a mean of costs, becomes the mean over the parts of what each makes of it.
        """
        rank, count = self.fabric.global_rank, self.fabric.world_size
        noise = run.noise(rank) if count > 1 else run.noise()
        weights = [weight for group in run.optimiser.param_groups for weight in group["params"]]
        learned = [weight for weight in run.learner.control.parameters() if weight.requires_grad]
        buffers = list(run.learner.control.buffers())
        before = [buffer.clone() for buffer in buffers]
        total, slopes, kept = torch.zeros_like(run.total), _zeros(learned), _zeros(buffers)
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        for part in x.tensor_split(count)[rank].to(run.device).tensor_split(self.accumulate):
            if not len(part):
                continue
            for buffer, old in zip(buffers, before, strict=True):
                buffer.copy_(old)
            total += run.add_slopes(part, noise, len(x))
            found = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in learned]
            for mean, value in zip(slopes + kept, found + buffers, strict=True):
                mean.add_(value, alpha=len(part) / len(x))
            for weight in learned:
                weight.grad = None
        gathered = [total, *slopes, *kept, *(weight.grad for weight in weights)]
        vector_to_parameters(self.fabric.all_reduce(parameters_to_vector(gathered), reduce_op="sum"), gathered)
        for weight, slope in zip(learned, slopes, strict=True):
            weight.grad = slope
        for buffer, mean in zip(buffers, kept, strict=True):
            buffer.copy_(mean)
        return total


@dataclass(frozen=True)
class Devices:
    """What a run is computed on.

    Arguments:
        count: processes, each with a device of its own, on this machine.
        accelerator: the kind of device: "cpu", "gpu", or "auto" for a GPU where there is one.
        accumulate: how many parts a process computes its share of a batch in.

    Raises:
        ValueError: If a number is below 1 or the accelerator is unknown.

    Example:
        >>> Devices(2).accelerator
        'cpu'
    """

    count: int = 1
    accelerator: str = "cpu"
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name, value in (("devices", self.count), ("accumulate", self.accumulate)):
            if value < 1:
                raise ValueError(f"{name}={value} computes nothing; use {name}=1 or more.")
        if self.accelerator not in ACCELERATORS:
            raise unknown("accelerator", self.accelerator, ACCELERATORS)

    def launch(self, work: Callable[[Process], T]) -> T:
        """Call a function in every process, and return what it gave in the one that leads.

        Arguments:
            work: given the process; where there are several, what pickle can hand to them.

        Raises:
            ValueError: If Lightning Fabric or the devices are not there, or the function raised one.
        """
        try:
            from lightning_fabric import Fabric
            from lightning_fabric.utilities.exceptions import MisconfigurationException
        except ModuleNotFoundError as error:
            raise ValueError(
                f"several devices need Lightning Fabric: pip install 'softhot[devices]' (no module {error.name!r})."
            ) from None
        try:
            fabric = Fabric(
                accelerator=self.accelerator,
                devices=self.count,
                strategy="ddp_spawn" if self.count > 1 else "auto",
            )
        except (MisconfigurationException, RuntimeError) as error:
            raise ValueError(
                f"there are no {self.count} devices of kind {self.accelerator!r} here ({error}); "
                "use fewer, or accelerator='cpu'."
            ) from None
        try:
            result: T = fabric.launch(partial(_enter, self.accumulate, work))
        except ProcessRaisedException as error:
            kind, _, reason = str(error).rstrip().rpartition("\n")[-1].partition(": ")
            if kind != "ValueError":
                raise
            raise ValueError(reason) from None
        return result


def _enter(accumulate: int, work: Callable[[Process], T], fabric: Any) -> T:
    return work(Process(fabric, accumulate))


def _zeros(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(tensor) for tensor in tensors]
