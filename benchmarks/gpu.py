"""What a GPU makes of the paper's network, and of a small one: steps, share of its peak, latency; precisions, XLA.

    python benchmarks/gpu.py [--quick] [--rows=FILE]

Training: steps of a member of `cifar10_vgg16` (its batch size, optimiser and epochs; VGG-16 of 70 million weights on
images of noise), in TF32 and in bfloat16 with float32 weights, each with XLA and without, in turns. Members an hour
follow from a step's time; validation and saving are not in it. Model FLOPs utilisation: what `--describe` counts of a
forward pass, three times for a step, over what a large matrix product in the same precision reaches on this device;
TF32, TensorFloat-32, is what TensorFlow makes of float32 there. A small network's steps are a student's of
`cifar10_cnn_end2`, of 456,000 weights, in the package's own loop, which compiles them on a GPU.
Latency: a student with all of its outputs, float32, from an array in the host's memory to arrays there. Needs a GPU; a
try takes a narrow network, on the CPU where there is none.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import timing

from end2_tf import registry
from end2_tf.errors import ConfigError

EXPERIMENT = "cifar10_vgg16"
SHAPE, CLASSES = (32, 32, 3), 10
NARROW = {"width": 4, "dense": 16}  # for a try
BATCHES = (1, 256)  # of the student
PRECISIONS = {"TF32": False, "bfloat16": True}  # → whether it is mixed
COMPILED = {"XLA": True, "no XLA": False}
SIDE = 8192  # of the matrices whose product says what the device can do
STUDENT = "cifar10_cnn_end2"
STEPS = 32  # of a student, in a call: as many as the loop makes in one
PRODUCTS = 10  # in a call, each of the one before, so that starting them is nothing


def measure(quick: bool) -> list[timing.Row]:
    """Measures training and latency.

    Raises:
        ConfigError: there is no GPU, and it isn't a try.
    """
    name = device(quick)
    experiment: Any = registry.experiments()[EXPERIMENT]
    settings, batch = experiment.ensemble, 8 if quick else experiment.ensemble.batch_size
    repetitions, seconds = (1, 0.0) if quick else (timing.REPETITIONS, timing.SECONDS)
    options = {**settings.options, **(NARROW if quick else {})}
    variants = list(itertools.product(PRECISIONS, COMPILED))
    steps = {
        f"{precision}, {how}": step(options, settings.optimizer, batch, PRECISIONS[precision], COMPILED[how])
        for precision, how in variants
    }
    products = {precision: product(128 if quick else SIDE, precision) for precision in PRECISIONS}
    times = timing.in_turns({**steps, **products}, repetitions, seconds)
    counted = 3 * batch * flops_of(options)
    side = 128 if quick else SIDE
    rows = []
    for precision in PRECISIONS:
        peaks = tuple(peak_flops(side, found) / 1e12 for found in times[precision])
        rows.append(row(f"matrix product, {precision}", "TFLOP/s", peaks, name))
    for precision, how in variants:
        what = f"{precision}, {how}"
        per_hour = tuple(members_an_hour(found, batch, experiment) for found in times[what])
        rows.append(row(f"VGG-16 members an hour, {what}", "1/h", per_hour, name))
        reached = tuple(counted / found for found in times[what])
        utilisation = timing.ratios(reached, [peak_flops(side, found) for found in times[precision]])
        rows.append(row(f"model FLOPs utilisation, {what}", "%", tuple(100 * u for u in utilisation), name))
    for what, above, below in (
        ("a step in TF32 / in bfloat16, no XLA", "TF32, no XLA", "bfloat16, no XLA"),
        ("a step without XLA / with it, TF32", "TF32, no XLA", "TF32, XLA"),
        ("a step without XLA / with it, bfloat16", "bfloat16, no XLA", "bfloat16, XLA"),
    ):
        rows.append(row(what, "×", timing.ratios(times[above], times[below]), name))
    students = {
        what: student_steps(PRECISIONS[precision], COMPILED[how], quick)
        for (precision, how), what in zip(variants, steps, strict=True)
    }
    times = timing.in_turns(students, repetitions, seconds)
    for what, found in times.items():
        per_step = tuple(1e3 * value / STEPS for value in found)
        rows.append(row(f"a small student's step, {what}", "ms", per_step, name))
    for precision in PRECISIONS:
        of = timing.ratios(times[f"{precision}, no XLA"], times[f"{precision}, XLA"])
        rows.append(row(f"a small student's step without XLA / with it, {precision}", "×", of, name))
    calls = {
        f"student's latency, batch {size}, {how}": forward(options, size, COMPILED[how])
        for size, how in itertools.product(BATCHES, COMPILED)
    }
    for what, found in timing.in_turns(calls, repetitions, seconds).items():
        rows.append(row(what, "ms", tuple(1e3 * value for value in found), name))
    return rows


def row(what: str, unit: str, values: tuple[float, ...], name: str) -> timing.Row:
    return timing.Row("gpu", f"{what} ({name})", unit, values)


def device(quick: bool) -> str:
    """Returns the name of the GPU, or of the CPU in a try."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    if quick:
        return "CPU"
    raise ConfigError("there is no GPU here, and benchmarks/gpu.py measures one. Allowed without: --quick, a try.")


def network(options: dict[str, Any], mixed: bool) -> Any:
    from end2_tf import backbones, training

    with training.precision(mixed):
        return backbones.build(
            "vgg16",
            options,
            input_shape=SHAPE,
            num_classes=CLASSES,
            mean=np.full(SHAPE[-1:], 127.5),
            std=np.full(SHAPE[-1:], 64.0),
        )


def images(num: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, *SHAPE)).astype(np.float32)


def step(options: dict[str, Any], settings: Any, batch: int, mixed: bool, compiled: bool) -> Callable[[], Any]:
    """Returns a call that makes one step of a member's training and waits for it; returns its loss."""
    import tensorflow as tf

    from end2_tf import training

    model = network(options, mixed)
    optimizer = training.optimizer(settings, 1_000_000, model.trainable_variables)
    optimizer.build(model.trainable_variables)
    inputs, labels = tf.constant(images(batch)), tf.constant(np.arange(batch) % CLASSES)

    @tf.function(jit_compile=compiled)
    def make() -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = tf.cast(model(inputs, training=True), tf.float32)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, model.trainable_variables)
        if settings.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, settings.clip_norm)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda: make().numpy()


def student_steps(mixed: bool, compiled: bool, quick: bool) -> Callable[[], Any]:
    """Returns a call that makes `STEPS` steps of a student of `STUDENT` in the package's loop, on images of noise."""
    from end2_tf import backbones, config, losses, training
    from end2_tf.data.pipeline import Batches, Order
    from end2_tf.data.views import Views
    from end2_tf.loop import Loop

    experiment: Any = registry.experiments()[STUDENT]
    options = {**experiment.ensemble.options, **({"filters": [4], "convolutions": [1], "dense": 8} if quick else {})}
    batch = 8 if quick else experiment.student.batch_size
    with training.precision(mixed):
        model = backbones.build(
            experiment.ensemble.backbone,
            options,
            input_shape=SHAPE,
            num_classes=CLASSES,
            mean=np.full(SHAPE[-1:], 127.5),
            std=np.full(SHAPE[-1:], 64.0),
        )
    model.optimizer = training.optimizer(experiment.student.optimizer, 1_000_000, model.trainable_variables)
    model.optimizer.build(model.trainable_variables)
    inputs = images(STEPS * batch).astype(np.uint8)
    targets = np.random.default_rng(0).normal(size=(len(inputs), 8, CLASSES)).astype(np.float32)  # of 8 members
    views, order = Views(config.Augmentation(), inputs, 0), Order(len(inputs), batch, 0)
    batches = Batches(views, order, lambda epoch, view, ids: targets[ids])
    calls = Loop(model, losses.MeanPrecision(), compiled=compiled).run(batches, 0, 10**9)
    return lambda: next(calls)


def product(side: int, precision: str) -> Callable[[], Any]:
    """Returns a call that multiplies large matrices a few times and waits."""
    import tensorflow as tf

    dtype = tf.bfloat16 if PRECISIONS[precision] else tf.float32
    values = tf.cast(tf.random.stateless_normal((side, side), (0, 0)) / math.sqrt(side), dtype)

    @tf.function
    def multiply() -> tf.Tensor:
        made = values
        for _ in range(PRODUCTS):
            made = tf.linalg.matmul(made, values)
        return tf.reduce_max(made)

    return lambda: tf.cast(multiply(), tf.float32).numpy()


def peak_flops(side: int, seconds: float) -> float:
    """Returns the FLOP/s of `product`, 2 a multiply-add."""
    return PRODUCTS * 2 * side**3 / seconds


def flops_of(options: dict[str, Any]) -> int:
    """Returns the FLOPs of one image's forward pass, as `--describe` counts them."""
    from end2_tf import describe

    return describe.forward_flops(network(options, mixed=False), SHAPE)


def members_an_hour(seconds: float, batch: int, experiment: Any) -> float:
    """Returns how many members are trained in an hour of steps, by the experiment's examples and epochs."""
    steps = math.ceil(experiment.data.expected.train / batch) * experiment.ensemble.epochs
    return 3600 / (steps * seconds)


def forward(options: dict[str, Any], batch: int, compiled: bool) -> Callable[[], dict[str, Any]]:
    """Returns a call that asks a student for all of its outputs."""
    import tensorflow as tf

    from end2_tf.heads import DirichletHead
    from end2_tf.models import UncertaintyClassifier

    model, inputs = UncertaintyClassifier(network(options, mixed=False), DirichletHead()), images(batch)
    ask = tf.function(functools.partial(model, training=False), jit_compile=compiled)
    return lambda: {name: value.numpy() for name, value in ask(tf.constant(inputs)).items()}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(timing.main(__doc__, measure))
