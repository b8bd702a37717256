"""A page of demonstrations: each script of ``examples``, and what it prints."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pages.docstrings import converted
from pages.kept import kept
from pages.markup import heading, literal

__all__ = ["EXAMPLES", "SHOWN", "gallery", "output"]

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SHOWN = {
    "eq21_discretised": "Does it matter for the gradient whether the sample is discretised?",
    "decoder_gradient": "Whose gradient is biased?",
    "gaussian_mixture": "Against a closed form",
    "recipes/discrete_autoencoder": "A discrete autoencoder",
    "recipes/world_model": "A world model",
}


def output(name: str) -> str:
    """What an example prints; kept until softhot or the example changes."""
    script = EXAMPLES / f"{name}.py"

    def run() -> str:
        done = subprocess.run([sys.executable, script], capture_output=True, check=True)
        printed = done.stdout.decode()  # asked for as text, \r would be \n
        return "\n".join(line.rpartition("\r")[2] for line in printed.split("\n"))  # the last of a progress

    text: str = kept(name, run, script)
    return text


def gallery() -> dict[str, str]:
    """The text of the page by its name."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # of processes, one for each script
        printed = dict(zip(SHOWN, pool.map(output, SHOWN), strict=True))
    parts = [heading("Gallery"), "Each is a script of the folder ``examples``, run for this page.\n"]
    for name, title in SHOWN.items():
        script = EXAMPLES / f"{name}.py"
        tree = ast.parse(script.read_text())
        said, start = ast.get_docstring(tree) or "", tree.body[1].lineno
        parts += [heading(title, "-"), converted(said), f"\n``.venv/bin/python examples/{name}.py`` prints\n"]
        parts += [
            literal(printed[name]),
            f".. literalinclude:: ../../examples/{name}.py\n   :language: python\n   :lines: {start}-\n",
        ]
    return {"gallery": "\n".join(parts)}
