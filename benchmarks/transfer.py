"""What a transfer set costs: memory against the number of examples and of members, and ImageNet's at 1/1000.

    python benchmarks/transfer.py [--part=examples|members|imagenet]

Three tables. Examples: the stages transfer and student of one experiment on 10⁴, 10⁵ and 10⁶ images of 28×28 pixels,
with `data.shard_rows` and without, each in a process of its own: the peak of its resident memory. Members: students
that learn from 10 and from 1,000, in turns: a step's time and the peak; the first of each, which reduces the recorded
logits to statistics, stands apart. ImageNet: 1,281 examples, 100 members, 1,000 classes, as float16 logits and as
statistics: bytes on disk, times 1,000, beside what arithmetic says. Images are noise and members are untrained: neither
changes what is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from end2_tf import tables

ROOT = Path(__file__).resolve().parents[1]
SIZES = (10_000, 100_000, 1_000_000)
MEMBERS = (10, 1000)
SHAPE, CLASSES = (28, 28), 10
SHARD_ROWS = 4096
REPETITIONS = 5
IMAGENET = (1281, 100, 1000)  # examples / 1000, members, classes
IMAGENET_EXAMPLES = 1_281_167


def examples(sizes: Sequence[int], folder: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Runs two stages on so many examples each; returns a row for each run."""
    members = folder / "members"
    members.mkdir()
    _child("write_members", str(members), 10)  # a child's peak begins at its parent's memory: this process stays small
    rows = []
    for num in sizes:
        path = folder / "my.npz"
        _write_images(path, num)
        for shard_rows in (SHARD_ROWS, None):
            workdir = folder / "run"
            for stage in ("transfer", "student"):
                peak = _run_stage(stage, path, members, workdir, shard_rows)
                rows.append({"examples": num, "shard_rows": shard_rows, "stage": stage, "peak": peak})
                say(f"{num:,} examples, {'in memory' if shard_rows is None else 'in shards'}, {stage}: {_mb(peak)} MB")
            shutil.rmtree(workdir)
        path.unlink()
    return rows


def write_members(folder: str, num: int) -> dict[str, Any]:
    """Writes untrained members."""
    import keras

    for seed in range(num):
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((*SHAPE, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
        keras.Sequential([*layers, keras.layers.Dense(32, "relu"), keras.layers.Dense(CLASSES)]).save(
            Path(folder) / f"{seed}.keras"
        )
    return {}


def _write_images(path: Path, num: int) -> None:
    """Writes an .npz as Keras' mnist.npz, a part at a time, not compressed."""
    rng = np.random.default_rng(0)
    few = 1000
    with zipfile.ZipFile(path, "w") as archive:
        for name, count in (("x_train", num), ("x_test", few)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, *SHAPE)}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, count, 10_000):
                    part = rng.integers(0, 256, (min(10_000, count - start), *SHAPE), np.uint8)
                    file.write(part.tobytes())
        for name, count in (("y_train", num), ("y_test", few)):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, rng.integers(0, CLASSES, count))


def _run_stage(stage: str, path: Path, members: Path, workdir: Path, shard_rows: int | None) -> int:
    """Returns the peak of a stage's resident memory, bytes."""
    changes = [
        f"data.path={path}",
        "data.validation_fraction=0.01",
        f"ensemble.models={members}/*.keras",
        "student.methods=end2",
        "student.epochs=1",
        "student.batch_size=1000",
        "data.max_test=1000",
        "transfer.augmentation.flip=true",
        "transfer.mode=views",
        "transfer.num_views=1",
    ]
    if shard_rows is not None:
        changes.append(f"data.shard_rows={shard_rows}")
    sets = [part for change in changes for part in ("--set", change)]
    flags = ["--experiment=own_data_end2", f"--stage={stage}", f"--workdir={workdir}", "--jobs=1"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), *flags, *sets], stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            output.seek(0)
            raise SystemExit(f"the stage {stage} failed:\n{output.read().decode(errors='replace')}")
    return usage.ru_maxrss * 1024


def members(
    numbers: Sequence[int], num: int, epochs: int, repetitions: int, say: Callable[[str], None]
) -> dict[int, dict[str, list[float]]]:
    """Measures students of so many members, each repetition in a process of its own, in turns.

    Returns:
        Members → `step_seconds` and `peak` (bytes), a number a repetition, and `first_peak`, that of one before them.
    """
    found: dict[int, dict[str, list[float]]] = {each: {"step_seconds": [], "peak": []} for each in numbers}
    with tempfile.TemporaryDirectory() as name:
        for count in numbers:
            _child("record", f"{name}/{count}", num, count, CLASSES, "logits")
            first = _child("learn", f"{name}/{count}", num, count, CLASSES, 2)
            found[count]["first_peak"] = [first["peak"]]
        for turn in range(repetitions):
            for count in numbers:
                measured = _child("learn", f"{name}/{count}", num, count, CLASSES, epochs)
                for key in ("step_seconds", "peak"):
                    found[count][key].append(measured[key])
            say(f"repetition {turn + 1} of {repetitions}")
    return found


def imagenet(num: int, num_members: int, num_classes: int) -> dict[str, int]:
    """Returns the bytes on disk of what so many members say of so many examples, as logits and as statistics."""
    found = {}
    for keep in ("logits", "statistics"):
        with tempfile.TemporaryDirectory() as name:
            found[keep] = _child("record", name, num, num_members, num_classes, keep)["bytes"]
    return found


def _child(what: str, *arguments: Any) -> dict[str, Any]:
    """Does a part of a measurement in a process of its own."""
    command = [sys.executable, __file__, f"--child={json.dumps([what, *arguments])}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a measurement failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _features(num: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num, 64)).astype(np.float32)


def _loss() -> Any:
    from end2_tf import config, student

    return student.build_loss(config.default_methods()["end2"], 10)


def record(folder: str, num: int, num_members: int, num_classes: int, keep: str) -> dict[str, Any]:
    """Records what untrained members say; returns the bytes of it."""
    import keras

    from end2_tf import config, transfer
    from end2_tf.data.views import Views
    from end2_tf.ensemble import StackedEnsemble
    from end2_tf.workdir import write_json

    prototype = keras.Sequential([keras.Input((64,)), keras.layers.Dense(num_classes)])
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(num_members, *w.shape)).astype(np.float32) for w in prototype.weights]
    ensemble = StackedEnsemble(prototype, weights)
    settings = config.Transfer(keep=keep, dtype="float16")
    views = Views(config.Augmentation(), _features(num), 0)
    statistics = [(_loss(), 1.0, None)] if keep == "statistics" else []
    said = transfer.said_bytes(settings, num_members, num_classes, statistics)
    views.rows = transfer.shard_rows(settings, views, said)
    transfer.record(ensemble, views, settings, Path(folder), statistics=statistics)
    write_json(Path(folder) / "details.json", transfer.details(settings, views, ensemble))
    return {"bytes": sum(path.stat().st_size for path in Path(folder).rglob("*.npy"))}


def learn(folder: str, num: int, num_members: int, num_classes: int, epochs: int) -> dict[str, Any]:
    """Trains a student on a recording; returns the seconds of a step, without the first epoch, and the peak memory."""
    import keras

    from end2_tf import config, student, transfer
    from end2_tf.data.examples import Examples
    from end2_tf.workdir import read_json

    recording = transfer.open_recording(Path(folder), read_json(Path(folder) / "details.json"))
    layers = [keras.layers.Dense(256, "relu"), keras.layers.Dense(256, "relu"), keras.layers.Dense(num_classes)]
    moments = []
    settings = config.Student(epochs=epochs, batch_size=128)
    student.train(
        keras.Sequential([keras.Input((64,)), *layers]),
        _loss(),
        config.default_methods()["end2"],
        settings,
        Examples(_features(num)),
        seed=0,
        view_seed=0,
        transfer=config.Transfer(),
        transfer_set=transfer.TransferSet(recording),
        report=lambda *_: moments.append(time.perf_counter()),
    )
    steps = math.ceil(num / settings.batch_size) * (epochs - 1)
    return {
        "step_seconds": (moments[-1] - moments[0]) / steps,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def examples_table(rows: list[dict[str, Any]]) -> str:
    """Returns peaks, MB: a line for each stage and way to keep inputs, a column for each number of examples."""
    sizes = list(dict.fromkeys(row["examples"] for row in rows))
    lines = [["peak of resident memory, MB", *(f"{num:,} examples" for num in sizes), "largest / smallest"]]
    for shard_rows in (SHARD_ROWS, None):
        for stage in ("transfer", "student"):
            peaks = [row["peak"] for row in rows if (row["stage"], row["shard_rows"]) == (stage, shard_rows)]
            how = "inputs in memory" if shard_rows is None else f"in shards of {shard_rows:,}"
            lines.append([f"--stage={stage}, {how}", *map(_mb, peaks), f"{max(peaks) / min(peaks):.2f}"])
    return "\n".join(tables.aligned(lines))


def members_table(found: dict[int, dict[str, list[float]]]) -> str:
    """Returns a step's time and the peak, a column for each number of members, and their ratio by turns."""
    few, many = found.values()
    lines = [["a student that learns from", *(f"{num:,} members" for num in found), "ratio"]]
    for what, key, unit in (
        ("ms a step", "step_seconds", 1e3),
        ("peak of resident memory, MB", "peak", 1e-6),
        ("that of the first student, MB", "first_peak", 1e-6),
    ):
        columns = [_range([unit * value for value in each[key]]) for each in (few, many)]
        ratios = [b / a for a, b in zip(few[key], many[key], strict=True)]
        lines.append([what, *columns, _range(ratios)])
    told = f"median (lowest–highest) of {len(few['peak'])} repetitions in turns"
    return "\n".join([*tables.aligned(lines), told])


def imagenet_table(found: dict[str, int], num: int, num_members: int, num_classes: int) -> str:
    """Returns what was written, and what 1,000 times as many examples take by arithmetic."""
    each = {"logits": (2, num_members * num_classes, f"{num_members} × {num_classes:,} × 2 bytes")}
    each["statistics"] = (4, num_classes + 1, f"{num_classes + 1:,} × 4 bytes")
    lines = [["kept", f"{num:,} examples, MB", "× 1,000, GB", f"{IMAGENET_EXAMPLES:,} examples by arithmetic"]]
    for keep, (size, values, formula) in each.items():
        whole = IMAGENET_EXAMPLES * size * values
        lines.append(
            [keep, f"{found[keep] / 1e6:.2f}", f"{found[keep] / 1e6:.2f}", f"{formula} each: {whole / 1e9:.2f} GB"]
        )
    return "\n".join(tables.aligned(lines))


def _range(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:,.2f}"
    return f"{statistics.median(values):,.2f} ({min(values):,.2f}–{max(values):,.2f})"


def _mb(value: float) -> str:
    return f"{value / 1e6:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("examples", "members", "imagenet"), help="one table only")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if arguments.child:
        what, *rest = json.loads(arguments.child)
        print(json.dumps({"record": record, "learn": learn, "write_members": write_members}[what](*rest)))
        return

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if arguments.part in (None, "examples"):
        with tempfile.TemporaryDirectory() as name:
            print(examples_table(examples(SIZES, Path(name), say)), end="\n\n", flush=True)
    if arguments.part in (None, "members"):
        print(members_table(members(MEMBERS, 20_000, 30, REPETITIONS, say)), end="\n\n", flush=True)
    if arguments.part in (None, "imagenet"):
        print(imagenet_table(imagenet(*IMAGENET), *IMAGENET), end="\n\n")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
