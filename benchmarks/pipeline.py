"""Where the seconds of `make run` go, and how few they could be.

    python benchmarks/pipeline.py [--quick] [--rows=FILE]

Runs `main.py --experiment=spirals_mlp_end2` in an empty workdir and times what it prints: a line ends each stage. From
the start to the line on the data it imports TensorFlow, which is timed alone as well, and loads the data. The least it
could take is its training steps alone: members' epochs, and students' steps on a batch made beforehand, each measured
when they are under way, in processes of as many threads as the run gives them. `--quick` runs the small version.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import distillation
import numpy as np
import reading
import timing

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = "spirals_mlp_end2"
STAGES = ("ensemble", "transfer", "student", "evaluate", "report")  # and before them the data, as lines begin
IMPORTS = "import keras, tensorflow, tensorflow_probability"
EPOCHS = 4  # of members, the first of which, with its tracing, doesn't count
STEPS, CALLS = 32, 20  # of students: those of a call of the graph, and calls


def measure(quick: bool) -> list[timing.Row]:
    """Returns the seconds of each part of a run, their shares, and the least that the trainings could take."""
    with tempfile.TemporaryDirectory() as folder:
        moments = run(Path(folder) / "run", quick)
    importing = [timing.seconds_of(_import) for _ in range(1 if quick else 3)]
    least = {what: _child(what, quick) for what in ("members", "students")}
    return rows(moments, statistics.median(importing), least)


def run(workdir: Path, quick: bool) -> dict[str, float]:
    """Runs the experiment; returns when each line was printed that ends a part of it, in seconds from the start."""
    command = [sys.executable, str(ROOT / "main.py"), f"--experiment={EXPERIMENT}", f"--workdir={workdir}", "--quiet"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    started = time.monotonic()
    with subprocess.Popen(
        [*command, *(["--smoke"] if quick else [])], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        moments = ends((time.monotonic() - started, line) for line in process.stdout)
    if process.returncode:
        raise SystemExit(f"the run failed with exit code {process.returncode}; see above")
    return moments | {"exit": time.monotonic() - started}


def ends(lines: Iterable[tuple[float, str]]) -> dict[str, float]:
    """Returns the moments of the first line, `start`, and of those that tell of the data and of each stage."""
    found: dict[str, float] = {}
    for moment, line in lines:
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        name = "start" if not found else word
        if name in ("start", "data", *STAGES):
            found.setdefault(name, moment)
    return found


def rows(moments: dict[str, float], importing: float, least: dict[str, float]) -> list[timing.Row]:
    """Returns the rows of a run.

    Args:
        moments: What `run` returns.
        importing: Seconds that TensorFlow takes to import.
        least: Seconds of the pure steps of members and of students.
    """
    parts = {"start and import": moments["start"] + importing}
    parts["data"] = max(0.0, moments["data"] - parts["start and import"])
    order = ["data", *STAGES, "exit"]
    parts |= {name: moments[name] - moments[before] for before, name in itertools.pairwise(order)}
    total = moments["exit"]
    found = [_row("all", "s", total)]
    for name, seconds in parts.items():
        found += [_row(name, "s", seconds), _row(f"{name}, of all", "%", 100 * seconds / total)]
    pure = sum(least.values())
    found += [_row(f"steps of {name} alone", "s", seconds) for name, seconds in least.items()]
    return [*found, _row("all / steps alone", "×", total / pure)]


def _row(what: str, unit: str, value: float) -> timing.Row:
    return timing.Row("pipeline", what, unit, (value,))


def _import() -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, env=environment, stderr=subprocess.DEVNULL)


def _child(what: str, quick: bool) -> float:
    """Measures the pure steps of members or students in a process of its own; returns their seconds in a whole run."""
    from end2_tf import machine

    command = [sys.executable, __file__, f"--child={what}", *(["--quick"] if quick else [])]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": machine.search_path()}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"measuring the steps of {what} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def experiment(quick: bool) -> Any:
    """Returns the experiment, or its small version."""
    from end2_tf import config, registry

    chosen = registry.experiments()[EXPERIMENT]
    return config.override(chosen, chosen.smoke) if quick else chosen


def members(quick: bool) -> float:
    """Returns the seconds of the members' epochs, by the median of a few under way."""
    from end2_tf.data import dataset
    from end2_tf.ensemble import build_member, seed_of, stacked

    chosen = experiment(quick)
    data = dataset.load(chosen.data, data_dir=None, download=False, seed=chosen.seed)
    settings = dataclasses.replace(chosen.ensemble, epochs=EPOCHS)
    seeds = [seed_of(chosen.seed, number) for number in range(settings.num_members)]
    networks = [build_member(settings, data, seed) for seed in seeds]
    moments: list[float] = []
    stacked.train(networks, data, settings, seeds=seeds, progress=lambda *_: moments.append(time.perf_counter()))
    return chosen.ensemble.epochs * float(np.median(np.diff(moments)))


def students(quick: bool) -> float:
    """Returns the seconds of the students' steps, where each core trains one student at a time."""
    from end2_tf import machine
    from end2_tf.data import dataset

    chosen = experiment(quick)
    data = dataset.load(chosen.data, data_dir=None, download=False, seed=chosen.seed)
    per_epoch = -(-len(data.train) // chosen.student.batch_size)
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.student.methods:
            batches, loss, network = reading.student_of(EXPERIMENT, name, STEPS, Path(folder))
            training = distillation.Training(network(), loss, reading.OneBatch(batches))
            training()  # traces the graph
            step = statistics.median(timing.seconds_of(training) for _ in range(2 if quick else CALLS)) / STEPS
            seconds += step * per_epoch * chosen.student.epochs_of(chosen.methods[name]) * chosen.student.num_seeds
    return seconds / len(machine.cores())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--child", choices=("members", "students"))
    given, rest = parser.parse_known_args(arguments)
    if given.child is None:
        return timing.main(__doc__, measure, rest)
    if given.child == "students":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)  # as students trained side by side have
        tf.config.threading.set_inter_op_parallelism_threads(1)
    print(json.dumps({"members": members, "students": students}[given.child]("--quick" in rest)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
