"""The documentation is strict: what is undocumented, leads nowhere or cannot be drawn fails its build."""

import subprocess
import sys
from pathlib import Path

import pytest
from pages.certificates import certificates
from pages.draws import drawn
from pages.formulas import mathml
from pages.kept import kept
from pages.reference import reference
from pages.symbols import undocumented

from softhot.distributions import OneHotCategorical
from softhot.kl import Categorical

ROOT = Path(__file__).parent.parent
FINE = "# A page\n\nSee [below](#below).\n\n## Below\n\n{py:func}`small.function`, $x^2$\n\n"
FINE += "```{eval-rst}\n.. automodule:: small\n   :members:\n```\n"
HALF = '''
"""A package."""
from dataclasses import dataclass

__all__ = ["Half", "NUMBER", "Silent"]

NUMBER = 1


@dataclass
class Silent:
    x: int


class Half:
    """One of two methods says what it is."""

    def spoken(self):
        """This one."""

    def silent(self):
        pass
'''


def build(folder, page=FINE, docstring='"""What it is."""'):
    """What the build of a page and of a package of one function says, which is nothing if it passes."""
    (folder / "index.md").write_text(page)
    (folder / "small.py").write_text(
        f'"""A package."""\n\n__all__ = ["function"]\n\n\ndef function():\n    {docstring}\n'
    )
    (recipe,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if "sphinx-build" in line)
    flags = [part for part in recipe.split() if part.startswith("--") and part != "--doctree-dir"]
    options = [*flags, "-c", ROOT / "docs", "-D", "write_pages=0", "-D", "public_packages=small"]
    command = [sys.executable, "-m", "sphinx", *options, folder, folder / "site"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert (done.returncode == 0) == (not done.stderr), done.stderr
    return done.stderr


def test_what_is_right_passes(tmp_path):
    assert not build(tmp_path)
    assert "<msup>" in (tmp_path / "site" / "index.html").read_text()


WRONG = {
    "[gone](nowhere.md)": "nowhere.md",
    "[gone](#nowhere)": "'nowhere'",
    "![gone](nowhere.png)": "nowhere.png",
    "{py:class}`softhot.Nothing`": "softhot.Nothing",
    r"$\nonsense x$": r"\nonsense of",
    "": "small.function is public and has no docstring",
}


def test_what_is_wrong_fails(tmp_path):
    said = build(tmp_path, page=FINE + "\n\n".join(WRONG), docstring="pass").splitlines()
    for fault in WRONG.values():
        assert any("WARNING" in line and fault in line for line in said), fault


def test_an_undocumented_method_or_constant_is_found(tmp_path, monkeypatch):
    (tmp_path / "half.py").write_text(HALF)
    monkeypatch.syspath_prepend(tmp_path)
    assert undocumented("half") == ["half.Half.silent", "half.NUMBER", "half.Silent"]


def test_the_format_of_a_declared_study_is_on_a_page():
    page = reference(())["packages/softhot.lab"]
    assert ".. py:module:: softhot.lab.study.declaration\n" in page
    assert "``[budget]``    one of epochs" in page


def test_a_formula_with_an_unknown_command_is_refused():
    assert "<msup>" in mathml("x^2", "inline")
    with pytest.raises(ValueError, match=r"\\nonsense"):
        mathml(r"\nonsense x", "inline")


def test_a_result_is_kept_until_its_code_changes(tmp_path):
    code, count = tmp_path / "code.py", iter(range(9))
    for text, result in (("x = 1", 0), ('"""Said."""\nx = 1  # said', 0), ("x = 2", 1)):
        code.write_text(text)
        assert kept("count", lambda: next(count), code, folder=tmp_path / "kept") == result


def test_a_wrong_certificate_stops_the_build(monkeypatch):
    wrong = {"exact": {"figures": [], "checks": {"value": None, "cost": "it costs more"}}}
    monkeypatch.setattr("pages.certificates.kept", lambda *arguments: wrong)
    certificates.cache_clear()
    try:
        with pytest.raises(ValueError, match="exact: it costs more"):
            certificates()
    finally:
        certificates.cache_clear()


@pytest.mark.parametrize(("kind", "value"), [(Categorical, "value"), (OneHotCategorical, "entropy")])
def test_a_value_that_draws_contradict_stops_the_build(kind, value, monkeypatch):
    assert "± 0.00" in drawn(kind)
    right = getattr(kind, value)
    monkeypatch.setattr(kind, value, lambda *given: 1.1 * right(*given))
    with pytest.raises(ValueError, match=f"{kind.__name__}: the mean .* standard errors from"):
        drawn(kind)
