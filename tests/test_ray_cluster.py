"""A real Ray cluster of two nodes on this machine, one of which is killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from end2_tf import cli
from end2_tf.workdir import read_json

pytest.importorskip("ray", reason="Ray isn't installed; it comes with the extra [ray]")

ROOT = Path(__file__).resolve().parents[1]
RAY = Path(sys.executable).with_name("ray")
CHANGES = (
    "ensemble.num_members=4",
    "ensemble.epochs=60",
    'ensemble.options={"hidden": [64, 64], "dropout": 0.1}',  # dropout isn't stacked
    "data.max_train=2000",
    "data.max_test=200",
)


def _processes(file, text):
    """Returns the processes that have a text in their command line or environment."""
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{file}"):
        try:
            if text in path.read_bytes().decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def cluster():
    """Two nodes of one core; gives the address."""
    folder = tempfile.mkdtemp(prefix="ray")  # its sockets' names have to be short
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "END2_TEST_CLUSTER": folder}

    def start(*arguments):
        common = ("--num-cpus=1", "--object-store-memory=80000000", "--node-ip-address=127.0.0.1")
        command = [str(RAY), "start", *common, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        start("--head", f"--port={port}", "--node-name=first", "--include-dashboard=false", f"--temp-dir={folder}")
        start(f"--address=127.0.0.1:{port}", "--node-name=second")
        yield f"127.0.0.1:{port}"
    finally:
        for pid in _processes("environ", f"END2_TEST_CLUSTER={folder}"):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _start(workdir, *more, **options):
    changes = [part for change in CHANGES for part in ("--set", change)]
    arguments = ["--experiment=spirals_mlp_end2", "--stage=ensemble", f"--workdir={workdir}", *changes, *more]
    environment = {**os.environ, "END2_TF_CHECKPOINT_SECONDS": "0"}
    return subprocess.Popen([sys.executable, str(ROOT / "main.py"), *arguments], env=environment, **options)


def _members(workdir):
    (manifest,) = workdir.glob("ensemble/*/manifest.json")
    return read_json(manifest)["weights"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_members_of_a_lost_node_are_trained_on_another(cluster, tmp_path):
    with (tmp_path / "log").open("w") as log:
        run = _start(
            tmp_path / "ray", "--deterministic", "--launcher=ray", f"--ray_address={cluster}", stdout=log, stderr=log
        )
    said = lambda: (tmp_path / "log").read_text()
    until = time.monotonic() + 600
    while len(list((tmp_path / "ray").glob("ensemble/*/.member_*.npz"))) < 2:  # both nodes are at work
        assert run.poll() is None, said()
        assert time.monotonic() < until, said()
        time.sleep(0.05)
    second = _processes("cmdline", "--node-name=second")
    (raylet,) = [pid for pid in second if Path(os.readlink(f"/proc/{pid}/exe")).name == "raylet"]
    os.kill(raylet, signal.SIGKILL)
    assert run.wait(900) == 0, said()
    again = [line for line in said().splitlines() if "again, since node" in line]
    assert len(again) == 1, said()
    alone = _start(tmp_path / "alone", "--deterministic", "--jobs=2")
    assert alone.wait(900) == 0
    assert _members(tmp_path / "ray") == _members(tmp_path / "alone")


@pytest.mark.parametrize(
    ("address", "reason"), [("127.0.0.1:1", "Connection refused"), ("here", "invalid literal"), ("127.0.0.1:x", "")]
)
def test_a_cluster_that_isnt_there(tmp_path, capsys, address, reason):
    arguments = ["--experiment=spirals_mlp_end2", f"--workdir={tmp_path}", "--launcher=ray", f"--ray_address={address}"]
    assert cli.main(["main.py", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --ray_address is '{address}': {reason}")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())
