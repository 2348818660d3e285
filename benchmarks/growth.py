"""How costs grow: time and memory against members, examples, classes and batch size, each with its exponent.

    python benchmarks/growth.py [--quick] [--rows=FILE]

What is measured: an epoch of a stacked ensemble (as many steps for every number of members, classes and every batch
size), the recording of a transfer set, a student's step with each loss on members' predictions, the reduction of
members' logits that comes before it, inference of student and ensemble, and the measures. Along a curve one quantity
grows and all others stay. Its exponent is the slope of ln(cost) over ln(quantity) on the curve's upper half, where what
every call costs weighs least: 0 is no growth, 1 in proportion; above 1.1 is a target missed, and named below the
tables. Time: the points of a curve take turns. Memory: by how much one more call raises the peak of resident memory.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timing

from end2_tf import config, registry, tables
from end2_tf.errors import End2Error

LINEAR = 1.1  # the largest exponent that is no news
FEATURES, UNITS = 16, 32
REPETITIONS, SECONDS = 3, 0.05
RESOLUTION = 1e6  # bytes: what less adds can't be told from the allocator's own
MEMBERS = (1, 3, 10, 30, 100, 300)
CLASSES = (3, 10, 100, 1_000, 10_000)
EXAMPLES = (1_000, 3_000, 10_000, 30_000)
BATCHES = (64, 256, 1_024, 4_096)
FIXED = {"members": 10, "examples": 1_000, "classes": 10, "batch": 128}  # what doesn't grow along a curve
STEPS = 4  # in an epoch of a stacked ensemble
EPOCHS = 4  # of which the first traces the graph


@dataclasses.dataclass(frozen=True)
class Curve:
    """What one thing costs as one quantity grows.

    Attributes:
        what: What is done, against what.
        seconds: Quantity → seconds, a number a repetition.
        added: Quantity → bytes that a call adds to resident memory at its peak; empty where that can't be read.
    """

    what: str
    seconds: Mapping[int, Sequence[float]]
    added: Mapping[int, float]

    def rows(self) -> list[timing.Row]:
        """Returns the exponents of time, one a repetition, and of memory."""
        turns = zip(*self.seconds.values(), strict=True)
        times = tuple(exponent(dict(zip(self.seconds, turn, strict=True))) for turn in turns)
        rows = [timing.Row("growth", f"time of {self.what}", "exponent", times, LINEAR, is_lower_better=True)]
        if self.added:
            values = (exponent({number: max(RESOLUTION, added) for number, added in self.added.items()}),)
            rows.append(timing.Row("growth", f"memory of {self.what}", "exponent", values, LINEAR, True))
        return rows

    def lines(self) -> list[list[str]]:
        """Returns the curve as two lines of a table."""
        milliseconds = (f"{number:,}: {1e3 * statistics.median(found):.3g}" for number, found in self.seconds.items())
        megabytes = (f"{number:,}: {added / 1e6:.3g}" for number, added in self.added.items())
        return [[f"{self.what}, ms", *milliseconds], *([[f"{self.what}, MB", *megabytes]] if self.added else [])]


def exponent(costs: Mapping[int, float]) -> float:
    """Returns the slope of ln(cost) over ln(quantity) on the upper half of the quantities, by least squares."""
    if len(costs) < 2:
        raise End2Error(f"a curve has {len(costs)} point. Allowed: 2 or more, or nothing can be said of its growth.")
    upper = sorted(costs)[min(len(costs) // 2, len(costs) - 2) :]
    return float(np.polyfit(np.log(upper), np.log([costs[number] for number in upper]), 1)[0])


def measure(quick: bool) -> list[timing.Row]:
    """Measures all curves, prints them and what grows faster than in proportion; a try has two points a curve."""
    found = list(curves(quick))
    print("\n".join(tables.aligned(_padded([line for curve in found for line in curve.lines()]))), end="\n\n")
    rows = [row for curve in found for row in curve.rows()]
    above = [row.what for row in rows if not row.is_met]
    print(f"Grows faster than in proportion: {'; '.join(above)}." if above else "Nothing grows faster than linearly.")
    print()
    return rows


def curves(quick: bool) -> Iterator[Curve]:
    """Measures one curve after another."""
    axes = {"members": MEMBERS, "examples": EXAMPLES, "classes": CLASSES, "batch": BATCHES}
    if quick:
        axes = {name: (3, 6) if name in ("members", "classes") else (64, 128) for name in axes}
    for axis in ("members", "classes", "batch"):
        numbers = axes[axis] if quick or axis != "classes" else CLASSES[2:]
        yield stacked_epoch(axis, numbers)
    makers: list[tuple[str, str, Callable[..., Callable[[], Any]]]] = [
        *(("recording", axis, recording) for axis in ("members", "examples", "classes")),
        ("ensemble's inference", "members", ensemble_inference),
        *(("student's inference", axis, student_inference) for axis in ("classes", "batch")),
        *(("measures of members", axis, member_measures) for axis in ("members", "examples", "classes")),
        *(("measures of alphas", axis, alpha_measures) for axis in ("examples", "classes")),
    ]
    for name in losses():
        makers.append((f"{name}'s reduction", "members", functools.partial(reduction, name)))
        makers += [(f"{name}'s step", axis, functools.partial(student_step, name)) for axis in ("classes", "batch")]
    for what, axis, make in makers:
        numbers = axes[axis]
        if "hydra" in what and not quick and axis == "classes":
            numbers = CLASSES[:-1]  # 10,000 classes and 10 heads would be weights of 3 million, and nothing else
        yield curve(
            f"{what} against {_plural(axis)}", numbers, lambda number, m=make, a=axis: m(**{**FIXED, a: number})
        )


def losses() -> list[str]:
    """Returns the names of the losses on members' predictions."""
    return [name for name in registry.names("loss") if not registry.is_on_labels(name)]


def curve(what: str, numbers: Sequence[int], make: Callable[[int], Callable[[], Any]]) -> Curve:
    """Times what `make` returns for each number, in turns, and reads what one call adds to memory."""
    calls = {number: make(number) for number in numbers}
    named = timing.in_turns({str(number): call for number, call in calls.items()}, REPETITIONS, SECONDS)
    added = {number: added_by(call) for number, call in calls.items()}
    return Curve(what, {n: named[str(n)] for n in numbers}, {n: a for n, a in added.items() if a is not None})


def added_by(call: Callable[[], Any]) -> float | None:
    """Returns by how many bytes a call raises resident memory at its peak; None where the system doesn't say."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else a call may live on what others left
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    except (OSError, AttributeError):
        return None
    before = timing.peak_resident()
    call()
    return float(timing.peak_resident() - before)


def stacked_epoch(axis: str, numbers: Sequence[int]) -> Curve:
    """Trains stacked ensembles for a few epochs; the first of each, which traces the graph, is left out."""
    seconds: dict[int, list[float]] = {}
    added: dict[int, float] = {}
    for number in numbers:
        sizes = {**FIXED, axis: number}
        moments: list[float] = []

        def train(sizes: dict[str, int] = sizes, moments: list[float] = moments) -> None:
            train_stacked(sizes, lambda *_: moments.append(time.perf_counter()))

        peak = added_by(train)
        if peak is not None:
            added[number] = peak
        seconds[number] = [b - a for a, b in itertools.pairwise(moments)]
    return Curve(f"a stacked epoch of {STEPS} steps against {_plural(axis)}", seconds, added)


def train_stacked(sizes: Mapping[str, int], progress: Callable[..., None]) -> None:
    from end2_tf.data.dataset import DataSet
    from end2_tf.data.examples import Examples
    from end2_tf.ensemble import stacked

    rng = np.random.default_rng(0)
    num = STEPS * sizes["batch"]
    inputs = rng.normal(size=(num, FEATURES)).astype(np.float32)
    examples = Examples(inputs, np.arange(num) % sizes["classes"])
    data = DataSet(examples, examples, examples, None, class_names=tuple(map(str, range(sizes["classes"]))))
    settings = config.Ensemble(epochs=EPOCHS, batch_size=sizes["batch"])
    seeds = list(range(sizes["members"]))
    stacked.train([network(sizes["classes"]) for _ in seeds], data, settings, seeds=seeds, progress=progress)


def network(num_outputs: int) -> Any:
    import keras

    layers = [keras.layers.Dense(UNITS, "relu"), keras.layers.Dense(num_outputs)]
    return keras.Sequential([keras.Input((FEATURES,)), *layers])


def inputs_of(num: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num, FEATURES)).astype(np.float32)


def make_ensemble(members: int, classes: int) -> Any:
    """Returns a stacked ensemble whose weights nobody trained."""
    from end2_tf.ensemble import StackedEnsemble

    prototype, rng = network(classes), np.random.default_rng(1)
    return StackedEnsemble(
        prototype, [rng.normal(size=(members, *weight.shape)).astype(np.float32) for weight in prototype.weights]
    )


def recording(members: int, examples: int, classes: int, **_: int) -> Callable[[], None]:
    """Asks members about all examples and writes what they say."""
    from end2_tf import transfer
    from end2_tf.data.views import Views

    ensemble, settings = make_ensemble(members, classes), config.Transfer(dtype="float16")
    views = Views(config.Augmentation(), inputs_of(examples), 0)
    views.rows = transfer.shard_rows(settings, views, transfer.said_bytes(settings, members, classes, []))

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            transfer.record(ensemble, views, settings, Path(folder))

    return call


def reduction(loss: str, members: int, classes: int, batch: int, **_: int) -> Callable[[], Any]:
    """Reduces members' logits to what the loss needs of them."""
    from end2_tf import transfer

    made = make_loss(loss, members)
    logits = np.random.default_rng(0).normal(size=(batch, members, classes)).astype(np.float32)
    return lambda: transfer.reduce(made, logits, 1.0)


def student_step(loss: str, members: int, classes: int, batch: int, **_: int) -> Callable[[], Any]:
    """Makes a step of a student on statistics that are there, as a transfer set has them."""
    import keras
    import tensorflow as tf

    from end2_tf import student, transfer

    made = make_loss(loss, members, targets="statistics")
    model = network(student.head_of(made).num_outputs(classes))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    few = np.random.default_rng(0).normal(size=(min(batch, 16), members, classes)).astype(np.float32)
    statistics = transfer.reduce(make_loss(loss, members), few, 1.0)
    targets = tf.constant(np.resize(statistics, (batch, statistics.shape[1])))  # repeated: many would take too long
    inputs = tf.constant(inputs_of(batch))

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(made.call(targets, model(inputs, training=True)))
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return value

    return lambda: step().numpy()


def make_loss(name: str, num_members: int, **options: Any) -> Any:
    from end2_tf import student

    made = student.build_loss(config.Method(loss=name), num_members, "method")
    return type(made).from_config({**made.get_config(), **options})


def student_inference(classes: int, batch: int, **_: int) -> Callable[[], Any]:
    """Asks a student with a Dirichlet head for all of its outputs."""
    import tensorflow as tf

    from end2_tf.heads import DirichletHead
    from end2_tf.models import UncertaintyClassifier

    model, inputs = UncertaintyClassifier(network(classes), DirichletHead()), tf.constant(inputs_of(batch))
    forward = tf.function(lambda: model(inputs, training=False))
    return lambda: {name: value.numpy() for name, value in forward().items()}


def ensemble_inference(members: int, classes: int, batch: int, **_: int) -> Callable[[], Any]:
    """Asks all members of a stacked ensemble."""
    ensemble, inputs = make_ensemble(members, classes), inputs_of(batch)
    return lambda: ensemble.predict_logits(inputs)


def member_measures(members: int, examples: int, classes: int, **_: int) -> Callable[[], Any]:
    from end2_tf import uncertainty

    logits = np.random.default_rng(0).normal(size=(examples, members, classes)).astype(np.float32)
    return lambda: uncertainty.from_members(logits)


def alpha_measures(examples: int, classes: int, **_: int) -> Callable[[], Any]:
    from end2_tf import uncertainty

    alphas = np.random.default_rng(0).standard_exponential((examples, classes), np.float32) + np.float32(1e-3)
    return lambda: uncertainty.from_alphas(alphas)


def _plural(axis: str) -> str:
    return "batch size" if axis == "batch" else axis


def _padded(lines: list[list[str]]) -> list[list[str]]:
    width = max(map(len, lines))
    return [[*line, *[""] * (width - len(line))] for line in lines]


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(timing.main(__doc__, measure))
