"""A run of a study that is not finished yet: a checkpoint and the learning curve so far, in the study's folder.

A run whose worker is lost goes on from here with the numbers of one that was never disturbed. What was begun by other
code is begun anew, as is what cannot be read: a checkpoint saves time, and nothing else depends on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softhot.lab.files import make_folder, read_json, write_json
from softhot.lab.provenance import Code
from softhot.lab.training import checkpoint
from softhot.lab.training.loop import Epoch, Run

__all__ = ["Unfinished"]


@dataclass(frozen=True)
class Unfinished:
    """Where an unfinished run is kept.

    Arguments:
        folder: of the study.
        id: of the run.
    """

    folder: Path
    id: str

    @property
    def checkpoint(self) -> Path:
        """The state of the run."""
        return self.folder / "unfinished" / f"{self.id}.safetensors"

    @property
    def curve(self) -> Path:
        """Its epochs, at least those before the checkpoint."""
        return self.checkpoint.with_suffix(".json")

    def save(self, run: Run, epochs: Sequence[Epoch]) -> None:
        """Write the state of a run and its epochs so far.

        Raises:
            Unwritable: If they cannot be written.
        """
        make_folder(self.checkpoint.parent)
        rows = [dataclasses.asdict(epoch) for epoch in epochs]
        write_json(self.curve, {"code": Code.here().to_json(), "epochs": rows})
        checkpoint.save(run, self.checkpoint)

    def restore(self, run: Run) -> list[Epoch]:
        """Bring a fresh run to where it was, and give its epochs so far; none if nothing was kept.

        Raises:
            ValueError: If what was kept is broken, or of other code; the run is of no use then.
        """
        if not self.checkpoint.exists():
            return []
        kept = read_json(self.curve)
        try:
            code, rows = kept["code"], [Epoch(**row) for row in kept["epochs"]]
        except (KeyError, TypeError):
            raise ValueError(f"{str(self.curve)!r} does not hold the epochs of a run.") from None
        if code != Code.here().to_json():
            raise ValueError(f"{str(self.checkpoint)!r} was made by other code.")
        checkpoint.restore(run, self.checkpoint)
        epochs = rows[: run.epoch]
        if len(epochs) < run.epoch:
            raise ValueError(f"{str(self.curve)!r} has fewer epochs than the checkpoint beside it.")
        return epochs

    def remove(self) -> None:
        """Remove what was kept."""
        for path in (self.checkpoint, self.curve):
            path.unlink(missing_ok=True)
