"""Checkpoints: the weights, what the estimator has learned, and the state of their optimisers.

They are safetensors, which hold numbers and cannot run code.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softhot import __version__
from softhot.lab.config import Config
from softhot.lab.files import replace
from softhot.lab.training.loop import Run
from softhot.problems.data import load as load_images
from softhot.problems.data import prepare

__all__ = ["load", "restore", "save", "saver"]


def save(run: Run, path: Path) -> None:
    """Write the state of a run."""
    from safetensors.torch import save as serialised

    tensors: dict[str, Tensor] = {}
    for prefix, module in _modules(run).items():
        tensors |= {f"{prefix}.{name}": value.contiguous() for name, value in module.state_dict().items()}
    for prefix, optimiser in _optimisers(run).items():
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"{prefix}.{index}.{name}": value.contiguous() for name, value in state.items()}
    tensors["total"] = run.total
    about = {
        "softhot": __version__,
        "config": json.dumps(run.config.to_json()),
        "step": str(run.step),
        "seconds": str(run.seconds),
        "elapsed": str(run.elapsed),
        "scaler": json.dumps(run.scaler.state_dict()),
    }
    raw = serialised(tensors, about)

    def write(beside: Path) -> None:
        beside.write_bytes(raw)  # a full disk is an OSError here, and none in safetensors' own writing

    replace(path, write)


def saver(run: Run, path: Path, *, minutes: float) -> Callable[[], None]:
    """What a run calls in its pauses so that its state is saved once so many minutes have passed, again and again.

    Example:
        >>> from softhot.lab.config import Config
        >>> run = Run(Config(epochs=1), prepare(load_images("digits"), "threshold"))
        >>> last = list(run.epochs(pause=saver(run, Path("checkpoint.safetensors"), minutes=5)))
    """
    due = time.monotonic() + 60 * minutes

    def pause() -> None:
        nonlocal due
        if time.monotonic() >= due and math.isfinite(run.total.item()):  # a diverged run leaves the last one be
            save(run, path)
            due = time.monotonic() + 60 * minutes

    return pause


def load(path: Path) -> Run:
    """The run of a checkpoint, in its state.

    Raises:
        ValueError: If the file is missing or broken, or the data of the run cannot be read.
    """
    tensors, about = _read(path)
    config = _config(path, about)
    images = prepare(load_images(config.data), config.binarise)
    with torch.device("meta"):  # without memory, whatever the size
        weights = [weight for module in _modules(Run(config, images)).values() for weight in module.parameters()]
    if sum(weight.numel() for weight in weights) > sum(tensor.numel() for tensor in tensors.values()):
        raise ValueError(f"{str(path)!r} holds fewer numbers than the weights of the model that it says it is.")
    run = Run(config, images)
    restore(run, path)
    return run


def restore(run: Run, path: Path) -> None:
    """Bring a fresh run to the state of a checkpoint.

    Raises:
        ValueError: If the file is missing or broken, or its run was another one. A longer run of the same settings may
            go on from a shorter one, if its temperature is constant.
    """
    tensors, about = _read(path)
    theirs, ours = _config(path, about), run.config
    if theirs.final_temperature is None:
        theirs = dataclasses.replace(theirs, epochs=ours.epochs)
    different = [
        f"{name}={value!r} here, {getattr(theirs, name)!r} there"
        for name, value in dataclasses.asdict(ours).items()
        if value != getattr(theirs, name)
    ]
    if different:
        raise ValueError(f"{str(path)!r} is the checkpoint of another run ({'; '.join(different)}).")
    try:
        for prefix, module in _modules(run).items():
            module.load_state_dict(_within(tensors, prefix))
        for prefix, optimiser in _optimisers(run).items():
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in _within(tensors, prefix).items():
                index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        if run.scaler.is_enabled():
            run.scaler.load_state_dict(json.loads(about["scaler"]))
        total, run.step, run.seconds = tensors["total"], int(about["step"]), float(about["seconds"])
        run.elapsed = float(about["elapsed"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        summary = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise ValueError(f"{str(path)!r} holds the weights of another model ({summary}).") from None
    run.total = total.to(run.device)
    if run.step > run.steps:
        done = math.ceil(run.step / run.per_epoch)
        raise ValueError(f"{str(path)!r} has {done} epochs already; use --epochs {done} or more.")


def _config(path: Path, about: dict[str, Any]) -> Config:
    try:
        return Config.from_json(json.loads(about["config"]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} says of its run what cannot be ({error}).") from None


def _modules(run: Run) -> dict[str, nn.Module]:
    return {"model": run.model, "control": run.learner.control}


def _optimisers(run: Run) -> dict[str, torch.optim.Optimizer]:
    found = {"optimiser": run.optimiser, "control_optimiser": run.learner.optimiser}
    return {prefix: optimiser for prefix, optimiser in found.items() if optimiser is not None}


def _within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


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
    if not {"softhot", "config", "step", "seconds", "elapsed", "scaler"} <= about.keys():
        raise ValueError(f"{str(path)!r} is not a checkpoint of softhot: it does not say what run it belongs to.")
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise ValueError(f"{str(path)!r} holds numbers that are not finite: the run had diverged.")
    return tensors, about
