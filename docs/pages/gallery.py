"""A page of demonstrations: each script of ``examples``, and what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pages.kept import kept
from pages.markup import heading, literal

__all__ = ["EXAMPLES", "SHOWN", "gallery", "output"]

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SHOWN = {
    "eq21_discretised": "Does it matter for the gradient whether the sample is discretised?",
    "decoder_gradient": "Whose gradient is biased?",
    "gaussian_mixture": "Against a closed form",
}


def output(name: str) -> str:
    """What an example prints; kept until softhot or the example changes."""
    script = EXAMPLES / f"{name}.py"

    def run() -> str:
        environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
        done = subprocess.run([sys.executable, script], capture_output=True, encoding="utf-8", check=True, env=environment)
        return "\n".join(line.rpartition("\r")[2] for line in done.stdout.split("\n"))

    text: str = kept(name, run, script)
    return text


def gallery() -> dict[str, str]:
    """The text of the page by its name."""
    parts = [heading("Gallery")]
    for name, title in SHOWN.items():
        parts += [heading(title, "-"), f"``python examples/{name}.py`` prints\n", literal(output(name))]
        parts += [f"from\n\n.. literalinclude:: ../../examples/{name}.py\n"]
    return {"gallery": "\n".join(parts)}
