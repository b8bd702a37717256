"""The package as it is handed out: built, installed where nothing else of it is, and tried."""

import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import softhot

ROOT = Path(__file__).parent.parent
TRIAL = """
import softhot, torch
from softhot.distributions import RelaxedOneHotCategorical
entropy = RelaxedOneHotCategorical(0.5, logits=torch.zeros(3)).entropy()
print(softhot.__file__, softhot.__version__, entropy.isfinite().item())
"""


def run(*command, cwd):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel, made from the source distribution, and the source distribution."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=folder / source.name[:-7])
    (wheel,) = folder.glob("*.whl")
    return wheel, source


def test_the_wheel_holds_the_library_and_nothing_else(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
    package = ROOT / "src"
    kept = {
        path.relative_to(package).as_posix() for path in package.rglob("*") if path.suffix in {".py", ".html", ".js"}
    }
    assert {name for name in names if ".dist-info/" not in name} == kept | {"softhot/py.typed"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_source_holds_its_tests_and_what_they_need(built):
    with tarfile.open(built[1]) as source:
        names = {name.split("/", 1)[1] for name in source.getnames()}
    tracked = ["tests/test_package.py", "README.md", "constraints.txt", "docs/conf.py", "examples/study_tables.py"]
    assert names >= set(tracked)
    assert not [name for name in names if name.startswith((".venv", "results/", "site/"))]


def test_it_installs_and_runs_where_nothing_else_of_it_is(built, tmp_path):
    venv.create(tmp_path / "clean", with_pip=False)
    python = tmp_path / "clean/bin/python"
    place = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        built[0],
        cwd=tmp_path,
    )
    (place / "peers.pth").write_text(sysconfig.get_path("purelib"))  # what it depends on; no .pth file there is read
    path, version, finite = run(python, "-c", TRIAL, cwd=tmp_path).split()
    assert (Path(path).parent, version, finite) == (place / "softhot", softhot.__version__, "True")
    command = tmp_path / "clean/bin/softhot"
    assert run(command, "--version", cwd=tmp_path).split()[-1] == softhot.__version__
    assert "reinmax" in run(command, "list", cwd=tmp_path)


def test_make_says_what_each_target_does():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    told = run("make", "--no-print-directory", "help", cwd=ROOT)  # make test is itself a make
    assert [line.split()[0] for line in told.splitlines()] == targets
    assert all(len(line.split()) > 3 for line in told.splitlines())
