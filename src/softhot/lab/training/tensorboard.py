"""The curves of a run and its pictures for TensorBoard, in an event file in the folder of the run.

``tensorboard --logdir`` shows a run by its folder, or several by the folder that holds theirs. What is drawn are the
columns of ``metrics.csv`` by epoch, so a run that goes on shows the epochs before as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softhot.lab.training.images import PICTURES
from softhot.lab.training.loop import Epoch

__all__ = ["Events"]


class Events:
    """The events of a run.

    Arguments:
        folder: of the run; nothing is written there before :meth:`start`.

    Raises:
        ValueError: If the writer is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise ValueError(
                f"TensorBoard's event files need tensorboardX: pip install 'softhot[tensorboard]' "
                f"(no module {error.name!r})."
            ) from None
        self.folder = folder
        self._kind = SummaryWriter
        self._epochs = 0

    def start(self, rows: Sequence[dict[str, Any]]) -> None:
        """Open the file, and write the epochs done; they replace what an earlier file in the folder has."""
        self._writer = self._kind(str(self.folder), purge_step=1)
        for row in rows:
            self._add(row)

    def add(self, epoch: Epoch) -> None:
        """Write an epoch, to be seen at once."""
        self._add(dataclasses.asdict(epoch))
        self._writer.flush()

    def finish(self) -> None:
        """Write the pictures in the folder, and close the file."""
        import numpy as np
        from PIL import Image

        for name in PICTURES:
            with Image.open(self.folder / f"{name}.png") as picture:
                self._writer.add_image(name, np.asarray(picture), self._epochs, dataformats="HW")
        self._writer.close()

    def _add(self, row: dict[str, Any]) -> None:
        self._epochs = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, float(value), self._epochs)
