"""Checkpoints: the weights and the optimiser's state as safetensors, which hold numbers and cannot run code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softhot import __version__
from softhot.lab.config import Config
from softhot.lab.files import replace
from softhot.lab.training import Run

__all__ = ["restore", "save"]


def save(run: Run, path: Path) -> None:
    """Write the state of a run."""
    from safetensors.torch import save_file

    tensors = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    for index, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    about = {"softhot": __version__, "config": json.dumps(run.config.to_json()), "epoch": str(run.epoch)}
    replace(path, lambda beside: save_file(tensors, beside, metadata=about))


def restore(run: Run, path: Path) -> None:
    """Bring a fresh run to the state of a checkpoint.

    Raises:
        ValueError: If the file is missing or broken, or its run was another one. A longer run of the same settings may
            go on from a shorter one, if its temperature is constant.
    """
    tensors, about = _read(path)
    theirs, ours = Config.from_json(json.loads(about["config"])), run.config
    if theirs.final_temperature is None:
        theirs = dataclasses.replace(theirs, epochs=ours.epochs)
    different = [
        f"{name}={value!r} here, {getattr(theirs, name)!r} there"
        for name, value in dataclasses.asdict(ours).items()
        if value != getattr(theirs, name)
    ]
    if different:
        raise ValueError(f"{str(path)!r} is the checkpoint of another run ({'; '.join(different)}).")
    model = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    try:
        run.model.load_state_dict(model)
        run.optimiser.load_state_dict({**run.optimiser.state_dict(), "state": state})
    except (RuntimeError, ValueError, KeyError) as error:
        summary = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{str(path)!r} holds the weights of another model ({summary}).") from None
    run.epoch = int(about["epoch"])
    if run.epoch > ours.epochs:
        raise ValueError(f"{str(path)!r} has {run.epoch} epochs already; use --epochs {run.epoch} or more.")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ValueError(f"cannot read the checkpoint {str(path)!r}: {error.strerror or error}.") from error
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a checkpoint, or is damaged ({error}).") from None
    if not {"softhot", "config", "epoch"} <= about.keys():
        raise ValueError(f"{str(path)!r} is not a checkpoint of softhot: it does not say what run it belongs to.")
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise ValueError(f"{str(path)!r} holds numbers that are not finite: the run had diverged.")
    return tensors, about
