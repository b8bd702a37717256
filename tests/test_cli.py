"""The command line: what it prints, what it writes, and one line with status 2 for bad input."""

import json
import os
import subprocess
import sys

import pytest

from softhot.cli import main

PROBS = ["--probs", "0.5", "0.25", "0.125", "0.125"]
TINY = ["--epochs", "1", "--latents", "2", "--classes", "2", "--hidden", "8"]


@pytest.fixture(autouse=True)
def _wide(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("SOFTHOT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def test_entropy_prints_known_values(capsys):
    assert main(["entropy", *PROBS, "--temperature", "10", "1", "--samples", "10000", "--seed", "0"]) == 0
    text = capsys.readouterr().out
    assert "E[log q] in nats, 10,000 draws, seed 0" in text
    for number in ("-1.2130", "-1.5263", "6.9432", "-1.3156", "2.7527", "0.272 0.254 0.237 0.237", "0.421 0.261 0.159"):
        assert number in text


def test_entropy_prints_the_same_for_a_program(capsys):
    assert main(["entropy", *PROBS, "--temperature", "10", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["temperature"] for one in found["temperatures"]] == [10.0, 1.0]
    assert found["discrete"]["log_q"]["exact"] == pytest.approx(-1.2130, abs=5e-5)
    assert found["temperatures"][1]["log_q"]["concrete"]["exact"] == pytest.approx(2.7527, abs=5e-5)


def test_entropy_takes_logits_with_signs_and_infinities(capsys):
    assert main(["entropy", "--logits", "-1", "-inf", "2.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["probs"][1] == 0.0


def test_entropy_draws(tmp_path):
    assert main(["entropy", *PROBS, "--temperature", "10", "1", "--plot", "terms.html"]) == 0
    page = (tmp_path / "terms.html").read_text()
    assert "plotly" in page
    assert "discrete" in page


def test_train_writes_a_run_and_resumes_it(capsys, tmp_path):
    arguments = ["train", "--estimator", "reinmax", *TINY[2:], "--out", "run"]
    assert main([*arguments, "--epochs", "1"]) == 0
    assert main([*arguments, "--epochs", "2", "--resume"]) == 0
    assert main([*arguments[:-1], "whole", "--epochs", "2"]) == 0
    assert json.loads((tmp_path / "run/scores.json").read_text()) == json.loads(
        (tmp_path / "whole/scores.json").read_text()
    )
    assert "discrete ELBO" in capsys.readouterr().out
    assert (tmp_path / "run/reconstructions.png").read_bytes().startswith(b"\x89PNG")


def test_train_and_compare_take_a_mixture_of_flows(capsys):
    arguments = ["--estimator", "mixture-of-discrete-flows", "--components", "3", "--term", "mixture"]
    assert main(["train", *arguments, *TINY]) == 0
    assert "B=3 t=1 + mixture: the objective bounds the discrete log-likelihood" in capsys.readouterr().out
    arguments[1:2] = ["reinmax", "exact", "mixture-of-discrete-flows"]
    arguments += ["categorical", "product-of-mixtures", "--temperature", "1", "--seeds", "1"]
    assert main(["compare", *arguments, *TINY]) == 0
    text = capsys.readouterr().out
    assert "skipped reinmax, exact with mixture, product-of-mixtures: the term is that of a mixture of flows" in text
    assert "skipped mixture-of-discrete-flows with categorical: the term is that of independent variables" in text
    assert "mixture-of-discrete-flows B=3 t=1 + product-of-mixtures" in text


def test_train_says_that_grey_pixels_have_no_likelihood(capsys):
    assert main(["train", "--binarise", "none", *TINY]) == 0
    assert "cross-entropies" in capsys.readouterr().out


def test_compare_writes_a_table_and_a_report_and_goes_on(capsys, tmp_path):
    arguments = ["compare", *TINY, "--estimator", "reinmax", "gumbel-softmax", "--term", "categorical", "concrete"]
    arguments += ["--temperature", "0.5", "--out", "study", "--plot", "overview.html"]
    assert main([*arguments, "--seeds", "1"]) == 0
    text = capsys.readouterr().out
    assert "skipped reinmax with concrete: the term has a temperature" in text
    assert "best discrete ELBO" in text
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "study/runs").iterdir()}
    assert len(before) == 3
    assert main([*arguments, "--seeds", "2"]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "study/runs").iterdir()}
    assert len(after) == 6
    assert before.items() <= after.items()
    assert len((tmp_path / "study/records.csv").read_text().splitlines()) == 7
    page = (tmp_path / "study/report.html").read_text()
    assert "gumbel-softmax t=0.5 + concrete" in page
    assert (tmp_path / "overview.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["entropy", "--probs", "0.5", "0.2"], "sums to 0.7"),
        (["entropy", "--probs", "1.5", "-0.5"], "smallest entry -0.5"),
        (["entropy", "--logits", "nan", "1"], "logits has NaN"),
        (["entropy", *PROBS, "--temperature", "-1"], "temperature=-1.0"),
        (["entropy", *PROBS, "--samples", "1"], "samples=1"),
        (["entropy", *PROBS, "--plot", "terms.gif"], ".gif"),
        (["entropy"], "--probs or --logits"),
        (["entropy", "--probs", "x"], "--probs"),
        (["entropi"], "entropy"),
        (["entropy", "--probz", "1"], "--probs"),
        (["train", "--estimator", "reinmx"], "did you mean 'reinmax'"),
        (["train", "--term", "jangg"], "did you mean 'jang'"),
        (["train", "--data", "digit"], "did you mean 'digits'"),
        (["train", "--data", "no/such/file.npz"], "no/such/file.npz"),
        (["train", "--data", "static-mnist"], "SOFTHOT_DATA"),
        (["train", "--binarise", "treshold"], "did you mean 'threshold'"),
        (["train", "--temperature", "0"], "temperature=0.0"),
        (["train", "--resume"], "no run to resume"),
        (["compare", "--estimator", "reinmax", "--term", "concrete"], "go together"),
        (["compare", "--seeds", "0"], "--seeds 0"),
        (["compare", "--workers", "0"], "--workers 0"),
        (["compare", "--plot", "no/such.html"], "no folder 'no'"),
        (["compare", "--term", "concretee"], "did you mean 'concrete'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, arguments, message):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.startswith("softhot: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("damage", ["corrupt", "another model"])
def test_bad_checkpoints_are_one_line_and_status_2(capsys, tmp_path, damage):
    arguments = ["train", *TINY, "--out", "run"]
    assert main(arguments) == 0
    if damage == "corrupt":
        (tmp_path / "run/checkpoint.safetensors").write_bytes(b"not tensors")
    else:
        arguments[arguments.index("--hidden") + 1] = "9"
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "run/checkpoint.safetensors" in captured.err


def test_control_c_is_one_line_and_keeps_what_is_finished(capsys, monkeypatch, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("softhot.lab.single.checkpoint.save", interrupt)
    assert main(["train", *TINY, "--out", "run"]) == 130
    assert capsys.readouterr().err.startswith("softhot: stopped; what is finished is kept")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, "--out", "run", "--resume"]) == 0


def test_no_arguments_print_help(capsys):
    assert main([]) == 0
    assert "compare" in capsys.readouterr().out


def test_the_installed_command_prints_no_traceback():
    command = [sys.executable, "-c", "import sys; from softhot.cli import main; sys.exit(main())"]
    done = subprocess.run([*command, "train", "--data", "mnst"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert done.stderr.startswith("softhot: unknown data set 'mnst'; did you mean 'mnist'? known: digits, mnist,")
    assert done.stderr.count("\n") == 1


def test_import_is_light():
    heavy = {"sklearn", "plotly", "typer", "rich", "PIL", "scipy"}
    code = f"import sys, softhot; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
