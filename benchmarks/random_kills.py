"""Kills a run at random moments until it has been killed so often, and compares what it ends in with an untouched run.

    python benchmarks/random_kills.py

The run is a small whole pipeline with --deterministic: members and students side by side, a transfer set, an
evaluation, a report. Most kills are SIGKILL of the process, some are SIGTERM, some are SIGKILL of one of its workers.
Prints a table of digests: of each network's weights, of each recording's files, of the results; exits with 1 where one
differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHANGES = (
    "ensemble.num_members=3",
    "ensemble.epochs=40",
    'ensemble.options={"hidden": [16, 16], "dropout": 0.1}',  # dropout isn't stacked: they train side by side
    "student.methods=end,end2_aux",
    "student.epochs=60",
    "transfer.num_views=4",
    "data.max_train=1500",
    "data.max_test=500",
)
WORKING = "data      "  # how the line begins that says that the work does


def command(workdir: Path) -> list[str]:
    """Returns the command line of the run."""
    changes = [part for change in CHANGES for part in ("--set", change)]
    start = [sys.executable, str(ROOT / "main.py"), "--experiment=spirals_mlp_end2", "--smoke", "--deterministic"]
    return [*start, "--jobs=2", f"--workdir={workdir}", *changes]


class Run:
    """A run in progress, and its output."""

    def __init__(self, workdir: Path):
        environment = {**os.environ, "END2_TF_CHECKPOINT_SECONDS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._output = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - as long as the run
        self.process = subprocess.Popen(
            command(workdir), stdout=self._output, stderr=subprocess.STDOUT, env=environment, text=True
        )

    @property
    def said(self) -> str:
        self._output.flush()
        with open(f"/proc/self/fd/{self._output.fileno()}", encoding="utf-8", errors="replace") as output:
            return output.read()

    def wait_until_it_works(self) -> None:
        while self.process.poll() is None and WORKING not in self.said:
            time.sleep(0.02)

    def children(self) -> list[int]:
        pid = self.process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []


def run_to_the_end(workdir: Path) -> float:
    """Returns how many seconds the work took, without the start."""
    run = Run(workdir)
    run.wait_until_it_works()
    started = time.monotonic()
    if run.process.wait():
        raise SystemExit(f"the run failed:\n{run.said}")
    return time.monotonic() - started


def kill(run: Run, choice: random.Random) -> str:
    """Kills a run in one of three ways; returns which."""
    children = run.children()
    kind = choice.choices(["SIGKILL", "SIGTERM", "SIGKILL of a worker"], [6, 2, 2])[0]
    if kind == "SIGKILL of a worker" and children:
        os.kill(choice.choice(children), signal.SIGKILL)
    else:
        kind = "SIGTERM" if kind == "SIGTERM" else "SIGKILL"
        run.process.send_signal(getattr(signal, kind))
    run.process.wait()
    return kind


def digests(workdir: Path) -> dict[str, str]:
    """Returns what identifies the content of each artefact, by name; results without their dates and durations."""
    found = {}
    for path in sorted(workdir.glob("*/*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        name, weights = f"{manifest['stage']}/{path.parent.name}", manifest.get("weights")
        if isinstance(weights, list):
            found |= {f"{name} member {i}": each for i, each in enumerate(weights)}
        elif weights:
            found[f"{name} {manifest['method']}"] = weights
        elif manifest["stage"] == "transfer":
            found |= {f"{name} {file}": entry["sha256"] for file, entry in sorted(manifest["files"].items())}
    results = (workdir / "results.csv").read_bytes()
    found["results.csv"] = hashlib.sha256(results).hexdigest()
    return found


def table(whole: dict[str, str], killed: dict[str, str]) -> str:
    """Returns the digests side by side."""
    lines = [f"{'artefact':<50} {'untouched':<16} {'killed':<16} equal"]
    for name in sorted(whole | killed):
        one, other = whole.get(name, "-"), killed.get(name, "-")
        lines.append(f"{name:<50} {one[:16]:<16} {other[:16]:<16} {'yes' if one == other else 'NO'}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="how often")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and kinds")
    parser.add_argument("--workdir", type=Path, default=None, help="where both runs go; a temporary folder by default")
    flags = parser.parse_args()
    choice = random.Random(flags.seed)
    with tempfile.TemporaryDirectory() as temporary:
        root = flags.workdir or Path(temporary)
        seconds = run_to_the_end(root / "whole")
        print(f"untouched: {seconds:.0f} s of work")
        # Moments are uniform over the work; each run is killed where the next of them comes.
        moments = sorted(choice.uniform(0, seconds) for _ in range(flags.kills))
        done = 0
        while done < flags.kills:
            before = moments[done - 1] if done else 0.0
            run = Run(root / "killed")
            run.wait_until_it_works()
            until = time.monotonic() + moments[done] - before
            while time.monotonic() < until and run.process.poll() is None:
                time.sleep(0.005)
            if run.process.poll() is not None:
                print(f"the run came to its end after {done} of {flags.kills} kills")
                break
            done += 1
            print(f"kill {done:>2} at {moments[done - 1]:5.1f} s: {kill(run, choice)}", flush=True)
        run_to_the_end(root / "killed")
        whole, killed = digests(root / "whole"), digests(root / "killed")
        print(table(whole, killed))
        return 0 if whole == killed else 1


if __name__ == "__main__":
    sys.exit(main())
