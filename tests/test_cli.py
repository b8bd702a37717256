"""The command line: what it prints, what it writes, and one line with status 2 for bad input."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from typer.main import get_command

import softhot
from softhot.cli import main
from softhot.cli.app import app
from softhot.estimators import ESTIMATORS
from softhot.kl import TERMS
from softhot.problems import PROBLEMS
from softhot.problems.data import DATA

PROBS = ["--probs", "0.5", "0.25", "0.125", "0.125"]
TINY = ["--epochs", "1", "--latents", "2", "--classes", "2", "--hidden", "8"]
ROOT = Path(__file__).parent.parent
COMMAND = re.compile(r"^    (?:SOFTHOT_DATA=\S+ )?(?:\.venv/bin/)?softhot (.+)", re.M)  # in a block
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/*.md")]


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


def test_train_takes_the_gaussian_relaxation_with_its_own_divergence(capsys):
    assert main(["train", "--estimator", "invertible-gaussian", "--term", "gaussian-exact", *TINY]) == 0
    assert "the objective bounds the log-likelihood of the relaxed model" in capsys.readouterr().out


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


def test_gradients_prints_draws_and_writes(capsys, tmp_path):
    arguments = ["gradients", *TINY[2:], "--estimator", "score-function", "reinmax", "--baseline", "none", "learned"]
    assert main([*arguments, "--temperature", "1", "2", "--draws", "32", "--learn", "20", "--out", "g"]) == 0
    text = capsys.readouterr().out
    for part in ("Gradient of the encoder, digits", "Gradient of the decoder", "(exact)", "reinmax t=2", "a budget of"):
        assert part in text
    header, *rows = (tmp_path / "g/gradients.csv").read_text().splitlines()
    labels = ["score-function none baseline", "score-function learned baseline", "reinmax t=1", "reinmax t=2"]
    assert [row.split(",")[1] for row in rows] == labels
    assert {"encoder_mse", "decoder_cosine_low", "encoder_variance_times_seconds"} <= set(header.split(","))
    assert [row["estimator"] for row in json.loads((tmp_path / "g/gradients.json").read_text())] == labels
    assert "plotly" in (tmp_path / "g/gradients.html").read_text()


def test_gradients_of_a_problem_are_the_same_for_a_program(capsys):
    assert main(["gradients", "--problem", "random-quadratic", "--estimator", "reinmax", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["encoder_bias_z"] < 4
    assert found["truth"] == "exact"
    assert "decoder_bias" not in found


def test_gradients_of_a_checkpoint_and_along_its_run(capsys, monkeypatch, tmp_path):
    train = ["train", "--estimator", "relax", *TINY[2:], "--epochs", "2", "--keep-every", "1", "--out", "run"]
    assert main(train) == 0
    assert [path.name for path in sorted((tmp_path / "run/checkpoints").iterdir())] == [
        "00001.safetensors",
        "00002.safetensors",
    ]
    capsys.readouterr()
    common = ["gradients", "--draws", "32", "--images", "4", "--json"]
    assert main([*common, "--run", "run", "--plot", "along.html"]) == 0
    along = json.loads(capsys.readouterr().out)
    assert [(row["epoch"], row["estimator"]) for row in along] == [(epoch, "relax t=1") for epoch in (0, 1, 2)]
    assert (tmp_path / "along.html").exists()
    assert main([*common, "--checkpoint", "run"]) == 0
    (last,) = json.loads(capsys.readouterr().out)
    assert {**last, "seconds": 0} | {key: 0 for key in last if "seconds" in key} == {**along[-1], "seconds": 0} | {
        key: 0 for key in last if "seconds" in key
    }
    assert main([*common, "--checkpoint", "run/checkpoints/00001.safetensors"]) == 0
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"gradients-run", "gradients-run-00001"}
    monkeypatch.chdir("run")
    assert main([*common, "--run", ".", "--estimator", "zgr", "--learn", "0"]) == 0
    assert (tmp_path / "run/results/gradients-run/gradients.csv").exists()


def test_what_is_read_from_the_folder_itself_is_named_after_it(monkeypatch, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def nothing(study, folder, **_):
        folder.mkdir()
        yield from ()

    for shade in range(20):
        Image.new("L", (4, 4), 12 * shade).save(f"{shade}.png")
    assert main(["train", "--data", ".", *TINY]) == 0
    monkeypatch.setattr("softhot.cli.compare.execute", nothing)
    assert main(["compare", "--data", ".", *TINY]) == 2  # as nothing was run
    measured = ["--draws", "32", "--images", "2", "--learn", "0", "--estimator", "zgr"]
    assert main(["gradients", "--data", ".", *TINY[2:], *measured]) == 0
    assert {path.name for path in Path("results").iterdir()} == {
        "train-set-gumbel-softmax-categorical-0",
        "compare-set",
        "gradients-set",
    }


def test_compare_writes_a_table_and_a_report_and_goes_on(capsys, tmp_path):
    arguments = ["compare", *TINY, "--estimator", "reinmax", "gumbel-softmax", "--term", "categorical", "concrete"]
    arguments += ["--temperature", "0.5", "--out", "study", "--plot", "overview.html"]
    assert main([*arguments, "--seeds", "1"]) == 0
    text = capsys.readouterr().out
    assert "skipped reinmax with concrete: the term has a temperature" in text
    assert "best discrete ELBO" in text
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "study/runs").iterdir()}
    assert len(before) == 3
    (tmp_path / "study/runs/no-run-of-it.json").write_text("{")
    assert main([*arguments, "--seeds", "2"]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "study/runs").iterdir()}
    assert len(after) == 7
    assert before.items() <= after.items()
    assert len((tmp_path / "study/records.csv").read_text().splitlines()) == 7
    page = (tmp_path / "study/report.html").read_text()
    assert "gumbel-softmax t=0.5 + concrete" in page
    assert "no-run-of-it" not in page
    assert (tmp_path / "overview.html").exists()


DESCENT = ["optimise", "--problem", "rebar", "--steps", "40", "--seeds", "2", "--out", "toy"]


def test_optimise_prints_and_writes_the_losses(capsys, tmp_path):
    assert main([*DESCENT, "--estimator", "exact", "reinmax", "gumbel-rao", "--plot", "toy.html"]) == 0
    text = capsys.readouterr().out
    assert "Exact loss of rebar (1 x 2 classes, 2 seed(s), 40 steps): at the start 0.25" in text
    assert "least possible 0.20250" in text
    assert text.index("exact  ") < text.index("reinmax  ")
    rows = (tmp_path / "toy/losses.csv").read_text().splitlines()
    assert rows[0] == "estimator,seed,step,evaluations,loss"
    assert len(rows) == 1 + 3 * 2 * 41
    assert rows[1].startswith("exact,0,0,,0.25")
    assert rows[-1].startswith(f"gumbel-rao,1,40,{40 * 16},0.2")
    for path in ("toy/losses.html", "toy.html"):
        page = (tmp_path / path).read_text()
        assert all(name in page for name in ("exact loss above 0.2025", "gumbel-rao", "by evaluations of f"))


def test_optimise_prints_the_same_for_a_program(capsys, tmp_path):
    assert main([*DESCENT, "--estimator", "zgr", "disarm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "toy/losses.json").read_text())
    assert [one["estimator"] for one in found["descents"]] == ["zgr", "disarm"]
    assert found["minimum"] == pytest.approx(0.2025)


def test_control_c_keeps_the_descents_that_are_done(capsys, monkeypatch, tmp_path):
    from softhot.lab.experiments import optimise

    descend, made = optimise._descend, []

    def interrupted(plan, name, watch):
        if name == "zgr" and "zgr" not in made:
            made.append(name)
            raise KeyboardInterrupt
        made.append(name)
        return descend(plan, name, watch)

    monkeypatch.setattr(optimise, "_descend", interrupted)
    arguments = [*DESCENT, "--estimator", "exact", "zgr", "reinmax"]
    assert main(arguments) == 130
    assert capsys.readouterr().err.startswith("softhot: stopped; what is finished is kept: run the command again")
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {"losses.csv", "losses.json", "losses.html"}
    assert "exact" in (tmp_path / "toy/losses.csv").read_text()
    assert main(arguments) == 0
    assert made == ["exact", "zgr", "zgr", "reinmax"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["entropy", "--probs", "0", "0"], "sums to 0"),
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
        (["train", "--estimator", "invertible-gaussian", "--term", "concrete"], "a variable of gumbel noise"),
        (["train", "--data", "digit"], "did you mean 'digits'"),
        (["train", "--data", "no/such/file.npz"], "no/such/file.npz"),
        (["train", "--data", "static-mnist"], "SOFTHOT_DATA"),
        (["train", "--binarise", "treshold"], "did you mean 'threshold'"),
        (["train", "--temperature", "0"], "temperature=0.0"),
        (["train", "--resume"], "no run to resume"),
        (["certify", "zgr", "--draws", "9"], "draws=9 are too few"),
        (["compare", "--estimator", "reinmax", "--term", "concrete"], "go together"),
        (["compare", "--seeds", "0"], "seeds = 0"),
        (["train", "--baseline", "learnt"], "did you mean 'learned'"),
        (["train", "--control-learning-rate", "0"], "control_learning_rate=0.0"),
        (["train", "--keep-every", "0"], "--keep-every 0"),
        (["gradients", "--problem", "reber"], "did you mean 'rebar'"),
        (["gradients", "--estimator", "reinmx"], "did you mean 'reinmax'"),
        (["gradients", "--estimator", "disarm"], "disarm cannot be measured here: the estimator is for 2 classes"),
        (["gradients", "--problem", "polynomial", "--estimator", "exact"], "exact cannot be measured here"),
        (["gradients", "--estimator", "score-function", "--baseline", "runing"], "did you mean 'running'"),
        (["gradients", "--term", "jangg"], "did you mean 'jang'"),
        (["gradients", "--draws", "8"], "--draws 8 is too few; use --draws 32"),
        (["gradients", "--images", "0"], "--images 0"),
        (["gradients", "--temperature", "0"], "temperature=0.0"),
        (["gradients", "--problem", "rebar", "--run", "x"], "--problem says what is measured; leave out --run"),
        (["gradients", "--run", "x", "--latents", "3"], "leave out --latents"),
        (["gradients", "--run", "none"], "--keep-every 1"),
        (["gradients", "--checkpoint", "none"], "cannot read the checkpoint 'none'"),
        (["gradients", "--plot", "no/such.html"], "no folder 'no'"),
        (["compare", "--workers", "0"], "--workers 0"),
        (["compare", "--plot", "no/such.html"], "no folder 'no'"),
        (["compare", "--term", "concretee"], "did you mean 'concrete'"),
        (["optimise", "--problem", "polinomial"], "did you mean 'polynomial'"),
        (["optimise", "--estimator", "reinmx"], "did you mean 'reinmax'"),
        (
            ["optimise", "--estimator", "vimco"],
            "'vimco' and problem 'polynomial' do not go together: its value is a bound",
        ),
        (["optimise", "--problem", "polynomial-four", "--estimator", "disarm"], "use Carms(samples=2)"),
        (["optimise", "--estimator", "leave-one-out", "--samples", "1"], "use samples >= 2"),
        (["optimise", "--temperature", "0"], "temperature=0.0"),
        (["optimise", "--steps", "0"], "steps=0"),
        (["optimise", "--optimiser", "adm"], "did you mean 'adam'"),
        (["optimise", "--learning-rate", "-1"], "learning_rate=-1.0"),
        (["optimise", "--plot", "no/such.html"], "no folder 'no'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, arguments, message):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.startswith("softhot: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "results").exists()


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


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def test_control_c_is_one_line_and_keeps_what_is_finished(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("softhot.lab.training.single.checkpoint.save", interrupt)
    assert main(["train", *TINY, "--out", "run"]) == 130
    assert capsys.readouterr().err == (
        "softhot: stopped; what is finished is kept: run the command again with --resume to go on\n"
    )
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, "--out", "run", "--resume"]) == 0


def test_control_c_promises_nothing_where_nothing_is_kept(capsys, monkeypatch):
    monkeypatch.setattr("softhot.cli.entropy.entropies", interrupt)
    assert main(["entropy", "--probs", "0.5", "0.5"]) == 130
    assert capsys.readouterr().err == "softhot: stopped\n"


def test_control_c_while_commands_are_imported_is_one_line(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "softhot.cli.app")
    monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=interrupt)])
    assert main(["compare"]) == 130
    monkeypatch.undo()
    told = "softhot: stopped; what is finished is kept: run the command again to go on\n"
    assert capsys.readouterr().err == told


MINE = """
from softhot.estimators import LeaveOneOut, StraightThrough

class Dear(LeaveOneOut):
    def evaluations(self, latents, classes):
        return self.samples + 1

class Needy(StraightThrough):
    def __init__(self, samples):
        pass

many = StraightThrough(samples=2)
unrelated = 3
"""


def test_certify_prints_figures_and_verdicts(capsys):
    assert main(["certify", "leave-one-out", "reinmax", "st-gumbel-softmax", "--draws", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    rows = [line.split() for line in lines[2:]]
    assert rows[0] == ["leave-one-out", "2", "x", "3", "yes", "0.0000", "2.5473", "6,561", "outcomes", "4", "right"]
    assert rows[1] == ["reinmax", "2", "x", "3", "no", "0.0833", "8.0708", "9", "outcomes", "1", "right"]
    assert rows[2][:5] == ["st-gumbel-softmax", "2", "x", "3", "no"]
    assert rows[2][-4:] == ["1,000", "draws", "1", "right"]
    assert rows[3] == ["2", "x", "2", "no", "0.6609", "1.2556", "21,316", "nodes"]
    assert len(rows) == 4


def test_certify_finds_a_mistake_in_another_module(capsys, tmp_path):
    (tmp_path / "of_mine.py").write_text(MINE)
    assert main(["certify", "of_mine:Dear", "of_mine:many"]) == 1
    text = capsys.readouterr().out
    assert "wrong" in text
    assert "of_mine:Dear, cost: 5 evaluations of f are stated for N=1 and K=2, and 4 are made" in text
    assert text.count("right") == 1


def test_certify_prints_the_same_for_a_program(capsys):
    assert main(["certify", "zgr", "disarm", "--draws", "500", "--seed", "3", "--json"]) == 0
    zgr, disarm = json.loads(capsys.readouterr().out)
    assert (zgr["name"], zgr["passed"], zgr["unbiased"], zgr["evaluations"]) == ("zgr", True, False, 1)
    assert zgr["figures"][0]["bias"] == pytest.approx(0.0833, abs=5e-5)
    assert zgr["figures"][0]["method"] == "enumerated"
    assert (disarm["figures"][0]["method"], disarm["figures"][0]["count"]) == ("drawn", 500)
    assert set(disarm["checks"].values()) == {None}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reinmx", "did you mean 'reinmax'"),
        ("no_such_module:Thing", "no_such_module:Thing cannot be imported: ModuleNotFoundError"),
        ("broken_mine:Thing", "broken_mine:Thing cannot be imported: SyntaxError"),
        ("right_mine:Thing", "right_mine:Thing cannot be imported: AttributeError"),
        ("right_mine:unrelated", "right_mine:unrelated is no estimator; derive it"),
        ("right_mine:Needy", "right_mine:Needy cannot be made without arguments"),
        (":Thing", "':Thing' names no module"),
    ],
)
def test_what_cannot_be_certified_is_one_line_and_status_2(capsys, tmp_path, name, message):
    (tmp_path / "right_mine.py").write_text(MINE)
    (tmp_path / "broken_mine.py").write_text("class :")
    assert main(["certify", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


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
    code = (
        f"import sys, softhot; print('torch' in sys.modules); from softhot import *; print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "set()"]


def test_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"softhot {softhot.__version__}\n"


@pytest.mark.parametrize("line", [line for page in DOCUMENTS for line in COMMAND.findall(page.read_text())])
def test_commands_of_the_documents_have_options_that_exist(line):
    name, *arguments = shlex.split(line, comments=True)
    assert get_command(app).commands[name].make_context(name, arguments).params


def test_everything_with_a_name_is_listed_on_a_line(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in [*ESTIMATORS, *TERMS, *PROBLEMS, *DATA]:
        assert any(line.split()[0] == name and len(line.split()) > 3 for line in lines), name
    assert not [line for line in lines if "by default" in line]  # a sentence is for all settings beside it
    assert main(["list", "data"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(DATA)
