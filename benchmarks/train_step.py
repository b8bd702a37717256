"""Training steps of a categorical VAE: softhot's, plain torch's, Pyro's and NumPyro's, from one start.

The step is from zeroed gradients to Adam's update. Before anything is timed, every contender's loss and gradient at the
first weights are held against softhot's over many draws, and its first update against that of Adam. Then softhot's
parts are timed alone: what is left of the step is the way from one to the next.
Run: python -m benchmarks.train_step
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from benchmarks.calls import ending
from benchmarks.contest import undisturbed
from benchmarks.pictures import save_picture, steps
from benchmarks.settings import RESULTS, Device, Out, Picture, Quick, Settings, Threads, console, launch
from benchmarks.svi import numpyro, pyro
from benchmarks.timing import OURS, Call, Row, plain, quartiles, shorten
from benchmarks.trainers import GUMBEL, RATE, REINMAX, TEMPERATURE, Maker, Problem, compiled, fused, ours, reinmax
from benchmarks.trainers import plain as plain_torch
from softhot.estimators import GumbelSoftmax
from softhot.kernels.bernoulli import binary, log_likelihood
from softhot.kl import Categorical
from softhot.lab.config import OPTIMISERS
from softhot.lab.files import write_csv
from softhot.testing import assert_mean

__all__ = ["PARTS", "STEP", "main", "parts", "wrong"]

STEP, PARTS = "training step", "parts"
SHAPES = [(batch, latents, classes) for batch in (100, 1000) for latents, classes in ((8, 4), (30, 10), (200, 2))]
HIDDEN, PIXELS = (512, 256), 784
PEERS: tuple[Callable[[str], Maker], ...] = (plain_torch, fused, compiled, pyro, numpyro, reinmax)
FALSE_ALARM = 1e-6
UPDATED = 1e-3  # how far Adam's first step may be from the learning rate, of it


def main(
    quick: Quick = False,
    threads: Threads = None,
    device: Device = "cpu",
    out: Out = RESULTS,
    picture: Picture = "svg",
) -> None:
    """Time training steps."""
    settings, terminal = Settings.of(quick, threads, device, out, picture), console()
    terminal.print(f"{settings.machine}, {settings.device}, {settings.threads} threads")
    warnings.simplefilter("ignore")  # what packages say to their own use of torch and JAX
    torch.manual_seed(0)
    makers = [ours(device)]
    for peer in PEERS:
        try:
            makers += [] if quick and peer is compiled else [peer(device)]
        except (ImportError, RuntimeError) as error:
            terminal.print(f"{peer.__name__} is skipped: {str(error).splitlines()[0]}")
    for maker in makers[1:]:
        for estimator in maker.estimators:
            reason = wrong(maker, makers[0], estimator, settings)
            if reason is not None:
                raise AssertionError(f"{maker.name}, {estimator}: {reason}")
    terminal.print(f"losses, gradients and updates agree (false-alarm rate of each {FALSE_ALARM:g})")
    hidden, pixels = ((16,), 20) if quick else (HIDDEN, PIXELS)
    rows: list[Row] = []
    for estimator in (GUMBEL, REINMAX):
        able = [maker for maker in makers if estimator in maker.estimators]
        for shape in SHAPES[::3] if quick else SHAPES:
            problem = Problem.of(estimator, shape, hidden, pixels, device)
            calls = {maker.name: maker.begin(problem).step for maker in able}
            found = _rows(STEP, problem, calls, settings, {maker.name: maker.version for maker in able})
            if estimator == GUMBEL:
                alone = {OURS: ours(device).begin(problem).step, **parts(problem)}
                found += _rows(PARTS, problem, alone, settings, {})
            for row in found:
                terminal.print(_show(row))
            rows += found
    write_csv(settings.file("train_step", "csv"), plain(rows))
    terminal.print(save_picture(steps(rows), settings.file("train_step", settings.picture)))


def wrong(maker: Maker, twin: Maker, estimator: str, settings: Settings) -> str | None:
    """What is wrong with a contender's loss, gradient or update, or nothing."""
    problem = Problem.of(estimator, (10, 3, 4), (16,), 20, settings.device)
    mine, theirs = (each.begin(problem) for each in (maker, twin))
    differences = []
    for _ in range(settings.draws // 100):
        (loss, slope), (expected, direction) = mine.draw(), theirs.draw()
        differences.append(torch.cat([(loss - expected).reshape(1), slope - direction]).cpu())
    first = mine.watched()
    mine.step.wait(mine.step.run())
    moved = (mine.watched() - first).abs().max().item()
    if abs(moved - RATE) > UPDATED * RATE:
        return f"Adam's first update is {moved:g}, and not the learning rate {RATE:g}"
    try:
        assert_mean(torch.stack(differences), torch.zeros(len(first) + 1), FALSE_ALARM)
    except AssertionError as error:
        return str(error)
    return None


def parts(problem: Problem) -> dict[str, Call]:
    """Parts of softhot's step, each alone, forward and backward."""
    model, x = problem.model, problem.x
    logits = model.posterior(x).detach().requires_grad_()
    pixels = model.decode(logits).detach().requires_grad_()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    adam = OPTIMISERS["adam"](weights, lr=RATE)

    def networks() -> None:
        for weight in weights:
            weight.grad = None
        model.decode(model.posterior(x)).backward(x)

    def likelihood() -> object:
        return binary(x), torch.autograd.grad(log_likelihood(x, pixels).sum(), pixels)

    networks()
    draw, term = GumbelSoftmax(temperature=TEMPERATURE).draw, Categorical()
    functions: dict[str, Callable[[], object]] = {
        "networks": networks,
        "Adam": adam.step,
        "pixels": likelihood,
        "divergence": lambda: torch.autograd.grad(term(logits, model.prior).sum(), logits),
        "sample": lambda: torch.autograd.grad(draw(logits, None), logits, logits),
    }
    return {name: Call(function, *ending(x)) for name, function in functions.items()}


def _rows(
    task: str, problem: Problem, calls: Mapping[str, Call], settings: Settings, versions: Mapping[str, str]
) -> list[Row]:
    pace = settings.pace if settings.quick else replace(settings.pace, rounds=25, fewest=7, budget=6.0, shortest=0.02)
    others, seconds = undisturbed(calls, settings, pace)
    work, rows = _work(problem), []
    for name, each in seconds.items():
        low, middle, high = (1e3 * value for value in quartiles(each))
        ratios = [one / own for one, own in zip(each, seconds[OURS], strict=True)]  # within a round
        ratio_low, ratio, ratio_high = quartiles(ratios)
        rows.append(
            {
                "task": task,
                "estimator": problem.estimator,
                "batch": len(problem.x),
                "latents": problem.shape[0],
                "classes": problem.shape[1],
                "contender": name,
                "milliseconds": middle,
                "lower_quartile": low,
                "upper_quartile": high,
                "examples_per_second": len(problem.x) / statistics.median(each),
                "ratio": ratio,
                "ratio_low": ratio_low,
                "ratio_high": ratio_high,
                "work": work.get(name, ""),
                "rounds": len(each),
                "others": max(others, 0.0),
                "version": versions.get(name, ""),
                "machine": settings.machine,
                "device": settings.device,
                "threads": settings.threads,
            }
        )
    return rows


def _work(problem: Problem) -> dict[str, float]:
    """Billions of floating-point operations of the matrix products, and of bytes that Adam cannot do without.

    Every product is taken once forward and twice backward, but for the gradient to the images, which nobody wants. Adam
    reads a weight, its gradient and two moments, and writes all but the gradient.
    """
    products = [weight.numel() for weight in problem.model.parameters() if weight.dim() == 2 and weight.requires_grad]
    trained = sum(weight.numel() for weight in problem.model.parameters() if weight.requires_grad)
    operations = 2 * len(problem.x) * (3 * sum(products) - products[0])
    return {"networks": operations / 1e9, "Adam": 7 * 4 * trained / 1e9}


def _show(row: Row) -> str:
    case = f"{row['task']}, {row['estimator']}, {row['batch']}, {row['latents']} x {row['classes']}, {row['contender']}"
    ratio = f"ratio {shorten(row['ratio'])} ({shorten(row['ratio_low'])} to {shorten(row['ratio_high'])})"
    return f"{case}: {shorten(row['milliseconds'])} ms, {ratio}, {row['rounds']} rounds"


if __name__ == "__main__":
    launch(main)
