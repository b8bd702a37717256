"""What is read of a folder: a whole study, one that is half finished or damaged, and a single run."""

import base64
import io
import json

import pytest
import torch
from PIL import Image

from softhot.cli import main
from softhot.lab.config import Config
from softhot.lab.study.archive import describe, read
from softhot.lab.study.record import table
from softhot.lab.training.images import encoded
from softhot.lab.training.single import Session
from tests.studies import STUDY, drawn, trained

TINY = Config(epochs=2, latents=2, classes=2, hidden=(8,), estimator="reinmax")


@pytest.fixture
def study(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "study.json").write_text(json.dumps(STUDY))
    for i, record in enumerate(drawn()):
        (tmp_path / f"runs/{i:02}.json").write_text(json.dumps(record))
    return tmp_path


def test_a_study_is_read_and_rendered(study, capsys):
    (study / "study.toml").write_text("seeds = 2")
    about, records = read(study)
    assert about == {**STUDY, "toml": "seeds = 2", "damaged": []}
    assert records == drawn()
    assert main(["report", str(study)]) == 0
    assert capsys.readouterr().out.split() == [*f"14 run(s): {study}/report.html".split()]
    assert "seeds = 2" in (study / "report.html").read_text()
    assert main(["report", str(study), "--out", str(study / "other.html")]) == 0
    assert (study / "other.html").read_text() == (study / "report.html").read_text()


@pytest.mark.parametrize(
    "text", ['{"arm": "rein', "[]", '{"arm": 3}', json.dumps({**drawn()[0], "curve": [{}]}), '{"elbo": 1}']
)
def test_a_broken_record_is_left_out_and_named(study, capsys, text):
    (study / "runs/03.json").write_text(text)
    assert len(read(study)[1]) == 13
    assert main(["report", str(study)]) == 0
    assert "left out, broken: runs/03.json\n" in capsys.readouterr().out
    assert "Left out, as they are broken: runs/03.json." in (study / "report.html").read_text()


def test_a_study_is_described_without_its_records(study):
    (study / "study.toml").write_text("seeds = 2")
    (study / "runs/03.json").write_text("{")
    assert describe(study) == {**STUDY, "toml": "seeds = 2", "damaged": []}


def test_a_study_without_its_description_is_read(study):
    (study / "study.json").write_text("{")
    assert read(study) == ({"damaged": ["study.json"]}, drawn())
    (study / "study.json").unlink()
    assert len(read(study)[1]) == 14


def test_runs_of_what_is_no_longer_chosen_are_left_out(study):
    arm = drawn()[0]["arm"]
    choice = {"arm": arm, "chosen": {"latents": 6}, "valid_elbo": -1.0, "candidates": []}
    (study / "study.json").write_text(json.dumps({**STUDY, "choices": [choice]}))
    assert len(read(study)[1]) == 14
    choice["chosen"] = {"latents": 7}
    (study / "study.json").write_text(json.dumps({**STUDY, "choices": [choice]}))
    assert read(study) == ({**STUDY, "choices": [choice], "damaged": []}, drawn()[2:])


def test_a_study_before_its_first_run_is_read(tmp_path, capsys):
    (tmp_path / "study.json").write_text(json.dumps(STUDY))
    assert main(["report", str(tmp_path)]) == 0
    assert "0 of 12 planned runs have finished" in (tmp_path / "report.html").read_text()


@pytest.fixture(scope="module")
def whole():
    (record,) = trained(TINY)
    return record


def test_a_single_run_is_read(tmp_path, whole):
    session = Session.start(TINY, tmp_path)
    scores = session.train()
    about, (record,) = read(tmp_path)
    assert about == {}
    for name in ("arm", "estimator", "term", "data", "bounds", "elbo", "objective", "gap", "valid_elbo", "evaluations"):
        assert record[name] == whole[name], name
    assert record["elbo"] == scores.elbo
    assert [row["valid_elbo"] for row in record["curve"]] == [row["valid_elbo"] for row in whole["curve"]]
    assert record["pictures"].keys() == whole["pictures"].keys()
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text().count("<img") == 2
    for name in ("scores.json", "samples.png", "reconstructions.png"):
        (tmp_path / name).unlink()
    (record,) = read(tmp_path)[1]  # as it is while it trains
    assert "elbo" not in record
    assert record["pictures"] == {}
    (tmp_path / "metrics.csv").write_text("epoch,valid_elbo\n1,high\n")
    with pytest.raises(ValueError, match="does not hold the epochs of a run"):
        read(tmp_path)


@pytest.mark.parametrize("arguments", [["missing"], ["."], [".", "--out", "missing/report.html"]])
def test_what_cannot_be_read_or_written_is_refused_in_one_line(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    if "--out" in arguments:
        (tmp_path / "study.json").write_text("{}")
    assert main(["report", *arguments]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert ("cannot write" if "--out" in arguments else "holds no study and no run; give a folder") in text


def test_a_record_has_pictures_and_a_price_and_its_row_no_pictures(whole):
    assert whole["gradient"]["evaluations"] == 1
    for name, size in {"reconstructions": (100, 20), "samples": (100, 30)}.items():
        with Image.open(io.BytesIO(base64.b64decode(whole["pictures"][name]))) as image:
            assert image.size == size
    (row,) = table([whole])
    assert not {"pictures", "curve"} & row.keys()


def test_pictures_are_encoded_within_half_a_shade():
    images = torch.rand(2, 3, 20)
    with Image.open(io.BytesIO(base64.b64decode(encoded(images, (4, 5))))) as image:
        assert image.size == (3 * 7, 2 * 6)
        pixels = torch.tensor(list(image.convert("L").tobytes())).view(12, 21) / 255
    tiles = pixels.unflatten(0, (2, 6)).unflatten(-1, (3, 7)).permute(0, 2, 1, 3)
    torch.testing.assert_close(tiles[..., 1:-1, 1:-1].flatten(-2), images, atol=0.5 / 15 + 1e-6, rtol=0)
