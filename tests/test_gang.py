"""Processes that train together: how they are started and started again, and what they train."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from end2_tf import gang
from end2_tf.errors import TrainingError

ROOT = Path(__file__).resolve().parents[1]

# Notes its start; the first and the second worker then do what they are told for each attempt.
ACT = """
import json, os, pathlib, signal, sys, time
folder, index = pathlib.Path(sys.argv[1]), json.loads(os.environ["TF_CONFIG"])["task"]["index"]
attempt = len(list(folder.glob(f"{index}_*")))
(folder / f"{index}_{attempt}").write_text(os.environ["TF_CONFIG"])
what = json.loads(sys.argv[2])[index]
what = what[min(attempt, len(what) - 1)]
if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "waits":
    time.sleep(60)
if what == "fails":
    sys.exit("no memory left")
sys.exit(what)
"""


def _run(folder, *acts):
    return gang.run([sys.executable, "-c", ACT, str(folder), json.dumps(acts)], len(acts))


def test_each_process_knows_its_place(tmp_path):
    assert _run(tmp_path, [0], [0], [0]) == 0
    found = [json.loads((tmp_path / f"{index}_0").read_text()) for index in range(3)]
    assert [each["task"] for each in found] == [{"type": "worker", "index": index} for index in range(3)]
    assert found[0]["cluster"] == found[1]["cluster"] == found[2]["cluster"]
    assert len(set(found[0]["cluster"]["worker"])) == 3


def test_all_start_again_when_one_is_killed(tmp_path, capfd):
    started = time.monotonic()
    assert _run(tmp_path, ["waits", 0], ["killed", 0]) == 0
    assert time.monotonic() - started < 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0_0", "0_1", "1_0", "1_1"]
    told = "  worker 1 was ended by signal 9 (Killed): all start again from the last checkpoint (1 of 3)\n"
    assert capfd.readouterr().err == told


def test_what_would_fail_again_isnt_tried_again(tmp_path):
    assert _run(tmp_path, [4], ["waits"]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0_0", "1_0"]


def test_it_isnt_tried_for_ever(tmp_path, capfd):
    with pytest.raises(
        TrainingError, match=r"^worker 1 ended with exit code 1: no memory left, for the 4th time\. Run"
    ):
        _run(tmp_path, ["waits"], ["fails"])
    assert len(list(tmp_path.iterdir())) == 8
    assert capfd.readouterr().err.count("all start again") == 3


ENVIRONMENT = {**os.environ, "END2_TF_CHECKPOINT_SECONDS": "0"}
CHANGES = (
    "data.max_train=500",  # batches of 128, the last one of 116
    "ensemble.num_members=3",
    "ensemble.epochs=2",
    "student.methods=end2",
    "student.epochs=5",  # 20 steps; after more the order of sums makes a difference
    "student.optimizer.name=sgd",
    "student.optimizer.learning_rate=0.1",
    "transfer.num_views=2",
)


def _command(workdir, *more):
    changes = [part for change in CHANGES for part in ("--set", change)]
    arguments = ["--experiment=spirals_mlp_end2", "--smoke", f"--workdir={workdir}", *changes, *more]
    return [sys.executable, str(ROOT / "main.py"), *arguments]


def _do(workdir, *more):
    done = subprocess.run(
        _command(workdir, *more), env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _weights(workdir):
    (path,) = workdir.glob("student/*/model.keras")
    return keras.saving.load_model(path).get_weights()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A workdir with a transfer set, and the weights of the student that one process trains."""
    folder = tmp_path_factory.mktemp("gang") / "recorded"
    _do(folder, "--stage=transfer")
    alone = folder.with_name("alone")
    shutil.copytree(folder, alone)
    _do(alone, "--stage=student")
    return folder, _weights(alone)


@pytest.mark.slow
def test_two_processes_train_the_student_of_one(recorded, tmp_path):
    folder, alone = recorded
    shutil.copytree(folder, tmp_path / "two")
    said = _do(tmp_path / "two", "--stage=student", "--strategy=workers:2")
    assert said.count("/student: 1 student\n") == 1  # only one of them speaks
    for a, b in zip(_weights(tmp_path / "two"), alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_killed_processes_go_on_together(recorded, tmp_path):
    folder, _ = recorded
    shutil.copytree(folder, tmp_path / "killed")
    longer = ("--stage=student", "--set", "student.epochs=100", "--set", "student.optimizer.learning_rate=0.01")
    run = subprocess.Popen(
        _command(tmp_path / "killed", "--strategy=workers:2", *longer),
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 240
    while not list((tmp_path / "killed").glob("student/*/.checkpoint.npz")) and time.monotonic() < until:
        assert run.poll() is None
        time.sleep(0.01)
    os.kill(_children(run.pid)[1], signal.SIGKILL)
    said = run.communicate(timeout=300)[1]
    assert run.returncode == 0, said
    assert "worker 1 was ended by signal 9 (Killed): all start again from the last checkpoint (1 of 3)" in said
    shutil.copytree(folder, tmp_path / "whole")
    _do(tmp_path / "whole", *longer)
    for a, b in zip(_weights(tmp_path / "killed"), _weights(tmp_path / "whole"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
