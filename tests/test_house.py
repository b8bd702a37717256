"""The house: a room imports from the rooms to its left, never from its right, and imports no heavy thing early."""

import ast
import importlib
import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest
from torch.distributions import Distribution, Transform

import softhot
from softhot.functional import Schedule

SOURCE = Path(softhot.__file__).parent
ROOMS = ["names", "kernels", "functional", "distributions", "kl", "estimators", "bounds", "inference", "testing"]
ROOMS += ["problems", "lab", "cli"]


LAB = ["kinds", "files", "seeds", "provenance", "config"]  # files that all rooms of the lab may use
LAB += ["training", "gradients", "study", "experiments", "figures", "report"]


def imported(source, package):
    """The full names of all that a module in a package imports, in any of the forms that Python has."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -node.level + 1 or None] if node.level else []
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)


def imported_by(path):
    return imported(path.read_text(), ".".join(path.relative_to(SOURCE.parent).parts[:-1]))


def imports(within):
    """(room, the room that it imports from, file) for all imports of one part of a package from another."""
    folder = SOURCE / within
    prefix = ".".join(["softhot", *filter(None, [within])]) + "."
    for path in folder.rglob("*.py"):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        for name in imported_by(path):
            other = name.removeprefix(prefix).split(".")[0]
            is_room = (folder / other).is_dir() or (folder / f"{other}.py").exists()
            if name.startswith(prefix) and is_room and room != "__init__":
                yield room, other, path.name


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import softhot.cli.app as app, math", ["softhot.cli.app", "math"]),
        ("from softhot import lab", ["softhot.lab"]),
        ("from softhot.lab.config import Config", ["softhot.lab.config.Config"]),
        ("from . import vae", ["softhot.problems.data.vae"]),
        ("from .vae import VAE", ["softhot.problems.data.vae.VAE"]),
        ("def late():\n    from ...lab import config, files", ["softhot.lab.config", "softhot.lab.files"]),
    ],
)
def test_imports_are_seen_in_every_form(source, names):
    assert list(imported(source, "softhot.problems.data")) == names


@pytest.mark.parametrize(("within", "rooms"), [("", ROOMS), ("lab", LAB)])
def test_imports_go_leftwards(within, rooms):
    found = list(imports(within))
    assert len(found) > 100
    assert {room for room, *_ in found} | {other for _, other, _ in found} <= set(rooms)
    assert not [one for one in found if rooms.index(one[1]) > rooms.index(one[0])]


# the extras of pyproject.toml that a room may import from; what every installation has, any may
EXTRAS = {"problems": ["lab"], "lab": ["lab", "devices", "tensorboard"], "cli": ["lab"]}
PACKAGED = {"sklearn": "scikit-learn", "PIL": "pillow", "lightning_fabric": "lightning-fabric"}
PACKAGED |= {"llvmlite": "numba", "dask": "distributed", "triton": "torch"}  # which bring them along


def test_what_is_imported_is_what_the_package_depends_on():
    project = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    seen = set()
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        declared = [*project["dependencies"], *(one for extra in EXTRAS.get(room, ()) for one in extras[extra])]
        installed = {re.match(r"[\w.-]+", one)[0] for one in declared}
        for name in imported_by(path):
            top = name.split(".")[0]
            if top != "softhot" and top not in sys.stdlib_module_names:
                seen.add(top)
                assert PACKAGED.get(top, top) in installed, f"{path} imports {top}"
    assert seen >= {"torch", "numba", "typer", "plotly", "tensorboardX", *PACKAGED}


def names_in(source):
    """All names that a module uses in any way."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            yield node.id
        if isinstance(node, ast.Attribute):
            yield node.attr


ROOMS_OF_FUNCTIONS = [*ROOMS[2:10], "distributions.bases"]
SLOW = {"certify"}  # takes seconds, and is given every estimator by a test of its own


def test_what_is_public_is_tried_in_bulk():
    """Functions, distributions, flows and schedules; estimators, terms and problems by their tables, which hold all."""
    sources = [path.read_text() for path in Path(__file__).parent.glob("*.py")]
    tried = {name for source in sources if "\n@given(" in source for name in names_in(source)}
    public = set()
    for room in map(importlib.import_module, (f"softhot.{name}" for name in ROOMS_OF_FUNCTIONS)):
        for name in room.__all__:
            one = getattr(room, name)
            if inspect.isfunction(one) or (
                inspect.isclass(one) and issubclass(one, Distribution | Transform | Schedule)
            ):
                public.add(name)
    assert public > SLOW | {"elbo", "boosting", "dirichlet", "MixtureOfDiscreteFlows", "Shift", "Linear"}
    assert sorted(public - tried) == sorted(SLOW)


def test_every_room_is_described_and_in_the_picture():
    docs = Path(__file__).parent.parent / "docs"
    described = re.findall(r"^\| `(\w+)` \|", (docs / "architecture.md").read_text(), re.M)
    assert described == [*ROOMS, *LAB[LAB.index("training") :]]
    drawn = re.findall(r'font-weight="600"[^>]*>(\w+)<', (docs / "architecture.svg").read_text())
    assert sorted(drawn) == sorted(ROOMS)


def test_every_file_that_says_the_version_says_the_same():
    root, version = Path(__file__).parent.parent, softhot.__version__
    assert f'\nversion = "{version}"\n' in (root / "pyproject.toml").read_text()
    assert f"\nversion: {version}\n" in (root / "CITATION.cff").read_text()
    assert f"\n## {version}" in (root / "CHANGELOG.md").read_text()


def test_rooms_come_when_they_are_asked_for():
    assert set(softhot.__all__) == {"__version__", *ROOMS} - {"names", "kernels", "cli"}
    assert set(softhot.__all__) <= set(dir(softhot))
    assert all(getattr(softhot, name) is not None for name in softhot.__all__)
    with pytest.raises(AttributeError, match="'softhot' has no attribute 'nothing'"):
        softhot.nothing  # noqa: B018
