"""What distillation saves: a student's forward pass against its ensemble's, in time, weights and memory.

python benchmarks/inference.py --student=student.keras --ensemble=ensemble.keras [--batch_size=256] [--json]

Both are published models: an UncertaintyClassifier with all its outputs, and an ensemble as one Keras model with
outputs (batch, members, classes), from which the same measures are computed. Time: the same batch through both as
compiled graphs in one process, taking turns. Memory: each in a process of its own, by how much the peak of resident
memory rises from loading the model and running it; on a GPU that leaves out the GPU's own.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timing

from end2_tf import stages, tables
from end2_tf.errors import ConfigError, End2Error, ModelError

MODELS = ("student", "ensemble")


def compare(
    student: str,
    ensemble: str,
    batch_size: int = 256,
    repetitions: int = timing.REPETITIONS,
    seconds: float = timing.SECONDS,
    memory: bool = True,
) -> dict[str, Any]:
    """Measures both models.

    Args:
        student: Path of a saved UncertaintyClassifier.
        ensemble: Path of a saved Keras model with outputs (batch, members, classes), logits.
        batch_size: Examples in the batch.
        repetitions: Timings of each model, in turns.
        seconds: What a timing takes at least.
        memory: Whether to start the two processes that measure memory.

    Returns:
        `student` and `ensemble`, each with `seconds` for a batch (a number a repetition), `weights` (how many),
        `weight_bytes` and `peak_bytes` (None without memory); `time_ratio`, ensemble / student (a number a repetition);
        `num_members`, `batch_size`, `input_shape`, `processor`, `versions`.

    Raises:
        ConfigError: a number is below 1.
        ModelError: a file can't be opened, or isn't such a model.
    """
    for name, value in (("batch_size", batch_size), ("repetitions", repetitions)):
        if value < 1:
            raise ConfigError(f"{name} is {value}. Allowed: 1 or more.")
    paths = dict(zip(MODELS, (student, ensemble), strict=True))
    models = {name: _load(path, name) for name, path in paths.items()}
    num_members = _num_members(models["ensemble"], models["student"], ensemble)
    shape = tuple(models["student"].input_shape[1:])
    passes = {name: _forward(model) for name, model in models.items()}
    batch = _batch(shape, batch_size)
    times = timing.in_turns(
        {name: functools.partial(forward, batch) for name, forward in passes.items()}, repetitions, seconds
    )
    result: dict[str, Any] = {
        name: {
            "seconds": times[name],
            "weights": sum(int(np.prod(w.shape)) for w in _weights(model)),
            "weight_bytes": sum(int(np.prod(w.shape)) * np.dtype(w.dtype).itemsize for w in _weights(model)),
            "peak_bytes": _peak_in_a_process_of_its_own(paths[name], name, batch_size, shape) if memory else None,
        }
        for name, model in models.items()
    }
    return result | {
        "time_ratio": list(timing.ratios(times["ensemble"], times["student"])),
        "num_members": num_members,
        "batch_size": batch_size,
        "input_shape": list(shape),
        "processor": _processor(),
        "versions": stages.versions(),
    }


def table(result: dict[str, Any]) -> str:
    """Returns the result as aligned text: medians, and the range over repetitions."""
    student, ensemble = (result[name] for name in MODELS)
    rate = {name: [result["batch_size"] / s for s in result[name]["seconds"]] for name in MODELS}
    lines = [
        ["", "student", f"ensemble of {result['num_members']}", "ratio"],
        [
            f"ms for a batch of {result['batch_size']}",
            *(timing.spread([1e3 * s for s in result[name]["seconds"]], 2) for name in MODELS),
            timing.spread(result["time_ratio"], 2),
        ],
        ["examples a second", *(f"{statistics.median(rate[name]):,.0f}" for name in MODELS), ""],
    ]
    for what, key in (("weights, MB", "weight_bytes"), ("peak memory from load and run, MB", "peak_bytes")):
        a, b = student[key], ensemble[key]
        if a is not None and b is not None:
            lines.append([what, f"{a / 1e6:,.1f}", f"{b / 1e6:,.1f}", f"{b / a:.2f}" if a > 0 else "–"])
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    spread = f"median (lowest–highest) of {len(result['time_ratio'])} repetitions"
    return "\n".join([*tables.aligned(lines), f"Time: {spread}. {result['processor']}.", versions])


def _load(path: str, name: str) -> Any:
    import keras

    import end2_tf  # noqa: F401 - registers our classes
    from end2_tf.models import UncertaintyClassifier

    if not Path(path).is_file():
        raise ModelError(f"--{name} is {path!r}, which is no file. Give a .keras file.")
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever Keras meets in a stranger's file
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"--{name}: {path} can't be opened ({reason[0] if reason else type(error).__name__})."
        ) from error
    if name == "student" and not isinstance(model, UncertaintyClassifier):
        raise ModelError(f"--student: {path} is a {type(model).__name__}. Give a saved end2_tf.UncertaintyClassifier.")
    if name == "ensemble" and isinstance(model, UncertaintyClassifier):
        raise ModelError(
            f"--ensemble: {path} is a student, an {type(model).__name__}. Give a saved ensemble, such as "
            "end2_tf.Ensemble(members).as_model()."
        )
    return model


def _weights(model: Any) -> list[Any]:
    """Returns the weights that a pass reads: an EnsembleModel's prototype has some beside its members'."""
    from end2_tf.models import EnsembleModel

    return model.stacks if isinstance(model, EnsembleModel) else model.weights


def _num_members(ensemble: Any, student: Any, path: str) -> int:
    """Returns M of an ensemble's outputs (batch, M, classes), if they fit the student's."""
    import tensorflow as tf

    shape, num_classes = student.input_shape[1:], student.backbone.output_shape[-1]
    try:
        outputs = tuple(ensemble(tf.zeros((1, *shape)), training=False).shape)
    except Exception as error:  # whatever layers raise where inputs don't fit
        raise ModelError(f"--ensemble: {path} takes no inputs of shape {shape}, the student's.") from error
    if len(outputs) != 3 or outputs[-1] != num_classes:
        raise ModelError(
            f"--ensemble: {path} has outputs {('batch', *outputs[1:])}. Allowed: (batch, members, {num_classes}), "
            "logits of the student's classes, as of end2_tf.Ensemble(members).as_model()."
        )
    return outputs[1]


def _forward(model: Any) -> Callable[[Any], dict[str, Any]]:
    """Returns a compiled pass, to all of the measures, that ends when they are there."""
    import tensorflow as tf

    from end2_tf import uncertainty
    from end2_tf.models import UncertaintyClassifier

    @tf.function
    def compiled(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = model(inputs, training=False)
        return outputs if isinstance(model, UncertaintyClassifier) else uncertainty.from_members(outputs)

    return lambda batch: {name: output.numpy() for name, output in compiled(batch).items()}


def _batch(shape: tuple[int, ...], batch_size: int) -> Any:
    import tensorflow as tf

    rng = np.random.default_rng(0)
    size = (batch_size, *shape)
    return tf.constant(rng.integers(0, 256, size) if len(shape) == 3 else rng.normal(size=size), tf.float32)


def _peak_in_a_process_of_its_own(path: str, name: str, batch_size: int, shape: tuple[int, ...]) -> int:
    code = f"import inference; print(inference._peak({path!r}, {name!r}, {batch_size}, {shape}))"
    return timing.number_from_a_process(code, f"--{name}: measuring the memory of {path} failed")


def _peak(path: str, name: str, batch_size: int, shape: tuple[int, ...]) -> int:
    """Returns by how many bytes loading and running a model raises the peak of this process's resident memory."""
    import tensorflow as tf

    batch = _batch(shape, batch_size)
    tf.function(tf.nn.softmax)(tf.zeros((2, 2)))  # what TensorFlow itself needs isn't the model's
    before = timing.peak_resident()
    forward = _forward(_load(path, name))
    for _ in range(5):
        forward(batch)
    return timing.peak_resident() - before


def _processor() -> str:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    return timing.processor()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--student", required=True, help="a saved UncertaintyClassifier, .keras")
    parser.add_argument("--ensemble", required=True, help="a saved ensemble as one Keras model, .keras")
    parser.add_argument("--batch_size", type=int, default=256, help="examples in the batch (default 256)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    given = parser.parse_args(arguments)
    try:
        result = compare(given.student, given.ensemble, given.batch_size)
    except End2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(result, indent=1) if given.json else table(result))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
