"""Studies on real processes that are killed, and on an in-process cluster: no number changes, nothing is lost."""

import ast
import csv
import dataclasses
import errno
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from distributed import Client
from rich.console import Console

from softhot.cli import main, watching
from softhot.lab import files, provenance
from softhot.lab.config import Config
from softhot.lab.files import Unwritable
from softhot.lab.provenance import Code
from softhot.lab.study import cluster, engine, record, task
from softhot.lab.study.engine import execute
from softhot.lab.study.folder import open_study
from softhot.lab.study.plan import Grid, plan
from softhot.lab.study.record import Trial
from softhot.lab.study.task import Progress
from softhot.lab.study.unfinished import Unfinished

SMALL = Config(hidden=(16,), epochs=1, latents=2, classes=3, estimator="reinmax")
SOFTHOT = [sys.executable, "-c", "import sys; from softhot.cli import main; sys.exit(main())"]
PATIENCE = 400  # seconds after which a process that does nothing is given up


@pytest.fixture(autouse=True)
def _place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOFTHOT_DATA", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(record, "GRADIENT_DRAWS", 32)
    for name, value in {"TEMPORARY_DIRECTORY": str(tmp_path / "scratch"), "DISTRIBUTED__VERSION": "2"}.items():
        monkeypatch.setenv(f"DASK_{name}", value)


def test_a_function_is_called_in_every_worker_at_once():
    with cluster.everywhere(2) as call:
        assert len({os.getpid(), *call(os.getpid)}) == 3
        assert call(os.getenv, "MALLOC_TRIM_THRESHOLD_") == [None, None]  # what Dask sets slows large tensors


def study(*seeds):
    return plan(SMALL, [Grid({"estimator": ["reinmax"], "term": ["categorical"]})], seeds)


def numbers(record):
    """A record without what the machine's speed decides."""
    curve = [{key: value for key, value in row.items() if key != "seconds"} for row in record["curve"]]
    return {**record, "seconds": None, "curve": curve}


def wait_for(condition, process):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


class TestRealProcesses:
    """Images from a file: workers start faster without scikit-learn."""

    ARGUMENTS = ("compare", "--data", "images.npy", "--estimator", "reinmax", "straight-through", "--temperature", "1")
    ARGUMENTS += ("--term", "categorical", "--seeds", "2", "--epochs", "40", "--latents", "2", "--classes", "3")
    ARGUMENTS += ("--hidden", "16", "--batch-size", "20", "--checkpoint-every", "0.002")

    @pytest.fixture(autouse=True)
    def _images(self, _place):
        np.save("images.npy", np.random.default_rng(0).integers(0, 2, (600, 8, 8)).astype(bool))

    @pytest.fixture
    def start(self):
        """Start a process in the background, in a group of its own; it is gone when the test ends."""
        started = []

        def start(*command):
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # nohup has it ignored
            )
            started.append(process)
            return process

        yield start
        for process in started:
            process.kill()
            process.communicate()

    @pytest.fixture
    def address(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            return f"tcp://127.0.0.1:{server.getsockname()[1]}"

    def test_a_disturbed_study_has_the_table_of_an_undisturbed_one(self, start, address, tmp_path):
        quiet = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]

        def scheduler():
            port = address.rsplit(":", 1)[1]
            module = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
            return start(*module, "--host", "127.0.0.1", "--port", port, *quiet)

        def worker():
            module = [sys.executable, "-m", "distributed.cli.dask_worker"]
            return start(*module, address, "--nthreads", "1", "--no-nanny", *quiet)

        def client():
            return start(*SOFTHOT, *self.ARGUMENTS, "--scheduler", address, "--out", "disturbed")

        def stages():
            kept = (tmp_path / "disturbed").glob("unfinished/[!.]*.safetensors")  # not those half written
            with suppress(FileNotFoundError):  # a run that has just ended
                return {path.stem: path.stat().st_mtime_ns for path in kept}
            return stages()

        ours, first, second = scheduler(), worker(), worker()
        with Client(address, timeout=PATIENCE) as workers:
            workers.wait_for_workers(2, timeout=PATIENCE)  # so that they begin together
        asking = client()
        wait_for(lambda: len(stages()) == 4, asking)  # both have a group in mid-run
        first.kill()
        before = stages()
        wait_for(
            lambda: any(stages().get(run) != when for run, when in before.items()), asking
        )  # the other one goes on
        ours.kill()
        ours.wait()
        second.wait(PATIENCE)  # a worker ends with its scheduler
        assert asking.poll() is None
        before = stages()
        assert before
        ours, _ = scheduler(), worker()
        wait_for(lambda: stages() != before, asking)
        asking.kill()
        assert len(list((tmp_path / "disturbed/runs").glob("*.json"))) < 4
        out, error = client().communicate(timeout=PATIENCE)
        assert "best discrete ELBO" in out, error
        assert not list((tmp_path / "disturbed/unfinished").iterdir())

        assert main([*self.ARGUMENTS, "--scheduler", address, "--out", "undisturbed"]) == 0
        tables = []
        for name in ("disturbed", "undisturbed"):
            with (tmp_path / name / "records.csv").open() as file:
                tables.append(sorted(csv.DictReader(file), key=lambda row: row["id"]))
        for rows in tables:
            assert len(rows) == 4
            assert all(row.pop("seconds") for row in rows)
        assert tables[0] == tables[1]
        for path in (tmp_path / "disturbed/runs").glob("*.json"):
            other = tmp_path / "undisturbed/runs" / path.name
            assert numbers(json.loads(path.read_text())) == numbers(json.loads(other.read_text()))

    def test_a_killed_or_interrupted_study_leaves_no_process_and_goes_on(self, start, tmp_path):
        def client():
            process = start(*SOFTHOT, *self.ARGUMENTS, "--workers", "1", "--out", "study")
            before = {
                path: path.stat().st_mtime_ns for path in (tmp_path / "study").glob("unfinished/[!.]*.safetensors")
            }

            def moved():
                kept = (tmp_path / "study").glob("unfinished/[!.]*.safetensors")
                return any(path.stat().st_mtime_ns != before.get(path) for path in kept)

            wait_for(moved, process)
            children = psutil.Process(process.pid).children(recursive=True)
            assert children
            return process, children

        process, children = client()
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=PATIENCE)
        assert not alive
        process, children = client()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert re.fullmatch(r"softhot: stopped; .* run the command again to go on.*\n", error)
        _, alive = psutil.wait_procs(children, timeout=PATIENCE)
        assert not alive
        assert list((tmp_path / "study").glob("unfinished/[!.]*.safetensors"))


@pytest.fixture
def here(monkeypatch):
    """A cluster in this process: no process is started, and what is replaced here is replaced in its worker too."""
    from distributed import Scheduler, SpecCluster, Worker

    @contextmanager
    def start(workers=1, threads=1):
        quiet = {"host": "127.0.0.1", "dashboard": False}
        spec = {
            index: {"cls": Worker, "options": {**quiet, "nthreads": threads, "memory_limit": 0}}
            for index in range(workers)
        }
        scheduler = {"cls": Scheduler, "options": {**quiet, "port": 0, "dashboard_address": "127.0.0.1:0"}}
        with SpecCluster(workers=spec, scheduler=scheduler, silence_logs=60) as found:
            yield found.scheduler_address

    monkeypatch.setattr(cluster, "local_cluster", start)
    return start


def run(runs, folder, **settings):
    return list(execute(runs, folder, command="test", **settings))


def test_reports_come_from_every_run(here, tmp_path):
    seen = []
    records = run(study(0, 1), tmp_path, watch=seen.append)
    assert {(one.id, one.seed) for one in seen} == {(record["id"], record["seed"]) for record in records}
    assert all(isinstance(one, Progress) and 0 <= one.step <= one.steps == 12 for one in seen)


def test_new_arms_are_added_and_old_ones_are_not_computed_again(here, tmp_path, monkeypatch):
    (old,) = run(study(0), tmp_path)
    trained = []
    prepare = Trial.begin_all

    def begin(configs, **given):
        trained.extend(config.seed for config in configs)
        return prepare(configs, **given)

    monkeypatch.setattr(Trial, "begin_all", begin)
    first, second = run(study(0, 1), tmp_path)
    assert first == old
    assert (second["seed"], trained) == (1, [1])


def test_a_run_that_fails_is_named_and_the_others_go_on(here, tmp_path, monkeypatch):
    prepare = Trial.begin_all

    def begin(configs, **given):
        if 0 in [config.seed for config in configs]:
            raise RuntimeError("out of luck")
        return prepare(configs, **given)

    monkeypatch.setattr(Trial, "begin_all", begin)
    found = {record.get("reason", record.get("seed")) for record in run(study(0, 1, 2), tmp_path)}
    assert found == {"out of luck", 1, 2}


def test_a_worker_without_the_folder_hands_its_record_back(here, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "sees", lambda folder, key: False)
    (record,) = run(study(0), tmp_path, checkpoint_seconds=0)
    (path,) = (tmp_path / "runs").iterdir()
    assert json.loads(path.read_text()) == record
    assert not (tmp_path / "unfinished").exists()


class TestGoingOn:
    CONFIG = dataclasses.replace(SMALL, estimator="rebar", final_temperature=0.5, epochs=3)

    def train(self, folder, stop=None):
        """The record, and the steps reported; with `stop`, the run hears after so many that nobody wants it."""
        steps = []

        def report(runs):
            steps.append(runs[0].step)
            return len(steps) != stop

        (folder / "runs").mkdir(exist_ok=True)
        asked = task.Task(folder, "key", None, None, 1e9)
        try:
            (record,) = task.results((self.CONFIG,), asked, folder, report)
        except task.Abandoned:
            return None, steps
        (folder / "runs" / f"{self.CONFIG.id}.json").unlink()
        return record, steps

    def test_an_abandoned_run_goes_on_bit_for_bit(self, tmp_path):
        whole, steps = self.train(tmp_path)
        assert steps == list(range(37))
        assert self.train(tmp_path, 8) == (None, list(range(8)))
        assert self.train(tmp_path, 19) == (None, list(range(7, 26)))  # at the end of an epoch, and beyond
        again, steps = self.train(tmp_path)
        assert steps == list(range(25, 37))
        assert numbers(again) == numbers(whole)

    @pytest.mark.parametrize("damage", ["checkpoint", "curve", "fewer epochs", "other code"])
    def test_what_is_broken_or_of_other_code_is_begun_anew(self, tmp_path, damage):
        self.train(tmp_path, 20)
        kept = Unfinished(tmp_path, self.CONFIG.id)
        if damage == "checkpoint":
            kept.checkpoint.write_bytes(kept.checkpoint.read_bytes()[:100])
        elif damage == "curve":
            kept.curve.unlink()
        else:
            about = json.loads(kept.curve.read_text())
            about |= {"epochs": []} if damage == "fewer epochs" else {"code": {"version": "0.0.1"}}
            kept.curve.write_text(json.dumps(about))
        assert self.train(tmp_path, 2) == (None, [0, 1])


class TestRefusals:
    """One line, and nothing that is finished is lost."""

    @pytest.fixture
    def done(self, here, tmp_path):
        return run(study(0), tmp_path)

    def path(self, folder):
        (path,) = (folder / "runs").iterdir()
        return path

    def test_other_code_is_refused_before_any_work_unless_told(self, done, tmp_path):
        text = self.path(tmp_path).read_text()
        self.path(tmp_path).write_text(text.replace(f'"torch": "{Code.here().torch}"', '"torch": "1.0"'))
        message = r"1 of the 1 finished runs .* \(torch 1.0 and .*--mix-versions"
        with pytest.raises(ValueError, match=message) as error:
            run(study(0, 1), tmp_path)
        assert "\n" not in str(error.value)
        assert len(list((tmp_path / "runs").iterdir())) == 1
        assert [record["torch"] for record in run(study(0), tmp_path)] == ["1.0"]  # nothing new stands beside it
        found = run(study(0, 1), tmp_path, mix_versions=True)
        assert [record["torch"] for record in found] == ["1.0", Code.here().torch]
        with pytest.raises(ValueError, match="--mix-versions"):
            run(study(0, 1), tmp_path)

    def test_a_second_study_in_the_folder_is_refused(self, done, tmp_path):
        (tmp_path / "runs" / ".half.json").write_text("{")  # of a process that was killed
        with open_study(study(0), tmp_path, command="test"), pytest.raises(ValueError, match="a study is running in"):
            run(study(0), tmp_path)
        assert run(study(0), tmp_path) == done
        assert len(list((tmp_path / "runs").iterdir())) == 1

    @pytest.mark.parametrize("place", ["runs", "unfinished"])
    def test_a_full_disk_stops_the_study(self, done, here, tmp_path, monkeypatch, place):
        def sync(descriptor):
            if place in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(files.os, "fsync", sync)
        with pytest.raises(Unwritable, match=r"cannot write .*: No space left on device") as error:
            run(study(0, 1), tmp_path, checkpoint_seconds=0)
        assert "\n" not in str(error.value)
        monkeypatch.undo()
        assert json.loads(self.path(tmp_path).read_text()) == done[0]
        assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]

    def test_a_worker_with_other_code_is_refused(self, here, tmp_path, monkeypatch):
        other = dataclasses.replace(Code.here(), version="0.0.1")
        with here() as address:
            monkeypatch.setattr(engine, "Code", SimpleNamespace(here=lambda: other))
            with pytest.raises(ValueError, match="runs other code"):
                run(study(0), tmp_path, scheduler=address)

    def test_a_worker_that_runs_several_tasks_is_refused(self, here, tmp_path):
        with here(threads=2) as address, pytest.raises(ValueError, match="--nthreads 1"):
            run(study(0), tmp_path, scheduler=address)

    def test_no_scheduler(self, monkeypatch, capsys):
        monkeypatch.setattr(engine, "_FIRST_SECONDS", 0.5)
        assert main(["compare", "--scheduler", "tcp://127.0.0.1:9", "--seeds", "1", "--epochs", "1"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("softhot: no Dask scheduler at 'tcp://127.0.0.1:9'")
        assert error.count("\n") == 1


PROGRESS = Progress(id="1", arm="reinmax t=1 + categorical", seed=4, step=3, steps=12)


def test_anywhere_but_on_a_terminal_lines_tell_how_far_a_study_is(monkeypatch):
    monkeypatch.setattr(watching, "_LINE_SECONDS", 0)
    text = io.StringIO()
    with watching.watching(Console(file=text), 2) as watcher:
        watcher.step(PROGRESS)
        watcher.end({"id": "1"})
    assert text.getvalue().splitlines() == [
        "0 of 2 runs done; reinmax t=1 + categorical, seed 4: step 3 of 12",
        "1 of 2 runs done",
    ]


def test_a_terminal_has_a_bar_for_the_study_and_one_for_each_run_in_training():
    console = Console(file=io.StringIO(), force_terminal=True, width=120, record=True)
    with watching.watching(console, 2) as watcher:
        watcher.step(PROGRESS)
        assert [(bar.description, bar.completed, bar.total) for bar in watcher.bars.tasks] == [
            ("runs", 0, 2),
            ("reinmax t=1 + categorical, seed 4", 3, 12),
        ]
        watcher.end({"id": "1"})
        assert [(bar.description, bar.completed, bar.total) for bar in watcher.bars.tasks] == [("runs", 1, 2)]
    assert "1/2" in console.export_text()


def test_a_bar_follows_what_is_expected_of_a_run_that_seconds_end():
    with watching.watching(Console(file=io.StringIO(), force_terminal=True), 1) as watcher:
        for step, steps, total in ((0, 0, None), (50, 90, 90), (60, 80, 80)):
            watcher.step(dataclasses.replace(PROGRESS, step=step, steps=steps))
            assert [(bar.completed, bar.total) for bar in watcher.bars.tasks[1:]] == [(step, total)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheduler", "tcp://127.0.0.1:9", "--workers", "2"], "leave out --workers"),
        (["--checkpoint-every", "-1"], "--checkpoint-every -1.0 is no time"),
        (["--out", "/proc/softhot"], "cannot write to the folder '/proc/softhot"),
    ],
)
def test_bad_options_are_one_line(capsys, arguments, message):
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_source_of_a_number_is_told_from_what_only_shows_it(tmp_path):
    package = Path(provenance.__file__).parent.parent
    assert all((package / name).is_dir() or (package / f"{name}.py").is_file() for name in provenance._ASIDE)
    (tmp_path / "lab" / "report").mkdir(parents=True)
    (tmp_path / "names.py").write_text("one")
    (tmp_path / "lab" / "report" / "page.py").write_text("one")
    before = provenance._digest(tmp_path)
    (tmp_path / "lab" / "report" / "page.py").write_text("two")
    assert provenance._digest(tmp_path) == before
    (tmp_path / "names.py").write_text("two")
    assert provenance._digest(tmp_path) != before


def test_no_module_that_a_number_depends_on_imports_one_that_does_not_count():
    """But that a record has pictures."""
    package, aside = Path(provenance.__file__).parent.parent, tuple(provenance._ASIDE)
    found = set()
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        if path.stem == "__init__" or name.startswith(aside):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            for one in node.names if isinstance(node, ast.ImportFrom) else ():
                module = f"{node.module}.{one.name}/".removeprefix("softhot.").replace(".", "/")
                found |= {(name, node.module)} if module.startswith(aside) else set()
    assert found == {("lab/study/record.py", "softhot.lab.training.images")}


def test_each_worker_of_a_machine_with_gpus_sees_one(monkeypatch):
    monkeypatch.setattr(cluster.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [cluster._device(index)["CUDA_VISIBLE_DEVICES"] for index in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [cluster._device(index)["CUDA_VISIBLE_DEVICES"] for index in range(3)] == ["2", "5", "2"]


def test_groups_stay_when_a_study_goes_on():
    runs = study(*range(10)).runs
    groups = engine._groups(runs, runs)
    assert sorted(config.id for group in groups for config in group) == sorted(config.id for config in runs)
    assert all(len({config.arm for config in group}) == 1 and len(group) <= 8 for group in groups)
    assert engine._groups(runs, [config for group in groups[1:] for config in group]) == groups[1:]
