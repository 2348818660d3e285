"""What a served answer costs: an exported student against its bare backbone, and against the ensemble it stands for.

    python benchmarks/served.py [--quick] [--rows=FILE]

All are SavedModels, written by the same means, opened and run in one process, taking turns on the same batch. Student:
all outputs of `serving_default`; backbone: its logits alone. Ensemble: members of the student's architecture, as one
graph that gives all measures, and as models of their own, run one after another, each giving its logits. Ratios to an
ensemble are divided by its members: 1 is a student that is as many times faster as there are members. Weights are
random: times are those of trained ones.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distillation
import numpy as np
import timing
from distillation import CLASSES, SHAPE

BATCH_SIZES = {256: 1.05, 1: 1.2}  # and the most that a student may take, as a multiple of its backbone


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone, and how many members its ensemble has."""

    backbone: str
    options: dict[str, Any]
    num_members: int


NETWORKS = (
    Network("cnn", {"filters": [32, 64], "dense": 128}, 10),
    Network("mlp", {"hidden": [256, 256]}, 100),
)
SMALL = (Network("cnn", {"filters": [2], "dense": 4}, 2), Network("mlp", {"hidden": [4]}, 3))


def measure(quick: bool) -> list[timing.Row]:
    """Returns the cost of a student's outputs, and how many times faster it is than its ensemble."""
    settings = {"repetitions": 2, "seconds": 0.0} if quick else {}
    rows = []
    for network in SMALL if quick else NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            rows += compare(network, Path(folder), **settings)
    return rows


def compare(network: Network, folder: Path, **settings: Any) -> list[timing.Row]:
    """Measures one architecture's student, backbone and ensemble at each batch size.

    Args:
        network: The architecture.
        folder: For the exported models.
        **settings: Of `timing.in_turns`.
    """
    models, rows = export(network, folder), []
    for size, most in BATCH_SIZES.items():
        batch = np.random.default_rng(0).integers(0, 256, (size, *SHAPE), np.uint8)
        times = timing.in_turns(calls(models, batch), **settings)
        where = f"{network.backbone}, batch of {size}"
        rows.append(_row(f"{where}: student", "ms", tuple(1e3 * each for each in times["student"])))
        rows.append(
            _row(
                f"{where}: student / its backbone",
                "×",
                timing.ratios(times["student"], times["backbone"]),
                most,
                True,
            )
        )
        for name, what in (("ensemble", "in one graph"), ("members", "one by one")):
            rows.append(
                _row(
                    f"{where}: {network.num_members} members {what} / student, a member",
                    "×",
                    tuple(ratio / network.num_members for ratio in timing.ratios(times[name], times["student"])),
                    0.9,
                )
            )
    return rows


def _row(what: str, unit: str, values: tuple[float, ...], target: float | None = None, lower: bool = False) -> Any:
    return timing.Row("served", what, unit, values, target, lower)


def export(network: Network, folder: Path) -> dict[str, Any]:
    """Writes student, ensemble and backbone as SavedModels, and opens them; the backbone once for each member."""
    import keras
    import tensorflow as tf

    from end2_tf.ensemble import StackedEnsemble
    from end2_tf.export import signatures
    from end2_tf.heads import DirichletHead
    from end2_tf.models import UncertaintyClassifier

    backbone = distillation.build(network.backbone, network.options, CLASSES)
    rng = np.random.default_rng(1)
    scale = 1 / np.sqrt(256)
    stacks = [rng.normal(0, scale, (network.num_members, *w.shape)).astype(np.float32) for w in backbone.weights]
    ensemble = StackedEnsemble(backbone, stacks).as_model()
    student = UncertaintyClassifier(backbone, DirichletHead())
    predict, specs = signatures.endpoints(student, SHAPE)[signatures.SERVING]
    predict_all, _ = signatures.endpoints(ensemble, SHAPE)[signatures.SERVING]

    def logits(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": backbone(tf.cast(inputs, tf.float32), training=False)}

    endpoints = {"student": (student, predict), "ensemble": (ensemble, predict_all), "backbone": (backbone, logits)}
    for name, (model, function) in endpoints.items():
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(signatures.SERVING, function, input_signature=specs)
        archive.write_out(folder / name, verbose=False)

    def load(name: str) -> Any:
        return tf.saved_model.load(folder / name)

    # Opened anew each member has its own weights, so that they compete for the processor's cache as those of others do.
    members = [load("backbone") for _ in range(network.num_members)]
    return {"student": load("student"), "backbone": members[0], "ensemble": load("ensemble"), "members": members}


def calls(models: dict[str, Any], batch: np.ndarray) -> dict[str, Callable[[], list[dict[str, np.ndarray]]]]:
    """Returns functions that run a batch and end when its answers are in memory."""
    import tensorflow as tf

    from end2_tf.export import signatures

    inputs = tf.constant(batch)

    def call(*loaded: Any) -> Callable[[], list[dict[str, np.ndarray]]]:
        functions = [each.signatures[signatures.SERVING] for each in loaded]
        return lambda: [{k: v.numpy() for k, v in each(**{signatures.INPUTS: inputs}).items()} for each in functions]

    return {
        "student": call(models["student"]),
        "backbone": call(models["backbone"]),
        "ensemble": call(models["ensemble"]),
        "members": call(*models["members"]),
    }


if __name__ == "__main__":
    sys.exit(timing.main(__doc__, measure))
