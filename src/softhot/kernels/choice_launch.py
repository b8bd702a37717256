"""Calls of the compiled kernels of discrete choices, on each device, or of the reference where there are none.

See the operators in `choice` for what they compute.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from softhot.kernels import choice_reference
from softhot.kernels.choice_reference import grouped
from softhot.kernels.choice_tables import STRIDE, Form, Tables, tables
from softhot.kernels.noise import Noise
from softhot.kernels.parallel import integers, run
from softhot.kernels.routes import compiled, route
from softhot.kernels.temper import by_row

__all__ = ["curve", "expected_backward", "gpu_curve", "gpu_survey", "in_all", "numbers", "survey"]

_TABLES = 32  # built at once: bounds the working memory where every row has its own scale


def numbers(moving: bool) -> int:
    """How many numbers a row has: half of them are for the derivative in the scale."""
    return STRIDE if moving else STRIDE // 2


# ---- on the CPU ----------------------------------------------------------------------------------------------------


def survey(
    locations: Tensor, other: Tensor | None, scale: float | Tensor, noise: Noise, probable: bool, moving: bool
) -> tuple[Tensor, Tensor, bool]:
    """The numbers of each row, the choice probabilities if wanted, and whether all classes of all rows are possible."""
    cpu = compiled("choice_cpu")
    if cpu is None or not locations.numel():
        rows, chances = choice_reference.survey(locations, other, scale, noise, probable, moving)
        return rows, chances, bool((rows[3] == locations.shape[-1]).all())
    rows = torch.empty((numbers(moving), *locations.shape[:-1]), dtype=torch.float64)
    chances = torch.empty_like(locations, memory_format=torch.contiguous_format) if probable else locations.new_empty(0)
    lacking = ctypes.c_int64()  # the kernel sets it where a class is impossible
    for part, table in _parts(locations, scale, noise, moving, "splines"):
        m, results = _rows(locations, part), rows if part is None else rows.view(len(rows), -1)[:, part]
        run(
            cpu.expected_body(m.dtype),
            m.shape,
            *_shared(table),
            table.drift if moving else None,
            *(m, None if other is None else _rows(other, part), table.scales),
            *(_rows(chances, part) if probable else None, results, results.stride(0)),
            ctypes.addressof(lacking),
        )
    return rows, chances, not lacking.value


def expected_backward(
    chances: Tensor,
    by_value: Tensor | None,
    by_contrast: Tensor | None,
    rate: float | Tensor,
    counts: Tensor | None,
    impossible: Tensor | None,
) -> Tensor:
    """What a class has of a rate times the derivatives in the maximum and the contrast of its row.

    Of the first it is its chance, of the second the number of classes times that less one. Where some are impossible,
    with -inf among locations that are given, there is none in these, and the numbers are given.
    """
    given = [by for by in (by_value, by_contrast) if by is not None]
    cpu = compiled("choice_cpu") if route(chances, *given) == "direct" else None
    if cpu is None or not chances.numel():
        both = in_all(by_value, by_contrast, rate, chances.shape[-1] if counts is None else counts)
        value, less = (x.to(chances.dtype)[..., None] for x in both)
        gradient = chances * value - less
        return gradient if impossible is None else gradient.masked_fill_(impossible == -math.inf, 0.0)
    out = torch.empty_like(chances)
    number, each = by_row(rate, chances)
    rows = [None if by is None else by.to(chances.dtype).contiguous() for by in (by_value, by_contrast)]
    locations = None if impossible is None else impossible.contiguous()
    body = cpu.expected_backward_body(chances.dtype)
    run(body, chances.shape, number, each, *rows, counts, chances, locations, out)
    return out


def in_all(
    by_value: Tensor | None, by_contrast: Tensor | None, rate: float | Tensor, count: int | Tensor
) -> tuple[Tensor, Tensor]:
    """A rate times the derivatives in the maximum, with what of the contrast is a count times it, and in the contrast.

    One of the two that are given may be missing.
    """
    if by_contrast is None:
        by_all: Tensor = rate * by_value  # type: ignore[assignment, operator]  # not both are missing
        return by_all, torch.zeros_like(by_all)
    above = rate * by_contrast
    return count * above if by_value is None else rate * by_value + count * above, above


def curve(
    locations: Tensor, scale: float | Tensor, noise: Noise, gradient: Tensor, moving: bool
) -> tuple[Tensor, Tensor]:
    """The derivative of the probabilities along a gradient."""
    cpu = compiled("choice_cpu")
    if cpu is None or not locations.numel():
        return choice_reference.curve(locations, scale, noise, gradient, moving)
    out = torch.empty_like(locations, memory_format=torch.contiguous_format)
    in_scale = torch.empty(locations.shape[:-1] if moving else (0,), dtype=torch.float64)
    for part, table in _parts(locations, scale, noise, form="splines"):
        m = _rows(locations, part)
        run(
            cpu.probabilities_backward_body(m.dtype),
            m.shape,
            *_shared(table),
            table.drift if moving else None,
            *(m, _rows(gradient, part), _rows(out, part), in_scale.view(-1)[part or slice(None)] if moving else None),
        )
    return out, in_scale


_SHARED: WeakKeyDictionary[Tables, list[int]] = WeakKeyDictionary()


def _shared(table: Tables) -> list[int]:
    """The arguments that both kernels begin with; kept as long as the tables are."""
    if table not in _SHARED:
        item, entries = table.exponent.element_size(), table.exponent[0].numel()
        sizes = (item, table.step, table.start, table.shift, table.length, entries, table.nodes, table.limit)
        rows = (table.rates, table.decay, table.rest, table.windows, table.exponent, table.hazard, table.across)
        _SHARED[table] = integers(*sizes, table.room, len(table.scales), *rows)
    return _SHARED[table]


# ---- on the GPU ----------------------------------------------------------------------------------------------------


def gpu_survey(
    locations: Tensor, other: Tensor | None, scale: Tensor, noise: Noise, probable: bool, moving: bool
) -> tuple[Tensor, Tensor]:
    """The first two of `survey`."""
    gpu = _gpu()
    if gpu is None:
        return choice_reference.survey(locations, other, scale, noise, probable, moving)
    found = []
    for part, table in _parts(locations, scale, noise, moving):
        m, o = _rows(_flat(locations), part), None if other is None else _rows(_flat(other), part)
        results, chances = gpu.survey(m, o, table.scales, table, probable, moving)
        _finish(results, table.scales.to(results.device))
        found.append((results, chances))
    results, chances = (torch.cat(parts) for parts in zip(*found, strict=True))
    rows = results.mT[: numbers(moving)].reshape(-1, *locations.shape[:-1])
    return rows, chances.view(locations.shape) if probable else chances


def gpu_curve(locations: Tensor, scale: Tensor, noise: Noise, gradient: Tensor, moving: bool) -> tuple[Tensor, Tensor]:
    """As `curve`."""
    gpu = _gpu()
    if gpu is None or moving:  # the kernel has no derivative in the scale
        return choice_reference.curve(locations, scale, noise, gradient, moving)
    parts = _parts(locations, scale, noise)
    m, g = _flat(locations), _flat(gradient)
    found = [gpu.curve(_rows(m, part), table.scales, table, _rows(g, part)) for part, table in parts]
    return torch.cat(found).view(locations.shape), locations.new_empty(0, dtype=torch.float64)


def _gpu() -> Any:
    """The kernels for GPUs, if Triton is there and works."""
    gpu = compiled("choice_triton")
    return gpu if gpu is not None and gpu.works() else None


def _finish(results: Tensor, scales: Tensor) -> None:
    """From the expected maximum beyond the largest location, in units of the wider noise, the maximum and contrast."""
    results[:, 0] *= scales.clamp_min(1.0).repeat_interleave(len(results) // len(scales))
    results[:, 0] += results[:, 1]
    results[:, 1] = results[:, 3] * results[:, 0] - results[:, 2]


# ---- on both -------------------------------------------------------------------------------------------------------


def _flat(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.shape[-1])


def _rows(x: Tensor, part: slice | None) -> Tensor:
    """Some rows, or all of them; contiguous."""
    return x.contiguous() if part is None else x.contiguous().view(-1, x.shape[-1])[part]


def _parts(
    locations: Tensor, scale: float | Tensor, noise: Noise, moving: bool = False, form: Form = "slices"
) -> Iterator[tuple[slice | None, Tables]]:
    """Rows that share few scales, with their tables; None for all rows."""
    if not isinstance(scale, Tensor) or scale.numel() == 1:
        yield None, tables(noise, scale, locations.shape[-1], locations.dtype, moving, form)
        return
    _, flat, (scales, each) = grouped(scale.detach(), locations.shape[:-1], torch.device("cpu"))
    for first in range(0, scales, _TABLES):
        some = flat[first : first + _TABLES].contiguous()  # type: ignore[index]  # a tensor, as the scale is
        part = slice(first * each, (first + len(some)) * each)
        yield part, tables(noise, some, locations.shape[-1], locations.dtype, moving, form)
