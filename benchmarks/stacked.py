"""How fast many small networks are trained at once, beside the same in PyTorch, in JAX, and by Keras' own fit.

python benchmarks/stacked.py [--quick] [--rows=FILE]

100 members 2-64-64-64-3 on 3,000 points of spirals, batches of 100, Adam, each with its own initial values and its own
order of examples. Every library in a process of its own, with all cores, taking turns of some epochs each. Ours twice:
with a process of one thread for each core, a stack of members in each, as long trainings have it; and in one process,
as short ones do. PyTorch as `vmap` and as compiled `vmap`, JAX as a compiled scan over the epoch. Peers are in the
environment of `make bench-env`; without it ours and Keras alone are measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import timing
from timing import Row

from end2_tf import machine
from end2_tf.errors import ModelError

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".bench-venv" / "bin" / "python"
MEMBERS, REPETITIONS = 100, 7
EPOCHS = {"keras fit": 1}  # a turn; of all others so many:
MANY = 5
OURS, ALONE, KERAS = "end2_tf", "end2_tf, one process", "keras fit"


def measure(quick: bool = False) -> list[Row]:
    """Returns members × epochs a second of each, ratios, and the members' errors."""
    num, repetitions = (4, 2) if quick else (MEMBERS, REPETITIONS)
    total = MANY * (repetitions + 1)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "spirals.npz"
        _write_data(path)
        ours, cores = [sys.executable, "stacked_end2_tf.py", path], machine.cores()
        shares = [num * (i + 1) // len(cores) - num * i // len(cores) for i in range(len(cores))]
        commands = {
            OURS: [[*ours, share, total, core] for share, core in zip(shares, cores, strict=True) if share],
            ALONE: [[*ours, num, total]],
            KERAS: [[sys.executable, "stacked_keras.py", path]],
        }
        if PEERS.is_file():
            commands["torch vmap"] = [[PEERS, "stacked_torch.py", path, num]]
            commands["torch vmap, compiled"] = [[PEERS, "stacked_torch.py", path, num, "compile"]]
            commands["jax vmap"] = [[PEERS, "stacked_jax.py", path, num]]
        children = {
            name: _SideBySide([stack.enter_context(_child(name, command)) for command in each])
            for name, each in commands.items()
        }
        rates = _take_turns(children, num, repetitions)
        errors = {name: child.ask("error")["error"] for name, child in children.items()}
        return _rows(rates, errors)


def _take_turns(children: dict[str, _SideBySide], num: int, repetitions: int) -> dict[str, list[float]]:
    """Returns member-epochs a second, a number a repetition; the first turn, which compiles, isn't counted."""
    rates: dict[str, list[float]] = {name: [] for name in children}
    for repetition in range(repetitions + 1):
        for name in list(children)[:: -1 if repetition % 2 else 1]:
            epochs = EPOCHS.get(name, MANY)
            seconds = children[name].ask(str(epochs))["seconds"]
            if repetition:
                rates[name].append(epochs * (1 if name == KERAS else num) / seconds)
    return rates


def _rows(rates: dict[str, list[float]], errors: dict[str, float]) -> list[Row]:
    def row(what: str, unit: str, values: Sequence[float], target: float | None = None, **more: bool) -> Row:
        return Row("stacked", what, unit, tuple(values), target, **more)

    peers = [name for name in rates if name not in (OURS, ALONE, KERAS)]
    rows = [row(f"{name}: member-epochs", "1/s", values) for name, values in rates.items()]
    for name in peers:
        target = 1.8 if name == max(peers, key=lambda peer: float(np.median(rates[peer]))) else None
        rows.append(row(f"end2_tf / {name}", "×", timing.ratios(rates[OURS], rates[name]), target))
    rows.append(row("end2_tf / keras fit", "×", timing.ratios(rates[OURS], rates[KERAS]), 100))
    rows += [row(f"{name}: error of members", "%", [100 * error]) for name, error in errors.items() if name != KERAS]
    return rows


def _write_data(path: Path) -> None:
    from end2_tf import registry
    from end2_tf.data import dataset

    data = dataset.load(registry.experiments()["spirals_mlp_end2"].data, data_dir=None, download=False, seed=0)
    mean, std = data.train.inputs.mean(axis=0), data.train.inputs.std(axis=0)  # ours have a layer for it
    np.savez(
        path,
        x_train=np.asarray((data.train.inputs - mean) / std, np.float32),
        y_train=np.asarray(data.train.labels, np.int64),
        x_val=np.asarray((data.validation.inputs - mean) / std, np.float32),
        y_val=np.asarray(data.validation.labels, np.int64),
    )


class _Child:
    """A library in a process of its own."""

    def __init__(self, name: str, process: subprocess.Popen[str]):
        self.name, self.process = name, process
        self.versions = self.answer()["versions"]

    def tell(self, turn: str) -> None:
        assert self.process.stdin is not None
        print(turn, file=self.process.stdin, flush=True)

    def answer(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ModelError(f"{self.name} ended with exit code {self.process.wait()}. Run its script in peers/ alone.")
        return json.loads(line)


@dataclasses.dataclass(frozen=True)
class _SideBySide:
    """The processes of one library, which take a turn together."""

    children: Sequence[_Child]

    def ask(self, turn: str) -> dict[str, float]:
        """Returns the mean answer, but the longest time."""
        for child in self.children:
            child.tell(turn)
        answers = [child.answer() for child in self.children]
        return {key: (max if key == "seconds" else statistics.mean)(a[key] for a in answers) for key in answers[0]}


@contextlib.contextmanager
def _child(name: str, command: Sequence[object]) -> Iterator[_Child]:
    python, script, *arguments = map(str, command)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if python == sys.executable:
        environment["PYTHONPATH"] = str(HERE.parent)
    process = subprocess.Popen(
        [python, str(HERE / "peers" / script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    try:
        yield _Child(name, process)
    finally:
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(timing.main(__doc__, measure))
