"""Accuracy against time: the exact KL and entropy of one variable, and Monte Carlo with 1 to 10,000,000 draws.

The problem: ten classes with logits 0, -1/2, ..., -9/2 at temperature 1/2, and a uniform prior at temperature 1. All
errors are against benchmarks.quadrature, an evaluation in extended precision that shares no code with softhot.
Run: python -m benchmarks.accuracy
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor
from torch.distributions import RelaxedOneHotCategorical

from benchmarks import quadrature
from benchmarks.agreement import FALSE_ALARM
from benchmarks.pictures import errors, save_picture
from benchmarks.settings import RESULTS, Device, Out, Picture, Quick, Settings, Threads, console, launch
from benchmarks.timing import Call, Row, measure, plain, quartiles, shorten
from softhot.functional import relaxed_entropy, relaxed_kl
from softhot.lab.files import write_csv
from softhot.testing import assert_mean

LOGITS = [-k / 2 for k in range(10)]
PRIOR_LOGITS = [0.0] * 10
TEMPERATURE, PRIOR = 0.5, 1.0
CHUNK = 1_000_000  # draws at once


Way = tuple[str, int, Callable[[], float]]  # its name, how many draws (none if exact), and what to run


@dataclass(frozen=True)
class Quantity:
    """A number to be found: by quadrature, by softhot in a dtype, and its value at each of some draws."""

    name: str
    truth: Callable[[], float]
    exact: Callable[[Tensor, Tensor], Tensor]
    draw: Callable[[Tensor, Tensor, int], Tensor]


def kl_draws(logits: Tensor, prior: Tensor, count: int) -> Tensor:
    """log q(z) - log p(z) of draws from q."""
    q, p = _relaxed(TEMPERATURE, logits), _relaxed(PRIOR, prior)
    z = q.sample((count,))
    values: Tensor = q.log_prob(z) - p.log_prob(z)
    return values


def entropy_draws(logits: Tensor, prior: Tensor, count: int) -> Tensor:
    """-log q(z) of draws from q."""
    q = _relaxed(TEMPERATURE, logits)
    values: Tensor = -q.log_prob(q.sample((count,)))
    return values


QUANTITIES = (
    Quantity(
        "KL",
        lambda: quadrature.kl(LOGITS, TEMPERATURE, PRIOR_LOGITS, PRIOR),
        lambda logits, prior: relaxed_kl(logits, TEMPERATURE, prior, PRIOR),
        kl_draws,
    ),
    Quantity(
        "entropy",
        lambda: quadrature.entropy(LOGITS, TEMPERATURE),
        lambda logits, prior: relaxed_entropy(logits, TEMPERATURE),
        entropy_draws,
    ),
)


def main(
    quick: Quick = False,
    threads: Threads = None,
    device: Device = "cpu",
    out: Out = RESULTS,
    picture: Picture = "svg",
) -> None:
    """Hold the error of exact values and of Monte Carlo estimates against what they cost."""
    settings = Settings.of(quick, threads, device, out, picture)
    torch.manual_seed(0)
    terminal = console()
    terminal.print(f"{settings.machine}, {settings.device}, {settings.threads} threads, torch {torch.__version__}")
    rows = [row for quantity in QUANTITIES for row in _rows(quantity, settings)]
    terminal.print(
        f"means of {settings.draws:,} draws agree with quadrature (false-alarm rate of each {FALSE_ALARM:g})"
    )
    terminal.print(_table(rows))
    write_csv(settings.file("accuracy", "csv"), plain(rows))
    terminal.print(save_picture(errors(rows), settings.file("accuracy", settings.picture)))


def check(quantity: Quantity, truth: float, draws: Tensor) -> None:
    """Assert that both dtypes of the exact value and the mean of draws agree with the truth.

    Raises:
        AssertionError: If one does not: an exact value to within 64 roundings, a mean by its false-alarm rate.
    """
    for dtype in (torch.float32, torch.float64):
        tolerance = 64 * torch.finfo(dtype).eps
        value = quantity.exact(*_problem(dtype, "cpu"))
        torch.testing.assert_close(value, torch.tensor(truth, dtype=dtype), rtol=tolerance, atol=0.0)
    assert_mean(draws, torch.tensor(truth, dtype=torch.float64), FALSE_ALARM)


def _rows(quantity: Quantity, settings: Settings) -> list[Row]:
    truth = quantity.truth()
    single, double = (_problem(dtype, settings.device) for dtype in (torch.float32, torch.float64))
    draws = quantity.draw(*single, settings.draws).cpu()
    check(quantity, truth, draws)
    exact = {"softhot, float32": single, "softhot, float64": double}
    ways: list[Way] = [(name, 0, partial(_exact, quantity, given)) for name, given in exact.items()]
    powers = range(5 if settings.quick else 8)
    ways += [("Monte Carlo", 10**power, partial(_estimate, quantity, single, 10**power)) for power in powers]
    pace = replace(settings.pace, fewest=1)
    rows = []
    for name, count, run in ways:
        values: list[float] = []
        call = Call(partial(_keep, values, run), lambda _: None)
        seconds = measure({name: call}, pace)[name]
        low, middle, high = quartiles(seconds)
        row: Row = {"quantity": quantity.name, "contender": name, "draws": count, "estimate": f"{values[-1]:.17g}"}
        row |= {"error": abs(values[-1] - truth), "standard_error": draws.std().item() / count**0.5 if count else ""}
        row |= {"seconds": middle, "lower_quartile": low, "upper_quartile": high, "rounds": len(seconds)}
        row |= {"machine": settings.machine, "device": settings.device, "threads": settings.threads}
        rows.append(row | {"version": f"softhot {version('softhot')}, torch {torch.__version__}"})
    return rows


def _exact(quantity: Quantity, given: tuple[Tensor, Tensor]) -> float:
    return quantity.exact(*given).item()


def _estimate(quantity: Quantity, given: tuple[Tensor, Tensor], draws: int) -> float:
    parts = [quantity.draw(*given, min(CHUNK, draws - start)) for start in range(0, draws, CHUNK)]
    return sum(part.sum(dtype=torch.float64).item() for part in parts) / draws


def _keep(values: list[float], run: Callable[[], float]) -> None:
    values.append(run())


def _problem(dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    return torch.tensor(LOGITS, dtype=dtype, device=device), torch.tensor(PRIOR_LOGITS, dtype=dtype, device=device)


def _relaxed(temperature: float, logits: Tensor) -> RelaxedOneHotCategorical:
    return RelaxedOneHotCategorical(logits.new_tensor(temperature), logits=logits, validate_args=False)


def _table(rows: list[Row]) -> Table:
    drawn = Table(title="Error against time", title_justify="left", box=SIMPLE_HEAD)
    for column in ("quantity", "way"):
        drawn.add_column(column)
    for column in ("draws", "estimate", "error", "standard error", "milliseconds", "quartiles"):
        drawn.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        spread = f"{shorten(1e3 * row['lower_quartile'])} to {shorten(1e3 * row['upper_quartile'])}"
        draws, expected = (f"{row['draws']:,}", f"{row['standard_error']:.2g}") if row["draws"] else ("", "")
        numbers = draws, f"{float(row['estimate']):.9g}", f"{row['error']:.2g}", expected, shorten(1e3 * row["seconds"])
        drawn.add_row(row["quantity"], row["contender"], *numbers, spread)
    return drawn


if __name__ == "__main__":
    launch(main)
