"""Worker processes: most tests give them tasks that need no TensorFlow, so that they start at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from end2_tf import config, registry, workers
from end2_tf.errors import DataError, End2Error, TrainingError
from end2_tf.tasks import Task, Trainer
from end2_tf.workdir import Workdir, read_json

ROOT = Path(__file__).resolve().parents[1]
FINE, WRONG, BROKEN, KILLED, GONE, LONG = 0, 100, 200, 300, 400, 500  # what the tasks with these numbers come to

FAKE = f"""
import os, signal, sys, time
from end2_tf import tasks, workers
from end2_tf.errors import DataError

def train(self, task, report):
    print("no answer")
    os.write(1, b"no answer either")
    gpu = float(os.environ.get("CUDA_VISIBLE_DEVICES") or -1)
    report("training", 1, 2, {{"pid": os.getpid(), "gpu": gpu}})
    kind = task.number // 100 * 100
    if kind == {WRONG}:
        raise DataError("x is 3. Allowed: 2.")
    if kind == {BROKEN}:
        raise KeyError("a bug")
    if kind == {KILLED}:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == {GONE}:
        print("first\\nlast words.\\n", file=sys.stderr, flush=True)
        os._exit(7)
    time.sleep(60 if kind == {LONG} else 0.1)

tasks.Trainer.train = train
workers._start_tensorflow = lambda deterministic, threads: None
workers.main()
"""


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-P", "-c", FAKE))
    return Trainer(registry.experiments()["spirals_mlp_end2"], Workdir(tmp_path))


class _Reports(list):
    def __call__(self, task, what, done, of, figures):
        self.append((task, what, done, of))
        self.pids = getattr(self, "pids", set()) | {figures["pid"]}
        self.gpus = {**getattr(self, "gpus", {}), figures["pid"]: figures["gpu"]}


def _tasks(*numbers):
    return [Task("member", number) for number in numbers]


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_until(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came to it"
        time.sleep(0.02)


def test_each_task_is_done_once_and_tells_of_itself(trainer):
    tasks, reports = _tasks(*range(12)), _Reports()
    workers.train(tasks, 2, trainer, reports)
    assert sorted(reports, key=lambda r: r[0].number) == [(task, "training", 1, 2) for task in tasks]
    assert len(reports.pids) == 2
    assert not any(map(_is_alive, reports.pids))


@pytest.mark.parametrize(("num", "gpus", "expected"), [(2, 0, [7, 7]), (3, 2, [0, 0, 1]), (2, 3, [0, 1])])
def test_gpus_are_dealt_out_and_shared_where_there_are_more_workers(trainer, monkeypatch, num, gpus, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if not gpus:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # a worker without one of its own is told nothing new
    reports = _Reports()
    workers.train(_tasks(*range(num)), num, trainer, reports, gpus=gpus)
    assert sorted(reports.gpus.values()) == expected


VARIANTS = """
import os
from end2_tf import tasks, workers

def train(self, task, report):
    mine = self.of(task)
    others = [t for t in self.variants.values() if t is not mine]
    held = [sorted({"data", "ensemble"} & set(vars(t))) for t in (mine, *others)]
    mine.data = getattr(mine, "__dict__", {}).get("data", "opened for " + task.variant)
    epochs = mine.experiment.student.epochs
    report("training", epochs, epochs, {"data": mine.data, "others": sum(map(len, held[1:]))})

tasks.Trainer.train = train
workers._start_tensorflow = lambda deterministic, threads: None
workers.main()
"""


def test_a_worker_does_tasks_of_several_experiments_and_keeps_one_open(trainer, monkeypatch):
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-P", "-c", VARIANTS))
    experiment = trainer.experiment
    changes = {"short": ["student.epochs=2"], "long": ["student.epochs=5"], "few": ["data.max_train=100"]}
    trainer.variants = {
        name: Trainer(config.override(experiment, change), trainer.root) for name, change in changes.items()
    }
    tasks, reports = [Task("student", 0, "end2", name) for name in changes], []
    workers.train(tasks, 1, trainer, lambda *report: reports.append(report))
    assert [(task, done) for task, _, done, *_ in reports] == list(zip(tasks, (2, 5, 300), strict=True))
    assert [figures["data"] for *_, figures in reports] == ["opened for short", "opened for short", "opened for few"]
    assert all(figures["others"] == 0 for *_, figures in reports)


def test_a_worker_looks_where_its_parent_does(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "prepare", lambda *arguments: None)
    experiment = registry.experiments()["spirals_mlp_end2"]
    trainer = Trainer(experiment, Workdir(tmp_path), deterministic=True, shared_by="mirrored CPU:0")
    opened = workers._open(workers.describe(trainer) | {"core": None, "threads": 1})
    task = Task("student", 0, "end2")
    assert opened.artefact(task).path == trainer.artefact(task).path


def test_no_more_workers_than_tasks(trainer):
    reports = _Reports()
    workers.train(_tasks(FINE), 8, trainer, reports)
    assert len(reports.pids) == 1


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (WRONG, DataError, r"^x is 3\. Allowed: 2\.$"),
        (BROKEN, RuntimeError, r"(?s)^member 200 failed in a process of its own:\nTraceback.*KeyError: 'a bug'"),
        (KILLED, TrainingError, r"^the process training member 300 was ended by signal 9 \(Killed\), as the system .*"),
        (GONE, TrainingError, r"^the process training member 400 ended with exit code 7: last words\. Run the same "),
    ],
)
def test_what_goes_wrong_reaches_the_user_and_ends_all(trainer, number, error, message):
    reports = _Reports()
    with pytest.raises(error, match=message) as caught:
        workers.train(_tasks(LONG, number), 2, trainer, reports)
    if isinstance(caught.value, End2Error):
        assert "\n" not in str(caught.value)
    if error is TrainingError:
        assert str(caught.value).endswith("Run the same command again: it goes on from here.")
    assert not any(map(_is_alive, reports.pids))


def test_ctrl_c_ends_the_workers(trainer):
    reports = _Reports()

    def interrupt(*report):
        reports(*report)
        if len(reports) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workers.train(_tasks(LONG, LONG + 1), 2, trainer, interrupt)
    assert len(reports.pids) == 2
    assert not any(map(_is_alive, reports.pids))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_notice_that_their_parent_was_killed(tmp_path):
    parent = f"""
import sys
from end2_tf import registry, workers
from end2_tf.tasks import Task, Trainer
from end2_tf.workdir import Workdir
workers.COMMAND = (sys.executable, "-P", "-c", {FAKE!r})
trainer = Trainer(registry.experiments()["spirals_mlp_end2"], Workdir({str(tmp_path)!r}))
report = lambda task, what, done, of, figures: print(figures["pid"], flush=True)
workers.train([Task("member", {LONG}), Task("member", {LONG + 1})], 2, trainer, report)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        pids = [int(process.stdout.readline()) for _ in range(2)]
        assert all(map(_is_alive, pids))
        process.kill()
    _wait_until(lambda: not any(map(_is_alive, pids)), seconds=10)


def test_files_that_changed_under_way_are_noticed(trainer, tmp_path):
    class Elsewhere(Trainer):
        def artefact(self, task):
            return self.root.artefact("ensemble", "another")

    other = Elsewhere(trainer.experiment, trainer.root)
    with pytest.raises(TrainingError, match=r"^member 0 can't be trained: .* changed since the run began"):
        workers.train(_tasks(FINE), 1, other, _Reports())


# The real thing.

COMMAND = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from end2_tf import checkpoint, cli
checkpoint.SECONDS_BETWEEN = 0.0
sys.exit(cli.main(sys.argv))
"""
CHANGES = (
    "ensemble.num_members=3",
    "ensemble.epochs=40",
    "ensemble.options={'hidden': [8, 8], 'dropout': 0.1}".replace("'", '"'),  # dropout isn't stacked
    "student.epochs=3",
    "student.methods=single_matched,end2_aux",
    "transfer.num_views=1",
    "data.max_test=200",
    "data.max_train=500",
)


def _start(workdir, *more):
    sets = [part for change in CHANGES for part in ("--set", change)]
    command = [
        sys.executable,
        "-c",
        COMMAND,
        "--experiment=spirals_mlp_end2",
        f"--workdir={workdir}",
        "--deterministic",
    ]
    return subprocess.Popen([*command, *sets, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def _results(workdir):
    files = {str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file() and "/." not in f"/{p.name}"}
    weights = {str(p.relative_to(workdir)): read_json(p)["weights"] for p in workdir.glob("[es]*/*/manifest.json")}
    return {f for f in files if "tensorboard" not in f}, weights


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_killed_worker_is_told_and_two_workers_do_what_one_does(tmp_path):
    with _start(tmp_path / "two", "--stage=ensemble", "--jobs=2") as run:
        _wait_until(lambda: run.poll() is not None or list((tmp_path / "two").glob("ensemble/*/.member_*.npz")))
        os.kill(_children(run.pid)[0], signal.SIGKILL)
        _, complaint = run.communicate()
    assert run.returncode == TrainingError.exit_code
    assert "was ended by signal 9" in complaint
    assert complaint.splitlines()[-1].endswith("Run the same command again: it goes on from here.")
    assert not list((tmp_path / "two").glob("ensemble/*/manifest.json"))
    for name, jobs in (("two", 2), ("one", 1)):
        with _start(tmp_path / name, "--stage=student", f"--jobs={jobs}") as run:
            out, complaint = run.communicate()
        assert run.returncode == 0, out + complaint
    files, weights = _results(tmp_path / "two")
    assert len(weights) == 3
    assert (files, weights) == _results(tmp_path / "one")


@pytest.mark.slow
def test_a_diverged_training_reads_as_in_one_process(tmp_path):
    with _start(tmp_path, "--stage=ensemble", "--jobs=2", "--set", "ensemble.optimizer.learning_rate=1e30") as run:
        _, complaint = run.communicate()
    assert run.returncode == TrainingError.exit_code
    assert "Try a smaller learning rate" in complaint
    assert complaint.count("\n") == 1
