"""One run on several devices: what one process learns, half precision, and runs that are killed and go on."""

import csv
import dataclasses
import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from functools import cache, partial
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.utils import parameters_to_vector

from softhot.cli import main
from softhot.lab.config import Config
from softhot.lab.training import checkpoint
from softhot.lab.training.devices import Devices, Process
from softhot.lab.training.loop import Run
from softhot.problems.data import load, prepare
from softhot.testing import assert_mean

SMALL = Config(hidden=(16,), latents=2, classes=3, batch_size=51, epochs=2)
ROUNDING = 100 * torch.finfo(torch.float32).eps  # relative, of sums over some hundred images
SEEDS = 100

EXACT = [dataclasses.replace(SMALL, estimator="exact")]
SURE = [dataclasses.replace(SMALL, estimator="score-function", baseline=name) for name in ("running", "learned")]
NOISY = [dataclasses.replace(SMALL, estimator="rebar", seed=seed) for seed in range(SEEDS)]


@cache
def few_images():
    whole = prepare(load("digits"), "threshold")
    return dataclasses.replace(whole, train=whole.train[:103], valid=whole.valid[:50])


def trained(config, images, process=None, *, sure=False):
    """The curve, and what the control learned; a sure posterior has one configuration, whatever the noise."""
    run = Run(config, images)
    if process is not None:
        process.take(run)
    if sure:
        with torch.no_grad():
            run.model.encoder[-1].weight.zero_()
            run.model.encoder[-1].bias.copy_(torch.eye(6)[0] * 200 + torch.eye(6)[4] * 200)
    curve = [epoch.objective for epoch in run.epochs()]
    state = [value.double().flatten() for value in run.learner.control.state_dict().values()]
    weights = parameters_to_vector([*run.model.parameters(), *run.learner.control.parameters()]).detach()
    return curve, torch.cat(state).tolist() if state else [], weights


def together(path, process):
    """Write what two processes learn together, and how far their weights are apart; then fail."""
    found, apart = [], 0.0
    for config in EXACT + SURE + NOISY:
        curve, state, weights = trained(config, few_images(), process, sure=config in SURE)
        everyone = process.fabric.all_gather(weights)
        apart = max(apart, (everyone - everyone[0]).abs().max().item())
        found.append((curve, state))
    if process.leads:
        path.write_text(json.dumps([found, apart]))
    raise ValueError("a reason, in one line: it fails.")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    configs = EXACT + SURE + NOISY
    alone = [trained(config, few_images(), sure=config in SURE)[:2] for config in configs]
    path = tmp_path_factory.mktemp("found") / "found.json"
    with pytest.raises(ValueError, match=r"^a reason, in one line: it fails\.$"):
        Devices(2).launch(partial(together, path))
    shared, apart = json.loads(path.read_text())
    assert len(shared) == len(alone)
    assert apart == 0.0  # all processes have the same weights
    return dict(zip(configs, zip(alone, shared, strict=True), strict=True))


@pytest.mark.parametrize("config", EXACT + SURE, ids=lambda config: config.arm)
def test_two_processes_learn_what_one_learns(found, config):
    (curve, control), (shared_curve, shared_control) = found[config]
    assert shared_curve == pytest.approx(curve, rel=ROUNDING)
    assert shared_control == pytest.approx(control, rel=ROUNDING, abs=ROUNDING)
    assert any(control) or config in EXACT


def test_two_processes_learn_the_same_but_for_their_noise(found):
    pairs = [found[config] for config in NOISY]
    differences = torch.tensor([[two - one for one, two in zip(a, b, strict=True)] for (a, _), (b, _) in pairs])
    assert differences[:, -1].abs().min() > 0
    assert_mean(differences, torch.zeros(SMALL.epochs))


def process(rank=0, count=1, accumulate=1):
    """One of the processes, whose sum over all is its own share."""
    fabric = SimpleNamespace(
        global_rank=rank, world_size=count, device=torch.device("cpu"), all_reduce=lambda vector, reduce_op: vector
    )
    return Process(fabric, accumulate)


@pytest.mark.parametrize("config", EXACT + SURE, ids=lambda config: config.arm)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_parts_add_up(config, accumulate):
    sure = config in SURE
    curve, control, _ = trained(config, few_images(), sure=sure)
    parts_curve, parts_control, _ = trained(config, few_images(), process(accumulate=accumulate), sure=sure)
    assert parts_curve == pytest.approx(curve, rel=ROUNDING)
    assert parts_control == pytest.approx(control, rel=ROUNDING, abs=ROUNDING)


@pytest.mark.parametrize(("config", "differs"), [(EXACT[0], False), (SMALL, True)], ids=["exact", "noisy"])
def test_processes_have_noise_of_their_own(config, differs):
    run = Run(config, few_images())
    x = run.batch()[:10].repeat(2, 1)  # two equal shares
    first, second = (process(rank, 2).climb(run, x) for rank in (0, 1))
    assert (first != second) == differs


def test_one_process_in_one_part_has_the_numbers_of_a_run_without_devices():
    config = NOISY[0]
    assert trained(config, few_images(), process())[0] == trained(config, few_images())[0]


def test_processes_cannot_end_by_the_clock():
    run = Run(dataclasses.replace(SMALL, epochs=None, budget_seconds=1.0), few_images())
    with pytest.raises(ValueError, match=r"budget_seconds=1 .* use epochs=20"):
        process(count=2).take(run)


@pytest.mark.parametrize(("precision", "digits"), [("bf16-mixed", 8), ("16-mixed", 11)])
def test_half_precision_is_that_of_the_products_alone(precision, digits):
    config = dataclasses.replace(SMALL, estimator="exact")
    full, half = (Run(one, few_images()) for one in (config, dataclasses.replace(config, precision=precision)))
    x = full.batch()
    logits, halved = full.model.posterior(x), half.model.posterior(x)
    assert halved.dtype == torch.float32
    assert torch.equal(halved, halved.to(half.model.precision))
    assert not torch.equal(logits, logits.to(half.model.precision))
    # two layers: products of two rounded numbers, and a rounded sum
    inputs, weights = (x - full.model.centre).abs(), full.model.encoder
    scale = (inputs @ weights[0].weight.abs().T + weights[0].bias.abs()) @ weights[2].weight.abs().T
    assert ((logits - halved).flatten(-2).abs() <= 6 * 2.0**-digits * (scale + weights[2].bias.abs())).all()
    for run in (full, half):
        run.add_slopes(x, run.noise(), len(x))
    for one, other in zip(
        full.optimiser.param_groups[0]["params"], half.optimiser.param_groups[0]["params"], strict=True
    ):
        slope = other.grad / half.scaler.get_scale()
        assert (one.grad - slope).norm() <= 20 * 2.0**-digits * one.grad.norm()


def test_the_scale_of_a_loss_in_half_precision_goes_on(tmp_path):
    config = dataclasses.replace(SMALL, precision="16-mixed")
    run, again = Run(config, few_images()), Run(config, few_images())
    run.train_step()
    run.scaler.update(2.0**10)
    checkpoint.save(run, tmp_path / "checkpoint.safetensors")
    checkpoint.restore(again, tmp_path / "checkpoint.safetensors")
    assert again.scaler.state_dict() == run.scaler.state_dict()
    run.train_step()
    again.train_step()
    assert all(map(torch.equal, run.model.parameters(), again.model.parameters()))


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_the_command_goes_on_with_two_processes(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--estimator", "exact", "--hidden", "8", "--latents", "2"]
    assert main([*arguments, "--epochs", "2", "--out", "whole"]) == 0
    assert main([*arguments, "--epochs", "1", "--out", "shared"]) == 0
    capfd.readouterr()
    again = ["--epochs", "2", "--devices", "2", "--accumulate", "2", "--out", "shared", "--resume"]
    assert main([*arguments, *again]) == 0
    assert capfd.readouterr().out.count("written to shared") == 1
    for one, other in zip(rows(tmp_path / "whole"), rows(tmp_path / "shared"), strict=True):
        assert {k: float(v) for k, v in other.items()} == pytest.approx(
            {k: float(v) for k, v in one.items()}, rel=ROUNDING
        )
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("whole", "shared")]
    assert names[0] == names[1]


TRAIN = ["train", "--estimator", "score-function", "--baseline", "learned", "--batch-size", "10", "--epochs", "3"]


def test_a_run_that_is_killed_goes_on_bit_for_bit(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # a process that compiles the kernels may round otherwise than those that find them compiled
    assert main([*TRAIN[:-1], "1", "--out", "compiled"]) == 0

    def start(*arguments):
        command = [sys.executable, "-c", "import sys; from softhot.cli import main; sys.exit(main())"]
        return subprocess.Popen([*command, *TRAIN, *arguments], stdout=subprocess.DEVNULL)

    victim = start("--checkpoint-every", "0", "--out", "killed")
    path = tmp_path / "killed/checkpoint.safetensors"

    def step():
        seen = shutil.copy(path, tmp_path / "seen")  # the file may be replaced while it is opened twice
        with safe_open(seen, framework="pt") as file:
            return int(file.metadata()["step"])

    while not path.exists() or step() <= 130:  # an epoch has 120 steps
        assert victim.poll() is None
        time.sleep(0.002)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert 130 < step() < 360
    assert [one.wait() for one in (start("--out", "killed", "--resume"), start("--out", "whole"))] == [0, 0]
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    killed, whole = load_file(path), load_file(tmp_path / "whole/checkpoint.safetensors")
    assert killed.keys() == whole.keys()
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
    scores = [json.loads((tmp_path / name / "scores.json").read_text()) for name in ("killed", "whole")]
    assert scores[0] == scores[1]


def events(folder):
    """What the event files hold, by name and epoch, those that a later file takes back left out."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        raw = path.read_bytes()
        while raw:
            (length,) = struct.unpack("<Q", raw[:8])
            event, raw = Event.FromString(raw[12 : 12 + length]), raw[16 + length :]
            if event.HasField("session_log"):
                found = {key: value for key, value in found.items() if key[1] < event.step}
            for value in event.summary.value:
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = value
    return found


@pytest.mark.filterwarnings(  # about what the oldest tensorboardX does with protobuf and NumPy
    "ignore:Call to deprecated create function:DeprecationWarning",
    "ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning",
)
def test_tensorboard_shows_the_metrics_and_the_pictures(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--hidden", "8", "--latents", "2", "--out", "run"]
    assert main([*arguments, "--epochs", "1"]) == 0
    for epochs in ("2", "3"):
        assert main([*arguments, "--epochs", epochs, "--tensorboard", "--resume"]) == 0
    found = events(tmp_path / "run")
    for row in rows(tmp_path / "run"):
        epoch = int(row.pop("epoch"))
        for name, value in row.items():
            assert found[name, epoch].simple_value == pytest.approx(float(value), rel=1e-6)
        assert found["seconds", epoch].simple_value > 0
    for name in ("reconstructions", "samples"):
        assert found[name, 3].image.encoded_image_string.startswith(b"\x89PNG")
    assert len(found) == 3 * 5 + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "0"], "devices=0 computes nothing"),
        (["--accumulate", "0"], "accumulate=0 computes nothing"),
        (["--accelerator", "gpus"], "did you mean 'gpu'"),
        (["--precision", "16"], "unknown precision '16'"),
        (["--checkpoint-every", "-1"], "--checkpoint-every -1"),
        pytest.param(
            ["--devices", "2", "--accelerator", "gpu"],
            "there are no 2 devices of kind 'gpu' here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs here"),
        ),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments, "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [(["--devices", "2"], "lightning_fabric", "devices"), (["--tensorboard"], "tensorboardX", "tensorboard")],
)
def test_what_is_not_installed_is_named(capsys, monkeypatch, tmp_path, arguments, module, extra):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["train", *arguments, "--out", "run"]) == 2
    assert f"pip install 'softhot[{extra}]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
