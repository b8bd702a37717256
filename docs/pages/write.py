"""Write the pages, before anything is read, to a folder that holds nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

from pages.certificates import certificates
from pages.choice import choice
from pages.commands import commands
from pages.gallery import gallery
from pages.methods import METHODS
from pages.reference import reference
from pages.symbols import PACKAGES, undocumented

__all__ = ["FOLDER", "setup", "written"]

FOLDER = "reference"
_LOG = getLogger(__name__)


def written() -> dict[str, str]:
    """The texts of all pages by their names; those that end in .txt are parts of others."""
    with ThreadPoolExecutor() as pool:
        shown = pool.submit(gallery)  # which waits for other processes
        certificates()
    elsewhere = {one.path for kind in METHODS for described in kind.on_pages().values() for one in described}
    found = {name: text for kind in METHODS for name, text in kind.pages().items()}
    return found | reference(elsewhere) | choice() | commands() | shown.result()


def _check(app: Sphinx) -> None:
    for package in app.config.public_packages:
        for path in undocumented(package):
            _LOG.warning("%s is public and has no docstring", path)


def _write(app: Sphinx) -> None:
    if not app.config.write_pages:
        return
    folder = Path(app.srcdir) / FOLDER
    texts = {folder / (name if name.endswith(".txt") else f"{name}.rst"): text for name, text in written().items()}
    for place, text in texts.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists() or place.read_text() != text:  # what is unchanged is not read again
            place.write_text(text)
    for place in folder.rglob("*.*"):
        if place not in texts:
            place.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Check that all is documented, and write the pages."""
    app.add_config_value("public_packages", list(PACKAGES), "env")
    app.add_config_value("write_pages", True, "env", types=bool)
    app.connect("builder-inited", _check)
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
