"""Data sets: what is read is what was written, splits are disjoint and fixed, and every failure is one line."""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import get_data_home

from softhot.problems.data import MODES, ImageData, load, prepare
from softhot.problems.data.idx import read_idx
from softhot.problems.data.split import hold_out

SHARED = os.environ.get("SOFTHOT_DATA")
FALSE_ALARM = 1e-6
IDX_TYPES = {"uint8": 0x08, "int16": 0x0B, "float32": 0x0D, "float64": 0x0E}
TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test depends on the environment, on scikit-learn's downloads or on the network."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network\nin tests")

    monkeypatch.delenv("SOFTHOT_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path_factory.mktemp("scikit-learn")))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", refuse)


def idx(images: NDArray[Any]) -> bytes:
    header = bytes([0, 0, IDX_TYPES[images.dtype.name], images.ndim])
    return (
        header
        + struct.pack(f">{images.ndim}I", *images.shape)
        + images.astype(images.dtype.newbyteorder(">")).tobytes()
    )


def numbered(n: int, height: int = 28, width: int = 28) -> NDArray[np.uint8]:
    """Images whose first three pixels spell their index."""
    images = np.zeros((n, height, width), np.uint8)
    index = np.arange(n)
    images.reshape(n, -1)[:, :3] = np.stack([index // 2500, index // 50 % 50, index % 50], axis=1) * 5
    return images


def numbers(rows: torch.Tensor) -> list[int]:
    spelled = (rows[:, :3] * 51).round().long()
    return (spelled @ torch.tensor([2500, 50, 1])).tolist()


def save_pictures(folder: Path, images: NDArray[Any]) -> None:
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}.png")


def refused(name_or_path: str | Path, *says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says[0])) as caught:
        load(str(name_or_path))
    assert all(part in str(caught.value) for part in says)
    assert len(str(caught.value).splitlines()) == 1


def attempt(path: Path, damaged: Path) -> ImageData | None:
    """The images at a path, or None where they are refused in one line that names what is damaged."""
    try:
        return load(str(path))
    except ValueError as caught:
        error = str(caught)
    assert str(damaged) in error
    assert len(error.splitlines()) == 1
    return None


# by name


def test_digits_are_split_without_loss() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [1197, 300, 300]
    assert data.shape == (8, 8)
    assert not data.binary
    together = torch.cat([data.train, data.valid, data.test]).numpy() * 16
    original = load_digits().data
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, original.tolist()))
    assert torch.equal(load("digits").test, data.test)


def test_the_split_is_the_same_everywhere() -> None:
    rest, valid, test = hold_out(np.arange(12), 2, 3)
    assert rest.tolist() == [11, 3, 2, 1, 8, 6, 0]
    assert valid.tolist() == [7, 4]
    assert test.tolist() == [10, 5, 9]


@pytest.fixture(scope="module")
def mnist_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shared")
    folder = root / "mnist"
    folder.mkdir()
    (folder / f"{TRAIN}.gz").write_bytes(gzip.compress(idx(numbered(60_000)), compresslevel=1))
    (folder / TEST).write_bytes(idx(numbered(10_000)))
    (root / "fashion-mnist").symlink_to(folder)
    return root


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_keeps_the_order_of_its_files(name: str, mnist_like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHOT_DATA", str(mnist_like))
    data = load(name)
    assert numbers(data.train) == list(range(50_000))
    assert numbers(data.valid) == list(range(50_000, 60_000))
    assert numbers(data.test) == list(range(10_000))
    assert (data.name, data.shape, data.source) == (name, (28, 28), str(mnist_like / name))


def test_openml_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    row_values = np.concatenate([np.full(60_000, 51), np.full(10_000, 102)])

    def fetch(name: str, *, version: int, as_frame: bool, parser: str) -> SimpleNamespace:
        asked.append((name, version, as_frame, parser))
        return SimpleNamespace(data=np.broadcast_to(row_values[:, None], (70_000, 784)))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    first, second = load("mnist"), load("mnist")
    assert asked == [("mnist_784", 1, False, "liac-arff")]
    assert torch.equal(first.test, second.test)
    assert first.train.shape == (50_000, 784)
    assert first.valid.unique().tolist() == pytest.approx([0.2])
    assert first.test.unique().tolist() == pytest.approx([0.4])
    (kept,) = (Path(get_data_home()) / "softhot").glob("*.npy")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused("mnist", "mnist_784.npy' is not what was downloaded; delete")
    kept.with_suffix(".sha256").unlink()
    assert torch.equal(load("mnist").test, first.test)
    assert len(asked) == 2


@pytest.mark.parametrize(("name", "openml"), [("mnist", "mnist_784"), ("fashion-mnist", "Fashion-MNIST")])
def test_failed_download_says_what_to_do(name: str, openml: str) -> None:
    refused(
        name,
        f"cannot download {openml!r} from OpenML: no network in tests;",
        "SOFTHOT_DATA",
        f"{name}/{TRAIN}.gz",
        "--data PATH",
    )


def test_mnist_of_another_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / TRAIN).write_bytes(idx(numbered(12)))
    refused("mnist", f"{tmp_path}/mnist/{TEST}.gz': No such file")
    (tmp_path / "mnist" / TEST).write_bytes(idx(numbered(12)))
    refused("mnist", "(12, 28, 28) and (12, 28, 28) are not those of mnist")


def save_shared(root: Path, relative: str, **arrays: NDArray[Any]) -> Path:
    path = root / relative
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


STATIC = "mnist_static_binarized/binarized_mnist_packed.npz"
OMNIGLOT = "omniglot/omniglot_28_area.npz"


def test_static_mnist_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    bits = np.random.default_rng(0).random((9, 784)) < 0.5
    parts = {"train": bits[:4], "valid": bits[4:6], "test": bits[6:]}
    save_shared(tmp_path, STATIC, **{part: np.packbits(rows, axis=1) for part, rows in parts.items()})
    data = load("static-mnist")
    assert data.binary
    assert data.shape == (28, 28)
    for part, rows in parts.items():
        assert np.array_equal(getattr(data, part).numpy(), rows)


def test_static_mnist_must_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    unpacked = np.zeros((4, 784), np.uint8)
    path = save_shared(tmp_path, STATIC, train=unpacked, valid=unpacked, test=unpacked)
    refused("static-mnist", f"'{path}': uint8 of shape (4, 784) is no packed MNIST")
    save_shared(tmp_path, STATIC, train=unpacked, test=unpacked)
    refused("static-mnist", f"cannot read '{path}': it has no array 'valid', only 'train', 'test'")


def test_omniglot_tests_on_the_evaluation_alphabets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    evaluation = np.arange(50) % 5 == 0
    save_shared(tmp_path, OMNIGLOT, X=numbered(50), evaluation=evaluation, alphabet_names=np.array(["Greek"]))
    data = load("omniglot")
    assert numbers(data.test) == np.flatnonzero(evaluation).tolist()
    assert len(data.valid) == 4
    assert sorted(numbers(data.train) + numbers(data.valid)) == np.flatnonzero(~evaluation).tolist()
    assert torch.equal(load("omniglot").valid, data.valid)


def test_omniglot_needs_a_flag_per_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    path = save_shared(tmp_path, OMNIGLOT, X=numbered(50), evaluation=np.zeros(49, bool))
    refused("omniglot", f"'{path}': evaluation is bool of shape (49,)")


@pytest.mark.parametrize(("name", "relative"), [("static-mnist", STATIC), ("omniglot", OMNIGLOT)])
def test_sets_that_cannot_be_downloaded(
    name: str, relative: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(name, f"SOFTHOT_DATA is not set; set SOFTHOT_DATA to a folder that holds {relative}")
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    refused(name, f"{str(tmp_path)!r} does not hold {relative}")
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path / "absent"))
    refused(name, f"SOFTHOT_DATA={str(tmp_path / 'absent')!r} is no folder")
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    (tmp_path / relative).parent.mkdir()
    (tmp_path / relative).write_bytes(b"PK\x03\x04 and no more")
    refused(name, f"cannot read '{tmp_path / relative}': it is no complete .npz file")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnst", "unknown data set 'mnst'; did you mean 'mnist'?"),
        ("static_mnist", "did you mean 'static-mnist'?"),
        ("", "unknown data set ''"),
        ("a\0b", r"unknown data set 'a\x00b'"),
        ("two\nlines", r"unknown data set 'two\nlines'"),
        ("./digits", "'./digits' does not exist"),
        ("absent.npz", "'absent.npz' does not exist"),
        ("~nobody-of-this-name/x", "cannot read '~nobody-of-this-name/x'"),
        ("x" * 5000, "cannot read 'xxx"),
    ],
)
def test_unknown_names_and_paths(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(name, message)


# by path


GREY = numbered(20, 3, 4)


def as_idx(folder: Path, images: NDArray[Any]) -> Path:
    (folder / "set.idx").write_bytes(idx(images))
    return folder / "set.idx"


def as_idx_gz(folder: Path, images: NDArray[Any]) -> Path:
    (folder / "set.gz").write_bytes(gzip.compress(idx(images)))
    return folder / "set.gz"


def as_npy(folder: Path, images: NDArray[Any]) -> Path:
    np.save(folder / "set.npy", images)
    return folder / "set.npy"


def as_npz(folder: Path, images: NDArray[Any]) -> Path:
    np.savez(folder / "set.npz", images=images)
    return folder / "set.npz"


def as_pictures(folder: Path, images: NDArray[Any]) -> Path:
    (folder / "set").mkdir()
    save_pictures(folder / "set", images)
    (folder / "set" / "notes.txt").write_text("not a picture")
    (folder / "set" / "._000.png").write_text("nor is this")
    return folder / "set"


FORMATS = [as_idx, as_idx_gz, as_npy, as_npz, as_pictures]


@pytest.mark.parametrize("save", FORMATS)
def test_one_array_is_split_80_10_10(save: Callable[[Path, NDArray[Any]], Path], tmp_path: Path) -> None:
    path = save(tmp_path, GREY)
    data = load(str(path))
    assert (data.name, data.shape, data.source) == ("set", (3, 4), str(path))
    assert [len(part) for part in (data.train, data.valid, data.test)] == [16, 2, 2]
    together = torch.cat([data.train, data.valid, data.test])
    assert sorted(numbers(together)) == list(range(20))
    assert torch.equal(together, torch.from_numpy(GREY).reshape(20, 12)[numbers(together)] / 255)
    assert all(torch.equal(getattr(load(str(path)), part), getattr(data, part)) for part in ("train", "test"))


@pytest.mark.parametrize("valid", [True, False])
def test_named_arrays_are_the_parts(valid: bool, tmp_path: Path) -> None:
    parts = {"train": GREY[:12], "test": GREY[17:], "labels": np.arange(20)}
    np.savez(tmp_path / "set.npz", **parts, **({"valid": GREY[12:17]} if valid else {}))
    data = load(str(tmp_path / "set.npz"))
    assert numbers(data.test) == [17, 18, 19]
    if valid:
        assert numbers(data.train) == list(range(12))
        assert numbers(data.valid) == list(range(12, 17))
    else:
        assert len(data.valid) == 1
        assert sorted(numbers(data.train) + numbers(data.valid)) == list(range(12))


def test_a_folder_of_idx_files(tmp_path: Path) -> None:
    (tmp_path / TRAIN).write_bytes(idx(GREY))
    (tmp_path / f"{TEST}.gz").write_bytes(gzip.compress(idx(GREY[:3])))
    data = load(str(tmp_path))
    assert numbers(data.test) == [0, 1, 2]
    assert sorted(numbers(data.train) + numbers(data.valid)) == list(range(20))
    (tmp_path / f"{TEST}.gz").unlink()
    refused(tmp_path, f"cannot read '{tmp_path / TEST}.gz': No such file")


@pytest.mark.parametrize("dtype", [bool, np.float16, np.float32, ">f4", np.float64])
def test_booleans_and_floats_are_taken_as_they_are(dtype: Any, tmp_path: Path) -> None:
    images = (np.arange(10 * 4).reshape(10, 2, 2) % 2).astype(dtype)
    data = load(str(as_npy(tmp_path, images)))
    assert data.binary
    assert data.train.dtype == torch.float32
    assert sorted(data.train.unique().tolist()) == [0.0, 1.0]


def test_rows_are_square_images(tmp_path: Path) -> None:
    assert load(str(as_npy(tmp_path, np.ones((10, 49))))).shape == (7, 7)
    refused(as_npy(tmp_path, np.ones((10, 50))), "shape (10, 50) is no stack")


def test_a_name_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    save_pictures(Path("digits"), GREY)
    assert load("digits").source == "scikit-learn, load_digits"
    assert load("./digits").shape == (3, 4)
    monkeypatch.chdir("digits")
    assert load(".").name == "digits"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/digits").shape == (3, 4)


UNIT = np.linspace(0, 1, 10 * 6).reshape(10, 2, 3)


def with_value(value: float) -> NDArray[Any]:
    images = UNIT.copy()
    images[:, 0, 0] = value
    return images


BAD_ARRAYS = {
    "NaN": (with_value(math.nan), "holds NaN"),
    "infinite": (with_value(math.inf), "holds values from 0"),
    "too large for float32": (with_value(1e300), "to inf, which are not all in [0, 1]"),
    "negative": (with_value(-0.5), "holds values from -0.5 to"),
    "signed integers": (numbered(10, 3, 4).astype(np.int64), "pixels of type int64 have no known range"),
    "complex": (UNIT.astype(complex), "pixels of type complex128"),
    "text": (np.full((10, 2, 2), "x"), "pixels of type <U1"),
    "binary as uint8": (np.ones((10, 2, 2), np.uint8), "save binary images as images.astype(bool)"),
    "too few": (UNIT[:9], "9 images are too few to train on; pass at least 10"),
    "no images": (UNIT[:0], "shape (0, 2, 3) is no stack"),
    "no rows": (np.zeros((0, 4)), "shape (0, 4) is no stack"),
    "no pixels": (UNIT[:, :0], "shape (10, 0, 3) is no stack"),
    "a number": (np.array(0.5), "shape () is no stack"),
    "colour": (np.zeros((10, 2, 2, 3)), "shape (10, 2, 2, 3) is no stack"),
}


@pytest.mark.parametrize(("images", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
@pytest.mark.parametrize("save", [as_npy, as_npz])
def test_arrays_that_are_no_images(
    save: Callable[[Path, NDArray[Any]], Path], images: NDArray[Any], message: str, tmp_path: Path
) -> None:
    path = save(tmp_path, images)
    refused(path, message, str(path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds no arrays"),
        ({"train": UNIT, "labels": UNIT}, "holds 'train', 'labels'; save one array of images"),
        ({"train": UNIT, "test": UNIT.reshape(10, 3, 2)}, "several sizes, [(2, 3), (3, 2)]"),
        ({"train": UNIT[:9], "test": UNIT}, "9 images are too few"),
        ({"train": UNIT, "test": UNIT, "valid": UNIT[:0]}, "shape (0, 2, 3) is no stack"),
        ({"images": np.array([{}], object)}, "Object arrays cannot be loaded"),
    ],
)
def test_npz_files_that_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    refused(path, message, str(path))


def entry(images: NDArray[Any]) -> bytes:
    """An array as it stands in an .npz file."""
    stream = io.BytesIO()
    np.save(stream, images)
    return stream.getvalue()


def as_entries(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04N."], ids=["empty", "text", "a pickle"])
@pytest.mark.parametrize(
    ("data", "intact", "name"),
    [
        ("set.npz", {}, "images"),
        ("set.npz", {"train": UNIT}, "test"),
        ("static-mnist", {"train": np.zeros((4, 98), np.uint8), "valid": np.zeros((4, 98), np.uint8)}, "test"),
        ("omniglot", {"X": UNIT}, "evaluation"),
    ],
)
def test_entries_that_are_no_arrays(
    content: bytes,
    data: str,
    intact: dict[str, NDArray[Any]],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    path = tmp_path / {"static-mnist": STATIC, "omniglot": OMNIGLOT}.get(data, data)
    path.parent.mkdir(exist_ok=True)
    as_entries(path, {**{part: entry(images) for part, images in intact.items()}, name: content})
    refused(path if data == "set.npz" else data, f"cannot read {str(path)!r}: its entry {name!r} is no array;")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_entries_are_images_or_a_value_error(data: st.DataObject, tmp_path: Path) -> None:
    """Whole entries and damaged ones, in archives that are intact: no checksum keeps them from NumPy."""
    whole = [b"", b"hello", *(entry(images) for images, _ in BAD_ARRAYS.values()), entry(UNIT), entry(GREY)]
    path = tmp_path / "set.npz"
    entries = {}
    for name in data.draw(st.sampled_from([["images"], ["train", "test"], ["train", "valid", "test"], ["a/b"]])):
        content = data.draw(st.sampled_from(whole))
        at = data.draw(st.integers(0, len(content)))
        entries[name] = content if at == len(content) else damaged(content, at, data.draw(st.integers(0, 8)))
    as_entries(path, entries)
    found = attempt(path, path)
    assert found is None or found.train.shape[1] == math.prod(found.shape)


def picture(mode: str, colour: Any = 0, size: tuple[int, int] = (4, 3)) -> Callable[[Path], None]:
    return lambda path: Image.new(mode, size, colour).save(path)


def palette_with_a_hole(path: Path) -> None:
    Image.new("P", (4, 3)).save(path, transparency=b"\0")


def two_frames(path: Path) -> None:
    first, second = (Image.new("L", (4, 3), grey) for grey in (0, 255))
    first.save(path, "GIF", save_all=True, append_images=[second])


def half_a_picture(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


BAD_PICTURES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another size": (picture("L", size=(5, 3)), "is (3, 5) (height, width), but '000.png' is (3, 4)"),
    "16 bits": (picture("I;16"), "more than 8 bits"),
    "32 bits": (lambda path: Image.new("I", (4, 3)).save(path, "TIFF"), "more than 8 bits"),
    "transparent": (picture("RGBA", (9, 9, 9, 254)), "transparent pixels"),
    "transparent palette": (palette_with_a_hole, "transparent pixels"),
    "animated": (two_frames, "several frames"),
    "text": (lambda path: path.write_text("no picture"), "cannot identify image file"),
    "EPS": (lambda path: Image.new("L", (4, 3)).save(path, "EPS"), "cannot identify image file"),
    "empty": (lambda path: path.touch(), "cannot identify image file"),
    "truncated": (half_a_picture, "runcated"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "a pipe": (lambda path: os.mkfifo(path), "is a pipe or a device"),
}


@pytest.mark.parametrize(("save", "message"), BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_pictures_that_are_refused(save: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    save_pictures(tmp_path, GREY)
    save(tmp_path / "bad.png")
    refused(tmp_path, message, str(tmp_path / "bad.png"))


@pytest.mark.parametrize(
    ("mode", "colour", "grey"),
    [("1", 1, 1.0), ("RGB", (255, 0, 0), 76 / 255), ("RGBA", (255, 255, 255, 255), 1.0), ("LA", (51, 255), 0.2)],
)
def test_colours_become_grey(mode: str, colour: Any, grey: float, tmp_path: Path) -> None:
    for number in range(10):
        picture(mode, colour)(tmp_path / f"{number}.png")
    assert load(str(tmp_path)).test.unique().tolist() == pytest.approx([grey])


def test_other_files_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, f"'{tmp_path}' holds no pictures")
    for name, content in {"notes.txt": b"hello", "empty.npy": b"", "odd\nname.png": b"\x89PNG"}.items():
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, f"{str(path)!r} is no IDX, .npy or .npz file")


def test_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHOT_DATA", str(tmp_path))
    paths = {"static-mnist": tmp_path / STATIC, "mnist": tmp_path / "mnist" / TRAIN, "set.npz": tmp_path / "set.npz"}
    for data, path in paths.items():
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
        refused(path if data == "set.npz" else data, f"cannot read {str(path)!r}: it is a pipe or a device")


def test_a_path_with_a_line_break_still_gives_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "two\nlines"
    folder.mkdir()
    refused(as_npy(folder, np.zeros(3)), "no stack")
    refused(as_npy(folder, with_value(math.nan)), "NaN")
    refused(as_npy(folder, UNIT[:2]), "too few")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = as_npy(tmp_path, UNIT)
    path.chmod(0)
    refused(path, f"cannot read {str(path)!r}: Permission denied")


# IDX


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_reads_what_was_written(dtype: Any, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4)).astype(dtype)
    path = tmp_path / "images"
    path.write_bytes(pack(idx(images)))
    read = read_idx(path)
    assert read.dtype == np.dtype(dtype).newbyteorder(">")
    assert np.array_equal(read, images)


def header(*sizes: int, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


WHOLE = idx(GREY)
BAD_IDX = {
    "nothing": (b"", "begins with nothing"),
    "three bytes": (WHOLE[:3], "begins with 000008, but IDX images begin with 00000803"),
    "text": (b"hello", "begins with 68656c6c"),
    "labels": (idx(np.zeros(12, np.uint8)), "rank 1, like labels"),
    "another type": (idx(GREY.astype(np.int16)), "data type is 0x0b"),
    "half a header": (WHOLE[:10], "ends within its header"),
    "no images": (header(0, 3, 4), "shape (0, 3, 4), which is empty"),
    "truncated": (WHOLE[:-1], "ends after 239 of the 240 bytes"),
    "truncated early": (WHOLE[:20], "more than a file of its size can hold"),
    "too long": (WHOLE + b"\0", "goes on after the 240 bytes"),
    "a huge promise": (header(*[2**32 - 1] * 3, code=0x0E), "more than a file of its size can hold"),
    "gzip, a huge promise": (gzip.compress(header(60_000, 28, 28)), "more than a file of its size can hold"),
    "gzip, cut content": (gzip.compress(WHOLE[:-1]), "ends after 239 of the 240 bytes"),
    "gzip, bomb": (gzip.compress(WHOLE + bytes(10_000_000)), "goes on after the 240 bytes"),
    "gzip, truncated": (gzip.compress(WHOLE)[:-9], "end-of-stream"),
    "gzip, header only": (gzip.compress(WHOLE)[:2], "cannot read"),
    "gzip, wrong checksum": (gzip.compress(WHOLE)[:-8] + bytes(8), "CRC check failed"),
    "gzip, trailing garbage": (gzip.compress(WHOLE) + b"garbage", "Not a gzipped file"),
}


@pytest.mark.parametrize(("content", "message"), BAD_IDX.values(), ids=BAD_IDX)
def test_damaged_idx_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"cannot read {str(path)!r}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("intact")
    files = [save(folder, GREY) for save in FORMATS if save is not as_pictures]
    return {path.name: path for path in [*files, as_pictures(folder, GREY) / "001.png"]}


def damaged(content: bytes, at: int, bit: int) -> bytes:
    """Cut, or with one bit flipped if there is such a bit."""
    return content[:at] + (bytes([content[at] ^ 1 << bit]) + content[at + 1 :] if bit < 8 else b"")


@pytest.mark.parametrize("name", ["set.idx", "set.gz", "set.npy", "set.npz", "001.png"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_gives_images_or_a_value_error(name: str, data: st.DataObject, intact: dict[str, Path]) -> None:
    path = intact[name]
    content = path.read_bytes()
    path.write_bytes(damaged(content, data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 8))))
    try:
        found = attempt(path.parent if path.suffix == ".png" else path, path)
    finally:
        path.write_bytes(content)
    if found is not None:
        assert found.train.shape[1] == math.prod(found.shape)
        if name in ("set.idx", "set.gz"):
            assert found.shape == (3, 4)
            assert len(found.train) + len(found.valid) + len(found.test) == 20


# ImageData


ROWS = torch.full((2, 6), 0.5)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (ROWS.double(), "train is torch.float64, not torch.float32"),
        (
            ROWS.reshape(2, 2, 3),
            "train has shape (2, 2, 3), but images of 2 x 3 are rows of 6; pass train=train.reshape(-1, 6)",
        ),
        (ROWS[:, :4], "train has shape (2, 4)"),
        (ROWS[:0], "train is empty"),
        (ROWS * math.nan, "train holds NaN"),
        (ROWS * 3, "train holds values from 1.5 to 1.5"),
    ],
)
def test_image_data_is_checked(unchecked: None, train: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"'made up': {message}")):
        ImageData("toy", train, ROWS, ROWS, shape=(2, 3), source="made up")


# binarisation


def columns(n: int, *greys: float) -> ImageData:
    rows = torch.tensor(greys).repeat(n, 1)
    return ImageData("columns", rows, rows, rows, shape=(1, len(greys)), source="made up")


def hoeffding(n: int, components: int) -> float:
    """How far the mean of n draws in [0, 1] strays in any component with probability at most FALSE_ALARM."""
    return math.sqrt(math.log(2 * components / FALSE_ALARM) / (2 * n))


def test_dynamic_draws_have_the_frequencies_of_the_greys() -> None:
    greys = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    n = 20_000
    ready = prepare(columns(n, *greys.tolist()), "dynamic")
    generator = torch.Generator().manual_seed(1)
    first, second = ready.train_epoch(generator), ready.train_epoch(generator)
    agreement = (first == second).float()
    limit = hoeffding(n, components=5 * len(greys))
    for draws in (first, second, ready.valid, ready.test):
        assert draws.unique().tolist() == [0.0, 1.0]
        assert (draws.mean(0) - greys).abs().max() <= limit
    assert (agreement.mean(0) - (greys**2 + (1 - greys) ** 2)).abs().max() <= limit
    assert not torch.equal(ready.valid, ready.test)


def test_dynamic_draws_follow_the_generator_and_evaluation_is_fixed() -> None:
    data = load("digits")
    one, two = prepare(data, "dynamic"), prepare(data, "dynamic")
    assert torch.equal(one.valid, two.valid)
    assert torch.equal(one.test, two.test)
    generator = torch.Generator().manual_seed(3)
    epoch = one.train_epoch(generator)
    assert torch.equal(epoch, two.train_epoch(torch.Generator().manual_seed(3)))
    assert not torch.equal(epoch, one.train_epoch(generator))


def test_threshold_cuts_above_one_half() -> None:
    ready = prepare(columns(3, 0.0, 0.5, 0.51, 1.0), "threshold")
    for part in (ready.train_epoch(torch.Generator()), ready.valid, ready.test):
        assert part.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 3


def test_none_keeps_the_greys() -> None:
    data = columns(3, 0.25, 0.75)
    ready = prepare(data, "none")
    assert all(torch.equal(part, data.train) for part in (ready.train_epoch(torch.Generator()), ready.test))


@pytest.mark.parametrize("mode", MODES)
def test_binary_images_are_unchanged(mode: str) -> None:
    data = columns(3, 0.0, 1.0, 1.0)
    ready = prepare(data, mode)
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    assert torch.equal(ready.train_epoch(generator), data.train)
    assert torch.equal(ready.valid, data.valid)
    assert torch.equal(generator.get_state(), before)


def test_unknown_modes_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown binarisation 'treshold'; did you mean 'threshold'"):
        prepare(columns(1, 0.5), "treshold")


# the whole


def test_importing_the_room_is_cheap() -> None:
    heavy = "import sys, softhot.problems.data; print([m for m in ('sklearn', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


REAL = {
    "mnist": ((50_000, 10_000, 10_000), 0.1307, False),
    "static-mnist": ((50_000, 10_000, 10_000), 0.1306, True),
    "omniglot": ((17_352, 1_928, 13_180), 0.0779, False),
}


@pytest.mark.skipif(not SHARED, reason="SOFTHOT_DATA is not set")
@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHOT_DATA", str(SHARED))
    sizes, mean, binary = REAL[name]
    data = load(name)
    assert (len(data.train), len(data.valid), len(data.test)) == sizes
    assert data.shape == (28, 28)
    assert data.binary is binary
    assert data.train.mean().item() == pytest.approx(mean, abs=5e-4)
