"""Where a run meets what it can't help: full and read-only disks, another run, a clock that jumps.

Disks are small file systems in memory, in a mount namespace of the test's own.
"""

import csv
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "ensemble.num_members=3",
    "ensemble.epochs=2",
    "student.epochs=3",
    "student.methods=end2",
    "data.max_test=300",
    "data.max_train=600",
    "ensemble.options.hidden=[16,16]",
)
FULL, ENOUGH = "1m", "200m"


def _can_mount():
    try:
        tried = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


needs_mount = pytest.mark.skipif(not _can_mount(), reason="needs `unshare -rm mount`, to make small disks")


def _args(workdir, *more):
    sets = [part for change in SMALL for part in ("--set", change)]
    common = ["--experiment=spirals_mlp_end2", "--stage=evaluate", f"--workdir={workdir}", "--jobs=1", "--quiet"]
    return [*common, *sets, *more]


def _on_a_disk(folder, *steps):
    """Runs shell commands one after another on a disk mounted at `folder`; returns exit code and stderr of each."""
    folder.mkdir(exist_ok=True)
    lines = [step.replace("DISK", str(folder)) for step in steps]
    script = "".join(f"{line} 2>{folder}.{i}; echo $? >{folder}.code_{i}\n" for i, line in enumerate(lines))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(["unshare", "-rm", "sh", "-c", script], check=True, env=environment, stdout=subprocess.DEVNULL)
    read = [(Path(f"{folder}.code_{i}").read_text(), Path(f"{folder}.{i}").read_text()) for i in range(len(lines))]
    return [(int(code), text) for code, text in read]


def _main(workdir, *more):
    return shlex.join([sys.executable, str(ROOT / "main.py"), *_args(workdir, *more)])


def _numbers(workdir):
    with open(workdir / "results.csv", encoding="utf-8") as file:
        return list(csv.reader(file))


def _numbers_of_a_process(workdir, before=""):
    """Runs in a process of its own, where no other test has set anything, after the statements `before`."""
    args = ["main.py", *_args(workdir, "--deterministic")]
    code = f"import sys\n{before}\nfrom end2_tf import cli\nsys.exit(cli.main({args!r}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.DEVNULL)
    return _numbers(workdir)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    return _numbers_of_a_process(workdir)


@needs_mount
@pytest.mark.slow
def test_a_disk_that_fills_up_stops_a_run_which_goes_on_when_there_is_room(tmp_path, undisturbed):
    kept = tmp_path / "results.csv"
    mounted, full, leftovers, larger, again, _ = _on_a_disk(
        tmp_path / "disk",
        f"mount -t tmpfs -o size={FULL} none DISK",
        _main("DISK/run", "--deterministic"),
        "find DISK/run -name '*.tmp*' >&2",
        f"mount -o remount,size={ENOUGH} DISK",
        _main("DISK/run", "--deterministic"),
        f"cp DISK/run/results.csv {kept}",
    )
    assert mounted[0] == larger[0] == 0
    assert full[0] == 3
    assert full[1].startswith("error: ")
    assert full[1].count("\n") == 1
    assert "Free some space" in full[1]
    assert leftovers[1] == ""
    assert again == (0, "")
    assert _numbers(tmp_path) == undisturbed


@needs_mount
def test_a_read_only_disk_is_noticed_before_any_work(tmp_path):
    mounted, refused, published = _on_a_disk(
        tmp_path / "disk",
        "mount -t tmpfs -o ro none DISK",
        _main("DISK/run"),
        f"{sys.executable} {ROOT}/main.py --zoo=spirals_mlp_end2 --input={_inputs(tmp_path)} --output=DISK/p.csv",
    )
    assert mounted[0] == 0
    for code, error in (refused, published):
        assert code == 3
        assert error.count("\n") == 1
        assert "Read-only file system" in error
    assert "Choose another folder with --workdir." in refused[1]
    assert "Name another file with --output." in published[1]


def _inputs(folder):
    import numpy as np

    np.savez(folder / "x.npz", x=np.zeros((3, 2), np.float32))
    return folder / "x.npz"


@pytest.mark.slow
def test_a_second_run_in_a_workdir_is_told_of_the_first_which_goes_on(tmp_path):
    command = [sys.executable, str(ROOT / "main.py"), *_args(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / ".lock").exists():
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.02)
        second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert second.returncode == 3
        assert "error: another run holds the workdir" in second.stderr
        assert "Wait for it, or choose another with --workdir." in second.stderr
    finally:
        assert first.wait(300) == 0
    assert _numbers(tmp_path / "run")


JUMPING = """
import itertools, time
now, days = time.time, itertools.cycle((0, 3, -400, 7000))
time.time = lambda: now() + 86_400 * next(days)
"""


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(tmp_path, undisturbed):
    assert _numbers_of_a_process(tmp_path / "jumping", JUMPING) == undisturbed
