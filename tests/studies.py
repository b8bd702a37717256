"""Studies made up for the tests of what is said and shown of them, and the records of true runs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from softhot.lab.config import Config
from softhot.lab.study.task import Task, results
from softhot.lab.training.images import encoded

DISCRETE, RELAXED = "the discrete log-likelihood", "the log-likelihood of the relaxed model"
COSTS = {"exact": 256, "leave-one-out": 4}
STUDY: dict[str, Any] = {
    "command": "softhot compare --seeds 3",
    "version": "0.1.0",
    "torch": "2.13.0",
    "python": "3.12.3",
    "skipped": [
        {"estimator": "exact", "term": "concrete", "reason": "the term has a temperature & none is drawn"},
        {"estimator": "reinmax", "term": "concrete", "reason": "the term has a temperature & none is drawn"},
        {"estimator": "gumbel-softmax", "term": "discretised", "reason": "the term is of the <hard> sample"},
    ],
    "planned": 12,
}


def quality(**given: float | None) -> dict[str, float | None]:
    usual = {"bias": 0.3, "bias_se": 0.02, "variance": 1.5, "cosine": 0.6, "cosine_se": 0.01, "cosine_of_mean": 0.9}
    found = {**usual, "snr": 0.8, **given}
    small = found["bias"] is not None and found["bias_se"] is not None and found["bias"] <= 2 * found["bias_se"]
    return {"bias_z": 0.5 if small else 20.0, **found}


def run(
    arm: str = "reinmax t=1 + categorical", seed: int = 0, elbo: float | None = -19.0, gap: float = 0.0, **given: Any
) -> dict[str, Any]:
    """One record; `given` replaces what is usual, `encoder` and `decoder` the quality of those gradients."""
    estimator, term = arm.split(" ")[0], arm.split(" + ")[-1]
    soft = estimator == "gumbel-softmax"
    parts = {
        "encoder": quality(**given.pop("encoder", {})),
        "decoder": quality(**{"bias": 0.3 if soft else 0.01, **given.pop("decoder", {})}),
    }
    return {
        "id": f"{arm}{seed}",
        "version": "0.1.0",
        "torch": "2.13.0",
        "config": {"data": "digits", "latents": 6, "classes": 4, "hidden": [64], "estimator": estimator, "seed": seed},
        "arm": arm,
        "estimator": estimator,
        "term": term,
        "temperature": float(arm.split("t=")[1].split(" ")[0]) if " t=" in arm else None,
        "seed": seed,
        "data": "digits, threshold; scikit-learn, load_digits",
        "bounds": {"concrete": RELAXED, "concrete-exact": RELAXED}.get(term) if soft else DISCRETE,
        "unbiased": estimator in ("exact", "leave-one-out"),
        "sample": "soft" if soft else "hard",
        "objective": None if elbo is None else elbo + gap,
        "elbo": elbo,
        "iwae": None if elbo is None else elbo + 0.9,
        "iwae_samples": 100,
        "log_likelihood": None if elbo is None else elbo + 1.0,
        "gap": gap,
        "valid_elbo": elbo,
        "seconds": 3.0,
        "evaluations": 60_000,
        "gradient": {
            **{"reference": "exact", "draws": 64, "images": 16, "start": parts, "end": parts},
            "evaluations": COSTS.get(estimator, 1),
        },
        "curve": [
            {"epoch": k, "objective": -30.0 / k, "valid_elbo": -30.0 / k, "evaluations": 12_000, "seconds": 0.6}
            for k in range(1, 6)
        ],
        **given,
    }


def arm(name: str, *elbos: float | None, **given: Any) -> list[dict[str, Any]]:
    return [run(name, seed, elbo, **given) for seed, elbo in enumerate(elbos)]


def mixed() -> list[dict[str, Any]]:
    """Everything that can be wrong with a study: a diverged run, a missing seed, one seed, no log-likelihood."""
    return [
        *arm("reinmax t=1 + categorical", -18.0, -18.1, -18.2),
        *arm(
            "leave-one-out + categorical", -18.5, -18.7, evaluations=240_000, log_likelihood=None, encoder={"bias": 0.0}
        ),
        *arm("gumbel-softmax t=1 + concrete", -18.9, -19.1, -19.0, gap=1.5),
        *arm("gumbel-softmax t=1 + concrete-exact", -18.4, -18.6, -18.5, gap=1.4),
        *arm("gumbel-softmax t=1 + categorical", -17.0, None, float("nan"), gap=2.5),
        *arm("straight-through + categorical", None, encoder=dict.fromkeys(quality())),
        *arm("exact + <script>alert(1)</script>", -17.9, gradient={}, curve=[]),
    ]


def drawn() -> list[dict[str, Any]]:
    """A study with everything that a report can show: two temperatures, and pictures of the models."""
    images = torch.eye(20)
    reconstructions, samples = encoded(images[None], (4, 5)), encoded(images[:12].unflatten(0, (3, 4)), (4, 5))
    pictures = {"pictures": {"reconstructions": reconstructions, "samples": samples}}
    return [
        *arm("leave-one-out + categorical", -18.5, -18.7, **pictures),
        *arm("reinmax t=0.5 + categorical", -18.4, -18.3, **pictures),
        *arm("reinmax t=1 + categorical", -18.0, -18.1, **pictures),
        *arm("gumbel-softmax t=0.5 + concrete", -18.7, -18.6, gap=0.5, **pictures),
        *arm("gumbel-softmax t=1 + concrete", -18.9, -19.1, gap=1.5, **pictures),
        *arm("gumbel-softmax t=1 + concrete-exact", -18.8, -18.9, gap=1.5, **pictures),
        *arm("exact + categorical", -17.9, -18.2, **pictures),
    ]


def large() -> list[dict[str, Any]]:
    """120 arms of 5 seeds and 50 epochs, with the pictures that images of 28 x 28 pixels have."""
    rng = random.Random(0)
    noise = torch.rand(5, 10, 28 * 28, generator=torch.Generator().manual_seed(0))  # what compresses least
    pictures = {"reconstructions": encoded(noise[:2], (28, 28)), "samples": encoded(noise[2:], (28, 28))}
    names = [
        f"{name} t={t / 10:g} + {term}"
        for name in ("gumbel-softmax", "reinmax", "st-gumbel-softmax", "gumbel-rao")
        for t in range(1, 7)
        for term in ("categorical", "maddison21", "maddison21-exact", "concrete", "concrete-exact")
    ]

    def curve() -> list[dict[str, Any]]:
        epochs = range(1, 51)
        return [
            {"epoch": k, "valid_elbo": -30 / k + rng.random(), "evaluations": 60_000, "seconds": 9 + rng.random()}
            for k in epochs
        ]

    return [
        run(
            name,
            seed,
            -19 + rng.random(),
            gap=2 * rng.random(),
            curve=curve(),
            pictures=pictures,
            encoder={"bias": rng.random(), "variance": 3 * rng.random()},
        )
        for name in names
        for seed in range(5)
    ]


def trained(*configs: Config) -> list[dict[str, Any]]:
    """The records of runs that train together, in this process."""
    return results(configs, Task(Path(), "", None, None, 60.0), None, lambda runs: True)
