"""What distilling costs a training step: each loss on members' predictions against cross-entropy on labels.

    python benchmarks/distillation.py [--quick] [--rows=FILE]

Steps of one and the same network on the same images, taking turns: through the training loop, once with labels, once
with a transfer set that was recorded of members and, before anything is timed, reduced to what the loss needs. Where a
loss needs another number of outputs, the network with labels has it too. All losses on an MLP, the main ones on a CNN.
Then steps that learn from 1,000 members against steps that learn from 10. Images are noise and members are untrained:
neither changes what is measured.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timing

SHAPE, CLASSES = (28, 28, 1), 10
MEMBERS = (10, 1000)
BATCH_SIZE = 128
STEPS = 1_000_000  # of a training: more than are ever made
BACKBONES = {  # those of the experiments on Fashion-MNIST
    "mlp": {"hidden": [256, 256]},
    "cnn": {"filters": [32, 64], "dense": 128},
}
SMALL: dict[str, dict[str, Any]] = {"mlp": {"hidden": [4]}, "cnn": {"filters": [2], "dense": 4}}
PER_CALL = {"mlp": 32, "cnn": 8}  # steps, which is an epoch
TIMED = {"cnn": ("ensemble_distillation", "mean_precision", "dirichlet_nll")}  # a loss costs as much after any backbone
COMPARED = "mean_precision"  # for the number of members; every loss finds the same rows, however many there were


class Training:
    """One training without an end; a call makes the steps of one call of the graph.

    Args:
        network: From raw inputs to outputs, untrained.
        loss: Of (targets, outputs).
        batches: What to show; an epoch is one call where it has at most `loop.STEPS_PER_CALL` steps.
    """

    def __init__(self, network: Any, loss: Any, batches: Any):
        from end2_tf import config, training
        from end2_tf.loop import Loop

        network.compile(optimizer=training.optimizer(config.Optimizer(), STEPS), loss=loss, jit_compile=False)
        network.optimizer.build(network.trainable_variables)
        self._calls = Loop(network, loss).run(batches, 0, STEPS)

    def __call__(self) -> None:
        next(self._calls)


def measure(quick: bool) -> list[timing.Row]:
    """Returns the cost of each loss, on an MLP and a CNN, and that of more members."""
    settings = {"repetitions": 2, "seconds": 0.0} if quick else {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backbone, options in (SMALL if quick else BACKBONES).items():
            num = PER_CALL[backbone] * (4 if quick else BATCH_SIZE)
            rows += losses(backbone, options, num, Path(folder) / backbone, TIMED.get(backbone, ()), **settings)
        rows.append(members(4 if quick else BATCH_SIZE, Path(folder), quick, **settings))
    return rows


def losses(
    backbone: str, options: dict[str, Any], num: int, folder: Path, names: Sequence[str] = (), **settings: Any
) -> list[timing.Row]:
    """Measures a step of each loss on one backbone.

    Args:
        backbone, options: The network.
        num: Images, an epoch of `PER_CALL` steps.
        folder: For the transfer set.
        names: Of the losses; by default all that learn from members.
        **settings: Of `timing.in_turns`.
    """
    from end2_tf import config, student
    from end2_tf.losses import CrossEntropy

    images, labels = make_images(num)
    size = num // PER_CALL[backbone]
    found = {}
    names = names or on_members()
    for name in names:
        loss = student.build_loss(config.Method(loss=name), MEMBERS[0])
        outputs = student.head_of(loss).num_outputs(CLASSES)
        network = build(backbone, options, outputs)
        found[name] = Training(network, loss, of_members(images, loss, size, MEMBERS[0], folder)), outputs
    references = {
        outputs: Training(build(backbone, options, outputs), CrossEntropy(), of_labels(images, labels, size))
        for outputs in {outputs for _, outputs in found.values()}
    }
    calls = {f"labels {outputs}": call for outputs, call in references.items()}
    times = timing.in_turns(calls | {name: call for name, (call, _) in found.items()}, **settings)
    rows = [
        timing.Row(
            "distillation",
            f"{backbone}: a step of cross-entropy",
            "ms",
            tuple(1e3 * each / PER_CALL[backbone] for each in times[f"labels {CLASSES}"]),
        )
    ]
    for name in names:
        ratio = timing.ratios(times[name], times[f"labels {found[name][1]}"])
        rows.append(timing.Row("distillation", f"{backbone}: {name} / cross-entropy", "×", ratio, 1.05, True))
    return rows


def on_members() -> list[str]:
    """Returns the names of the losses that learn from members."""
    from end2_tf import registry

    return [name for name in registry.names("loss") if not registry.is_on_labels(name)]


def members(size: int, folder: Path, quick: bool, **settings: Any) -> timing.Row:
    """Measures a step that learns from many members against one that learns from few."""
    from end2_tf import config, student

    images, _ = make_images(size * PER_CALL["mlp"])
    options = (SMALL if quick else BACKBONES)["mlp"]
    numbers = (2, 20) if quick else MEMBERS
    calls = {}
    for num in numbers:
        loss = student.build_loss(config.Method(loss=COMPARED), num)
        batches = of_members(images, loss, size, num, folder / f"{num}")
        calls[num] = Training(build("mlp", options, CLASSES), loss, batches)
    few, many = timing.in_turns(calls, **settings).values()
    what = f"mlp: {COMPARED} of {numbers[1]:,} members / of {numbers[0]}"
    return timing.Row("distillation", what, "×", timing.ratios(many, few), 1.02, True)


def make_images(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns noise, uint8 (num, *SHAPE), and labels (num,)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, *SHAPE), np.uint8), rng.integers(0, CLASSES, num)


def build(backbone: str, options: dict[str, Any], num_outputs: int, shape: Sequence[int] = SHAPE) -> Any:
    """Returns an untrained network from raw inputs to so many outputs."""
    from end2_tf import backbones

    return backbones.build(
        backbone,
        options,
        input_shape=tuple(shape),
        num_classes=num_outputs,
        mean=np.full(shape[-1], 127.5),
        std=np.full(shape[-1], 74.0),
    )


def make_ensemble(num_members: int, num_classes: int, shape: Sequence[int], hidden: Sequence[int] = ()) -> Any:
    """Returns an ensemble of MLPs with random weights; linear ones by default."""
    from end2_tf.ensemble import StackedEnsemble

    prototype = build("mlp", {"hidden": list(hidden)}, num_classes, shape)
    rng = np.random.default_rng(1)
    stacks = [rng.normal(0, 0.05, (num_members, *w.shape)).astype(np.float32) for w in prototype.weights]
    return StackedEnsemble(prototype, stacks)


def record(views: Any, settings: Any, num_classes: int, num_members: int, folder: Path) -> Any:
    """Records what linear members say of an experiment's views, in a folder; returns the recording."""
    from end2_tf import transfer

    ensemble = make_ensemble(num_members, num_classes, views.inputs.shape[1:])
    views.rows = transfer.shard_rows(settings, views, transfer.said_bytes(settings, num_members, num_classes, []))
    transfer.record(ensemble, views, settings, folder)
    return transfer.open_recording(folder, transfer.details(settings, views, ensemble))


def of_members(images: np.ndarray, loss: Any, size: int, num_members: int, folder: Path) -> Any:
    """Returns batches of `size` images with what a loss needs of what members said, which is recorded in a folder."""
    from end2_tf import config, transfer
    from end2_tf.data.views import Views

    recording = record(Views(config.Augmentation(), images, 0), config.Transfer(), CLASSES, num_members, folder)
    look_up = transfer.TransferSet(recording).statistics(loss, np.ones(1), with_auxiliary=False)
    return _batches(images, lambda views: lambda epoch, view, ids: look_up(0, view, ids), size)


def of_labels(images: np.ndarray, labels: np.ndarray, size: int) -> Any:
    """Returns batches of `size` images with their labels."""
    from end2_tf.data.pipeline import label_targets

    return _batches(images, lambda views: label_targets(labels, views, CLASSES), size)


def _batches(images: np.ndarray, make_targets: Any, size: int) -> Any:
    from end2_tf import config
    from end2_tf.data.pipeline import Batches, Order
    from end2_tf.data.views import Views

    views = Views(config.Augmentation(), images, 0)
    return Batches(views, Order(len(images), size, 0), make_targets(views))


if __name__ == "__main__":
    sys.exit(timing.main(__doc__, measure))
