"""Densities and their gradients as TensorFlow Probability has them, in float64, for tests/test_tfp.py.

``python -m benchmarks.references`` writes tests/reference/tfp.json: random variables of every kind, each with a value.
JAX is too large to be installed wherever the tests run, so that its numbers are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

PATH = Path(__file__).parent.parent / "tests" / "reference" / "tfp.json"
CLASSES = (2, 3, 5, 12)
TEMPERATURES = (0.1, 0.5, 1.0, 2.0, 10.0)


def main() -> None:
    """Write the file."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from tensorflow_probability.substrates import jax as probability

    def case(kind: str, temperature: float, logits: Any, value: Any) -> dict[str, Any]:
        make = getattr(probability.distributions, kind)

        def log_prob(temperature: Any, logits: Any, value: Any) -> Any:
            return make(temperature, logits=logits, validate_args=False).log_prob(value).sum()

        found, slopes = jax.value_and_grad(log_prob, argnums=(0, 1, 2))(temperature, logits, value)
        return {
            "kind": kind,
            "temperature": temperature,
            "logits": logits.tolist(),
            "value": value.tolist(),
            "log_prob": float(found),
            "gradients": [np.asarray(slope).tolist() for slope in slopes],
        }

    cases = [case(*arguments) for arguments in _arguments()]
    about = {"made by": f"tfp {probability.__version__}, jax {jax.__version__}, python -m benchmarks.references"}
    PATH.write_text(json.dumps({**about, "cases": cases}, indent=0) + "\n", encoding="utf-8")


def _arguments() -> Iterator[tuple[str, float, Any, Any]]:
    random = np.random.default_rng(0)
    for classes in CLASSES:
        for temperature in TEMPERATURES:
            logits, scores = 2 * random.normal(size=(2, classes))
            value = scores - np.log(np.exp(scores).sum())
            yield "RelaxedOneHotCategorical", temperature, logits, np.exp(value)
            yield "ExpRelaxedOneHotCategorical", temperature, logits, value
            yield "RelaxedBernoulli", temperature, logits[:1], 1 / (1 + np.exp(-scores[:1]))


if __name__ == "__main__":
    main()
