"""The house: a room imports from the rooms to its left, never from its right, and imports no heavy thing early."""

import ast
from pathlib import Path

import softhot

SOURCE = Path(softhot.__file__).parent
ROOMS = ["names", "kernels", "functional", "distributions", "kl", "estimators", "bounds", "inference", "testing"]
ROOMS += ["problems", "lab", "cli"]


def imports():
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("softhot."):
                yield room, node.module.split(".")[1], path.name


def test_imports_go_leftwards():
    found = [(room, other) for room, other, _ in imports() if room != "__init__"]
    assert len(found) > 100
    assert {room for room, _ in found} <= set(ROOMS)
    wrong = {(room, other) for room, other in found if ROOMS.index(other) > ROOMS.index(room)}
    assert not wrong


def test_every_file_that_says_the_version_says_the_same():
    root, version = Path(__file__).parent.parent, softhot.__version__
    assert f'\nversion = "{version}"\n' in (root / "pyproject.toml").read_text()
    assert f"\nversion: {version}\n" in (root / "CITATION.cff").read_text()
    assert f"\n## {version}" in (root / "CHANGELOG.md").read_text()
