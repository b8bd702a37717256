"""The certificates of the estimators, measured when the pages are made: :func:`softhot.testing.certify`.

An estimator that is not what its class says stops the build.
"""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pages.kept import kept
from pages.markup import table
from softhot.estimators import ESTIMATORS
from softhot.testing import certify

__all__ = ["certificate", "certificates"]

_OF = {"enumerated": "all {:,} outcomes", "integrated": "an integral of {:,} nodes", "drawn": "{:,} draws"}


@functools.cache
def certificates() -> dict[str, dict[str, Any]]:
    """The certificate of every estimator by its name, as numbers and text.

    Raises:
        ValueError: If an estimator is not what its class says.
    """
    found: dict[str, dict[str, Any]] = kept("certificates", _measured, Path(__file__))
    faults = [f"{name}: {fault}" for name, one in found.items() for fault in one["checks"].values() if fault]
    if faults:
        raise ValueError(f"estimators are not what they say: {'; '.join(faults)}. See softhot certify.")
    return found


def certificate(name: str) -> str:
    """The certificate of an estimator, as a table."""
    if ESTIMATORS[name].mixture:
        return (
            "There is none: a certificate is of independent variables. For a mixture there is\n"
            ":meth:`softhot.distributions.MixtureOfDiscreteFlows.expectation`, which is exact.\n"
        )
    found = certificates()[name]
    headings = ("N x K", "bias", "variance", "from", "the mean gradient is")
    rows = [
        (
            f"{one['latents']} x {one['classes']}",
            _number(one, "bias"),
            _number(one, "variance"),
            _OF[one["method"]].format(one["count"]),
            "the true one" if one["unbiased"] else "not the true one",
        )
        for one in found["figures"]
    ]
    looked_at = ", ".join(found["checks"])
    return (
        f"What ``softhot certify {name}`` finds, run for this page: bias and variance of the gradient to the logits,\n"
        "relative to the true one, with N variables of K classes and the default settings.\n\n"
        f"{table(headings, rows)}\n"
        f"Also looked at, and found right: {looked_at}.\n"
        "What each number is stands in :mod:`softhot.testing.certificate`.\n"
    )


def _number(one: dict[str, Any], what: str) -> str:
    drawn = one["method"] == "drawn"
    return f"{one[what]:.3f} ± {one[f'{what}_error']:.3f}" if drawn else f"{one[what]:.4f}"


def _measured() -> dict[str, Any]:
    found = {name: certify(one(), name) for name, one in ESTIMATORS.items() if not one.mixture}
    return {
        name: {"figures": [asdict(figures) for figures in one.figures], "checks": dict(one.checks)}
        for name, one in found.items()
    }
