"""Whatever a file holds, its reader returns or refuses it in one line: nothing in it runs, hangs or fills the memory.

Damaged images have their place in test_data.py.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
import shutil
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from softhot.lab.config import Config
from softhot.lab.files import read_json, write_csv, write_json
from softhot.lab.report.page import render
from softhot.lab.study import archive, declaration
from softhot.lab.study.record import about
from softhot.lab.study.unfinished import Unfinished
from softhot.lab.training import checkpoint
from softhot.lab.training.loop import Epoch, Run
from softhot.problems.bif import parse_bif, read_bif
from softhot.problems.data import load, prepare

BIF = """network house { property made "by \t hand"; }
variable Door { type discrete [ 2 ] { open, shut }; }  // a comment
variable Alarm { type discrete [ 2 ] { on, "off at night" }; /* another */ }
probability ( Door ) { table 0.3, 0.7; }
probability ( Alarm | Door ) { (open) 0.9, 0.1; default 0.5, 0.5; }
"""
TOML = declaration.__doc__.split("::", 1)[1].split("Everything", 1)[0].replace("\n    ", "\n")
SMALL = Config(hidden=(4,), latents=2, classes=2, epochs=1)
TOKENS = ["{", "}", "(", ")", "[", "]", '"', ",", ";", "|", "=", "\n", "/*", "//", "-1", "1e999", "nan", "null", "true"]
TOKENS += ["9" * 30, "0.5", "[" * 50, "\u2028", "\x00", "table", "default", "[[arms]]\n", "[grid]\n", "é"]
fuzz = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def edits(intact: str) -> st.SearchStrategy[str]:
    """The text with pieces cut out, doubled or replaced."""
    place = st.integers(0, len(intact))
    edit = st.tuples(place, st.integers(0, 40), st.one_of(st.sampled_from(["", *TOKENS]), place))

    def apply(changes: list[tuple[int, int, str | int]]) -> str:
        text = intact
        for start, length, new in changes:
            middle = new if isinstance(new, str) else intact[new : new + length]
            text = text[:start] + middle + text[start + length :]
        return text

    return st.lists(edit, min_size=1, max_size=3).map(apply)


def attempt(read: Callable[[], Any]) -> Any:
    """What is read, or None where it is refused in one line."""
    try:
        return read()
    except ValueError as caught:
        error = caught
    assert len(str(error).splitlines()) == 1, str(error)
    return None


@contextmanager
def little_memory() -> Iterator[None]:
    """Whatever is done takes less than 100 megabytes, as far as Python and NumPy know."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


# ---- texts


@fuzz
@given(text=edits(BIF))
@example(text='variable A { type discrete [2] { "a\nb", "a\u2028b" }; } probability (A) { table x, y; }')
@example(text="variable A { type discrete [2 2] { a, b }; } probability (A) { table 1, 0; }")
def test_networks(text: str) -> None:
    for node in attempt(lambda: parse_bif(text)) or ():
        torch.testing.assert_close(node.table.sum(-1), torch.ones(node.table.shape[:-1], dtype=torch.float64))


def test_a_comment_that_does_not_end_is_no_work() -> None:
    with pytest.raises(ValueError, match="there is no variable"):
        parse_bif("/* " * 300_000)
    assert parse_bif(BIF + "/* the end")


@pytest.mark.parametrize(
    ("old", "new"), [("by \t hand", "http://a.b"), ("by \t hand", "/* or so"), ("a comment", 'a "comment')]
)
def test_what_is_quoted_is_no_comment_nor_is_a_comment_quoted(old: str, new: str) -> None:
    assert [node.name for node in parse_bif(BIF.replace(old, new))] == ["Door", "Alarm"]


def test_a_default_row_does_not_make_a_table_that_fills_the_memory() -> None:
    names = [f"v{i}" for i in range(40)]
    text = "".join(f"variable {name} {{ type discrete [2] {{ a, b }}; }}\n" for name in [*names, "x"])
    text += "".join(f"probability ({name}) {{ table 0.5, 0.5; }}\n" for name in names)
    text += f"probability (x | {', '.join(names)}) {{ default 0.5, 0.5; }}"
    with little_memory(), pytest.raises(ValueError, match="'x' has 2,199,023,255,552 probabilities, more than"):
        parse_bif(text)


@settings(fuzz, max_examples=40)
@given(text=edits(TOML))
def test_declarations(text: str) -> None:
    plan = attempt(lambda: declaration.parse(text))
    assert plan is None or plan.runs


MANY = ", ".join(map(str, range(1, 500)))
ENDLESS = {
    "nesting": ("x = " + "[" * 100_000, "nested too deeply"),
    "seeds": ("seeds = 1000000000000000000", "seeds = 1000000000000000000 is more than 10,000"),
    "combinations": (
        f'[grid]\nestimator = "leave-one-out"\nterm = "categorical"\nsamples = [{MANY}]\nlearning_rate = [{MANY}]',
        "make 747,003 runs, more than 10,000",
    ),
    "a model": ("[model]\nlatents = 1000000000\nclasses = 1000000000", "more than 1,000,000 entries"),
    "an estimator": (
        '[grid]\nestimator = "relax"\n[model]\nlatents = 100000\nclasses = 100000',
        "more than 1,000,000 entries",
    ),
}


@pytest.mark.parametrize(("text", "message"), ENDLESS.values(), ids=ENDLESS)
def test_declarations_that_would_never_end(text: str, message: str) -> None:
    with little_memory(), pytest.raises(ValueError, match=message) as caught:
        declaration.parse(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("read", [read_bif, declaration.read, read_json])
def test_what_is_no_text_is_refused_by_name(read: Callable[[Path], Any], tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x00\x01" * 9, None):
        path = tmp_path / "file"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(repr(str(path)))):
            read(path)


def test_json_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is not valid JSON"):
        read_json(tmp_path / "deep.json")


# ---- archives


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickled_objects_are_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    objects = np.empty(1, dtype=object)
    objects[0] = Trap(trap)
    np.savez(tmp_path / "set.npz", objects)
    np.save(tmp_path / "set.npy", objects)
    torch.save(Trap(trap), tmp_path / "model.safetensors")
    for read in (lambda: load(str(tmp_path / "set.npz")), lambda: load(str(tmp_path / "set.npy"))):
        with pytest.raises(ValueError, match="allow_pickle=False"):
            read()
    with pytest.raises(ValueError, match="is not a checkpoint"):
        checkpoint.load(tmp_path / "model.safetensors")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap)))  # which it is where it is unpickled
    assert trap.exists()


def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    """Two gigabytes of zeros, in two megabytes: as an array of an archive, and as a file of images."""
    npz, gz, size = tmp_path / "bomb.npz", tmp_path / "bomb.gz", 2 << 30
    header = np.lib.format.header_data_from_array_1_0(np.zeros((1, 1, 1), np.uint8))
    shape = (size // 784, 28, 28)
    with zipfile.ZipFile(npz, "w", zipfile.ZIP_DEFLATED) as file, file.open("images.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, {**header, "shape": shape})
        stream.write(bytes(1 << 20))
    # what a whole bomb would say of itself, without the work of packing one
    raw = npz.read_bytes()
    with zipfile.ZipFile(npz) as file:
        (entry,) = file.infolist()
    old, new = (value.to_bytes(4, "little") for value in (entry.file_size, size))
    npz.write_bytes(raw.replace(old, new))
    gz.write_bytes(b"\x1f\x8b\x08" + bytes(7) + gzip_body(shape))
    for path in (npz, gz):
        with little_memory(), pytest.raises(ValueError, match="as no images do; save it without compression"):
            load(str(path))


def gzip_body(shape: tuple[int, ...]) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return packer.compress(start + bytes(16 << 20)) + packer.flush() + bytes(2 << 20)


def test_a_few_zeros_are_images(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "dark.npz", np.zeros((2000, 28, 28)))
    assert not load(str(tmp_path / "dark.npz")).train.any()


# ---- results of the lab


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(SMALL, prepare(load("digits"), "threshold"))


@pytest.fixture(scope="module")
def weights(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "checkpoint.safetensors"
    checkpoint.save(run, path)
    return path


def header(content: bytes) -> str:
    return content[8 : 8 + int.from_bytes(content[:8], "little")].decode()


def with_header(content: bytes, text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(8, "little") + raw + content[8 + int.from_bytes(content[:8], "little") :]


@settings(fuzz, max_examples=60)
@given(data=st.data())
def test_checkpoints(data: st.DataObject, weights: Path, tmp_path: Path) -> None:
    content, path = weights.read_bytes(), tmp_path / "checkpoint.safetensors"
    if data.draw(st.booleans()):
        path.write_bytes(with_header(content, data.draw(edits(header(content)))))
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        path.write_bytes(content[:at] + (b"" if data.draw(st.booleans()) else b"\xff" + content[at + 1 :]))
    found = attempt(lambda: checkpoint.load(path))
    assert found is None or all(weight.isfinite().all() for weight in found.model.parameters())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("config", "{", "says of its run what cannot be"),
        ("config", "[]", "a configuration is a table of settings, not list"),
        ("config", "[" * 100_000, "says of its run what cannot be"),
        ("config", {"latents": 4.5}, "latents = 4.5 is not a whole number"),
        ("config", {"hidden": "wide"}, 'hidden = "wide" is not a list'),
        ("config", {"latents": None}, "latents = null is not a whole number"),
        ("config", {"hidden": [10_000_000, 10_000_000]}, "fewer numbers than the weights"),
        ("config", {"latents": 10**9}, "more than 1,000,000 entries"),
        ("step", "soon", "another model"),
        ("step", "-", "another model"),
        ("seconds", "", "another model"),
    ],
)
def test_checkpoints_that_lie(name: str, value: Any, message: str, weights: Path, tmp_path: Path) -> None:
    content, path = weights.read_bytes(), tmp_path / "checkpoint.safetensors"
    head = json.loads(header(content))
    text = value if isinstance(value, str) else json.dumps({**SMALL.to_json(), **value})
    head["__metadata__"][name] = text
    path.write_bytes(with_header(content, json.dumps(head)))
    with little_memory(), pytest.raises(ValueError, match=message) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, as softhot train leaves it."""
    folder = tmp_path_factory.mktemp("trained")
    write_json(folder / "config.json", SMALL.to_json())
    write_json(folder / "scores.json", {"objective": -20.5, "elbo": -21.5, "iwae": -20.0, "log_likelihood": None})
    write_csv(folder / "metrics.csv", [dataclasses.asdict(row) for row in epochs()])
    return folder


def epochs() -> list[Epoch]:
    return [Epoch(epoch=1, temperature=1.0, objective=-20.5, valid_elbo=-21.5, evaluations=1200, seconds=0.5)]


@fuzz
@given(data=st.data())
def test_folders_of_runs(data: st.DataObject, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    path = folder / data.draw(st.sampled_from(["config.json", "scores.json", "metrics.csv"]))
    path.write_text(data.draw(edits((trained / path.name).read_text())))
    found = attempt(lambda: archive.read(folder))
    if found is not None:
        (record,) = found[1]
        assert record["gap"] is None or math.isclose(record["gap"], record["objective"] - record["elbo"])
        assert all(isinstance(row["epoch"], int) for row in record["curve"])


@settings(fuzz, max_examples=60)
@given(data=st.data())
def test_folders_of_studies(data: st.DataObject, tmp_path: Path) -> None:
    """A file that is broken is named, and the others are read."""
    record = {**about(SMALL), "config": SMALL.to_json(), "curve": [{"epoch": 1, "valid_elbo": -20.0}]}
    study = {"title": "a study", "choices": [{"arm": SMALL.arm, "chosen": {"learning_rate": SMALL.learning_rate}}]}
    texts = {"study.json": json.dumps(study), "runs/a.json": json.dumps(record)}
    (tmp_path / "runs").mkdir(exist_ok=True)
    damaged = data.draw(st.sampled_from(list(texts)))
    for name, text in texts.items():
        (tmp_path / name).write_text(data.draw(edits(text)) if name == damaged else text)
    found, records = archive.read(tmp_path)
    assert set(found["damaged"]) <= {damaged}
    assert all(isinstance(one["curve"], list) for one in records)


@settings(fuzz, max_examples=40)
@given(data=st.data())
def test_what_is_left_of_a_run_is_gone_on_with_or_refused(data: st.DataObject, run: Run, tmp_path: Path) -> None:
    kept = Unfinished(tmp_path, "some")
    kept.save(run, epochs())
    text = kept.curve.read_text()
    kept.curve.write_text(data.draw(edits(text)))
    attempt(lambda: kept.restore(run))


@pytest.mark.parametrize("odd", [None, "x", [], {"a": 1}, -1, True, 1.5], ids=repr)
def test_a_record_of_other_kinds_is_drawn_or_left_out(odd: Any, tmp_path: Path) -> None:
    row = dataclasses.asdict(epochs()[0])
    record = {**about(SMALL), "elbo": -21.5, "gradient": {"start": {}, "end": {}}, "pictures": {}, "curve": [row]}
    (tmp_path / "runs").mkdir()
    for name in record:
        write_json(tmp_path / "runs" / f"{name}.json", {**record, name: odd})
    for name in row:
        write_json(tmp_path / "runs" / f"curve {name}.json", {**record, "curve": [{**row, name: odd}]})
    study, records = archive.read(tmp_path)
    assert render(study, records).endswith("</html>\n")
