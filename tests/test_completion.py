"""The shell completes commands, options and names, and does not wait for torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from softhot.cli import completion
from softhot.estimators import BASELINES, ESTIMATORS
from softhot.kl import ALIASES, TERMS
from softhot.lab.experiments.posteriors import METHODS
from softhot.problems import PROBLEMS
from softhot.problems.data import DATA

NAMES = {
    "estimator": [*ESTIMATORS],
    "term": [*TERMS, *ALIASES],
    "problem": [*PROBLEMS],
    "data": [*DATA],
    "baseline": [*BASELINES],
}
PROGRAM = """
import atexit, sys
atexit.register(lambda: print("torch" in sys.modules, file=sys.stderr))
from softhot.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the table is kept already, by the code that asks."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        completion.kept()
    return folder


def answered(cache: Path, **asked: str) -> tuple[str, bool]:
    """What a shell is told, and whether torch was imported for it."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.pathsep.join(sys.path), **asked}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout, done.stderr.split() == ["True"]


def completed(cache: Path, words: str) -> list[str]:
    """The words that bash is offered for the last one."""
    place = len(words.split(" ")) - 1
    told, imported = answered(cache, _SOFTHOT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(place))
    assert not imported
    return told.split()


STARTS = {
    "softhot tr": ["train"],
    "softhot --vers": ["--version"],
    "softhot compare --est": ["--estimator"],
    "softhot compare --estimator rein": ["reinmax", "reinmax-rao", "reinmax-cv"],
    "softhot compare --estimator zgr exact rein": ["reinmax", "reinmax-rao", "reinmax-cv"],
    "softhot compare --estimator zgr --term categorical rel": [
        name for name in NAMES["term"] if name.startswith("rel")
    ],
    "softhot compare --estimator zgr --te": ["--term", "--temperature"],
    "softhot compare --temperature 0.5 --data fash": ["fashion-mnist"],
    "softhot train --estimator mup": ["muprop"],
    "softhot train --baseline l": ["learned"],
    "softhot gradients --problem poly": [name for name in PROBLEMS if name.startswith("poly")],
    "softhot optimise --problem ": list(PROBLEMS),
    "softhot infer asia --method mean-field mdn": [name for name in METHODS if name.startswith("mdn")],
    "softhot certify zgr leave": ["leave-one-out"],
    "softhot list est": ["estimators"],
    "softhot train --data ./here": [],  # the shell's own: files
}


@pytest.mark.parametrize(("words", "expected"), STARTS.items(), ids=STARTS.keys())
def test_words_are_completed_without_torch(cache: Path, words: str, expected: list[str]) -> None:
    assert completed(cache, words) == expected


@pytest.mark.parametrize(("shell", "action"), [("zsh", ""), ("fish", "get-args")])
def test_other_shells(cache: Path, shell: str, action: str) -> None:
    asked = {"_TYPER_COMPLETE_ARGS": "softhot compare --estimator zgr lea", "_TYPER_COMPLETE_FISH_ACTION": action}
    told, imported = answered(cache, _SOFTHOT_COMPLETE=f"complete_{shell}", **asked)
    assert "leave-one-out" in told
    assert "reinmax" not in told
    assert not imported


def test_every_option_that_takes_a_name_completes_it() -> None:
    found = [
        (flag.lstrip("-"), one["values"])
        for command in completion.table().values()
        for one in command["parameters"]
        for flag in one["flags"]
        if flag.lstrip("-") in NAMES
    ]
    assert {name for name, _ in found} == set(NAMES)
    assert all(values == NAMES[name] for name, values in found)


def test_what_takes_no_name_is_left_to_the_shell() -> None:
    values = {one["name"]: one["values"] for one in completion.table()["train"]["parameters"]}
    assert values["out"] == values["seed"] == []
    assert all(all(names) for names in values.values())


def test_a_table_of_other_code_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(completion, "table", lambda: {"new": {}})
    path = tmp_path / "softhot/completion.json"
    assert completion.kept() == {"new": {}}
    fresh = json.loads(path.read_text())
    path.write_text(json.dumps({**fresh, "commands": {"kept": {}}}))
    assert completion.kept() == {"kept": {}}
    for other in (json.dumps({"version": "", "commands": {"old": {}}}), "{", "[]", "null", '{"version": 1}'):
        path.write_text(other)
        assert completion.kept() == {"new": {}}
        assert json.loads(path.read_text()) == fresh
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_where_nothing_can_be_kept_words_are_completed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    asked = {"_SOFTHOT_COMPLETE": "complete_bash", "COMP_WORDS": "softhot train --estimator zg", "COMP_CWORD": "3"}
    assert answered(tmp_path / "file", **asked) == ("zgr\n", True)
