"""One training run in a folder of its own, which it can be continued from.

The folder holds ``config.json``, ``metrics.csv`` (a line for each epoch), ``checkpoint.safetensors``, on request
``checkpoints/<epoch>.safetensors``, and at the end ``scores.json``, ``reconstructions.png`` and ``samples.png``.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softhot.lab.config import Config
from softhot.lab.files import make_folder, read_json, write_csv, write_json
from softhot.lab.training import checkpoint
from softhot.lab.training.devices import Process
from softhot.lab.training.images import pictures, save_grid
from softhot.lab.training.loop import Epoch, Run, Scores, evaluate
from softhot.problems.data import load, prepare
from softhot.problems.data.binarise import described

__all__ = ["KEPT", "MINUTES", "Session", "stages"]

KEPT = "checkpoints"  # the folder of those that are kept for good
MINUTES = 5.0  # between checkpoints


@dataclass(frozen=True)
class Session:
    """A run and the folder that it is kept in, ready to go on.

    Arguments:
        folder: where to write.
        run: the model in training.
        rows: the epochs done, as rows of the table.
        shape: (height, width) of the images.
        data: what the images are, in words.
    """

    folder: Path
    run: Run
    rows: list[dict[str, Any]]
    shape: tuple[int, int]
    data: str

    @classmethod
    def start(cls, config: Config, folder: Path, *, resume: bool = False, process: Process | None = None) -> Session:
        """A new run, or one that goes on with the numbers that an uninterrupted one has.

        Arguments:
            config: the run.
            folder: where to write.
            resume: go on with the run in the folder.
            process: which of several computes the run here; only the one that leads writes.

        Raises:
            ValueError: If the folder holds a run, or with `resume` none or another one; or the data cannot be read.
        """
        kept = (folder / "config.json").exists()
        if resume and not kept:
            raise ValueError(f"{str(folder)!r} holds no run to resume; leave out --resume to start one.")
        if kept and not resume:
            raise ValueError(f"{str(folder)!r} already holds a run; use --resume to go on, or another --out.")
        data = load(config.data)
        session = cls(
            folder, Run(config, prepare(data, config.binarise)), [], data.shape, described(data, config.binarise)
        )
        if process is not None:
            process.take(session.run)
        if resume and not session.checkpoint.exists() and read_json(folder / "config.json") != config.to_json():
            raise ValueError(f"{str(folder)!r} holds another run, without a checkpoint; use another --out.")
        if resume and session.checkpoint.exists():
            checkpoint.restore(session.run, session.checkpoint)
            if session.run.epoch:
                session.rows.extend(_rows(folder / "metrics.csv", session.run.epoch))
        if process is not None:
            process.wait()  # until all have looked at the folder
        if process is None or process.leads:
            make_folder(folder)
            write_json(folder / "config.json", config.to_json())
        return session

    @property
    def checkpoint(self) -> Path:
        """The file of the weights."""
        return self.folder / "checkpoint.safetensors"

    def train(
        self,
        watch: Callable[[Epoch], None] = lambda epoch: None,
        *,
        pause: Callable[[], None] = lambda: None,
        keep_every: int | None = None,
        checkpoint_every: float = MINUTES,
    ) -> Scores:
        """Train what is left, write what comes of it, and return the scores on the test images.

        Arguments:
            watch: called after each epoch.
            pause: called between the steps of an epoch.
            keep_every: epochs between checkpoints that are kept for good; none if not given.
            checkpoint_every: minutes between checkpoints within an epoch; there is one at the end of each as well.

        Raises:
            ValueError: If the run diverges.
        """
        save = checkpoint.saver(self.run, self.checkpoint, minutes=checkpoint_every)

        def between() -> None:
            save()
            pause()

        for epoch in self.run.epochs(between):
            if not math.isfinite(epoch.objective):
                raise ValueError(f"the run diverged in epoch {epoch.epoch}; use a smaller --learning-rate.")
            self.rows.append(dataclasses.asdict(epoch))
            write_csv(self.folder / "metrics.csv", self.rows)
            checkpoint.save(self.run, self.checkpoint)
            if keep_every is not None and epoch.epoch % keep_every == 0:
                kept = make_folder(self.folder / KEPT) / f"{epoch.epoch:05}.safetensors"
                checkpoint.save(self.run, kept)
            watch(epoch)
        model, test = self.run.model, self.run.images.test
        scores = evaluate(self.run, test)
        model.cpu()  # pictures are drawn there
        write_json(self.folder / "scores.json", {**dataclasses.asdict(scores), "data": self.data})
        for name, images in pictures(model, test, rows=5).items():
            save_grid(self.folder / f"{name}.png", images, self.shape)
        return scores


def stages(folder: Path) -> Iterator[Run]:
    """The run of a folder, at its fresh weights and then taken to every checkpoint that was kept of it.

    Raises:
        ValueError: If the folder holds no run, no checkpoints were kept, or one is broken.
    """
    paths = sorted((folder / KEPT).glob("*.safetensors"))
    if not paths:
        raise ValueError(
            f"{str(folder)!r} holds no checkpoints along a run; use softhot train --keep-every 1 to keep them."
        )
    run = checkpoint.load(paths[-1])
    yield Run(run.config, run.images)
    for path in paths:
        checkpoint.restore(run, path)
        yield run


def _rows(path: Path, epochs: int) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[:epochs]
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror}.") from error
    if [row.get("epoch") for row in rows] != [str(epoch + 1) for epoch in range(epochs)]:
        raise ValueError(f"{str(path)!r} does not hold the {epochs} epochs of the checkpoint beside it.")
    return rows
