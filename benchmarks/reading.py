"""Whether a transfer set is read as fast as the fastest students learn, and written as fast as members answer.

    python benchmarks/reading.py [--quick] [--rows=FILE]

Reading: epochs of the smallest networks there are, through the training loop, with the experiments' own transfer
settings, against the same epochs when one batch, made beforehand, is shown over and over. The difference is what a
step waits for data; where the data's thread takes a core from the training, that counts too. Each epoch shows another
view. Writing: `transfer.record` against asking the members alone. Members are untrained; images are noise.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import distillation
import numpy as np
import timing
from distillation import CLASSES, SHAPE

STUDENTS = ("spirals_mlp_end2", "fashion_mnist_mlp_end2")  # experiments whose networks are that small
STEPS = 27  # an epoch of spirals; the MLP's is cut to as many, since the cost of a view goes with its examples
VIEWS = 4  # recorded; an epoch shows one of them
METHOD = "end2_aux"
MEMBERS = 10
WRITERS, HIDDEN, NUM_WRITTEN = 20, [256, 256], 10_000


class OneBatch:
    """Batches of a training, the first of which is shown at every step."""

    def __init__(self, batches: Any):
        self._batches = batches
        self.steps_per_epoch = batches.steps_per_epoch

    def dataset(self, first_step: int, num_steps: int, share: Any) -> Any:
        import tensorflow as tf

        batch = next(iter(self._batches.dataset(0, 1, share)))
        return tf.data.Dataset.from_tensors(batch).repeat(num_steps - first_step)


def measure(quick: bool) -> list[timing.Row]:
    """Returns the share of a step that is spent waiting, and how fast predictions are recorded."""
    settings = {"repetitions": 2, "seconds": 0.0} if quick else {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in STUDENTS:
            rows += waiting(name, 2 if quick else STEPS, Path(folder) / name, **settings)
        rows += writing(*((2, [4], 100) if quick else (WRITERS, HIDDEN, NUM_WRITTEN)), Path(folder), **settings)
    return rows


def waiting(experiment: str, steps: int, folder: Path, **settings: Any) -> list[timing.Row]:
    """Measures an experiment's student with its data and without.

    Args:
        experiment: Whose network, views, loss and batch are taken.
        steps: In an epoch.
        folder: For the transfer set.
        **settings: Of `timing.in_turns`.
    """
    batches, loss, network = student_of(experiment, METHOD, steps, folder)
    real = distillation.Training(network(), loss, batches)
    cached = distillation.Training(network(), loss, OneBatch(batches))
    for _ in range(VIEWS):
        real()  # reduces what members said, once for each view
    times = timing.in_turns({"real": real, "cached": cached}, **settings)
    shares = tuple(100 * (1 - ratio) for ratio in timing.ratios(times["cached"], times["real"]))
    milliseconds = tuple(1e3 * each / steps for each in times["real"])
    return [
        timing.Row("reading", f"{experiment}: a step", "ms", milliseconds),
        timing.Row("reading", f"{experiment}: waiting for data, of a step", "%", shares, 3, True),
    ]


def student_of(experiment: str, method: str, steps: int, folder: Path) -> tuple[Any, Any, Any]:
    """Records a transfer set for a student of an experiment, on made-up inputs.

    Args:
        experiment, method: Whose network, views, loss and batch are taken.
        steps: In an epoch.
        folder: For the transfer set.

    Returns:
        Its batches; its loss; a function that makes the network, untrained.
    """
    from end2_tf import registry, student, transfer
    from end2_tf.data.pipeline import Batches, Order, label_targets

    chosen = registry.experiments()[experiment]
    how, size = chosen.methods[method], chosen.student.batch_size
    num_classes = 3 if chosen.data.name == "spirals" else CLASSES
    inputs, outside = (make_inputs(chosen.data.name, size * steps, seed) for seed in (0, 1))
    settings = dataclasses.replace(chosen.transfer, num_views=VIEWS)
    places = ((folder / "inside", None), (folder / "outside", None))
    views, auxiliary = transfer.make_views(settings, inputs, outside if how.auxiliary else None, 0, *places)
    loss = student.build_loss(how, MEMBERS)
    if registry.is_on_labels(how.loss):
        targets = label_targets(np.random.default_rng(2).integers(0, num_classes, len(inputs)), views, num_classes)
    else:
        recordings = [
            distillation.record(each, settings, num_classes, MEMBERS, place)
            for each, (place, _) in zip((views, auxiliary), places, strict=True)
            if each is not None
        ]
        look_up = transfer.TransferSet(*recordings).statistics(loss, np.ones(1), with_auxiliary=how.auxiliary)

        def targets(epoch: int, view: int, ids: np.ndarray) -> np.ndarray:
            return look_up(0, view, ids)

    num_auxiliary = 0 if auxiliary is None else len(outside)
    order = Order(len(inputs), size, 0, num_auxiliary=num_auxiliary, auxiliary_share=settings.auxiliary_share)
    batches = Batches(views, order, targets, auxiliary=auxiliary, num_views=VIEWS)
    num_outputs = student.head_of(loss).num_outputs(num_classes)
    network = functools.partial(
        distillation.build, chosen.ensemble.backbone, chosen.ensemble.options, num_outputs, inputs.shape[1:]
    )
    return batches, loss, network


def make_inputs(data: str, num: int, seed: int = 0) -> np.ndarray:
    """Returns noise like an experiment's inputs: points of spirals, or images."""
    if data != "spirals":
        return distillation.make_images(num, seed)[0]
    return np.random.default_rng(seed).normal(0, 150, (num, 2)).astype(np.float32)


def writing(num_members: int, hidden: list[int], num: int, folder: Path, **settings: Any) -> list[timing.Row]:
    """Measures how fast an ensemble of MLPs is recorded, as a share of how fast it answers.

    Args:
        num_members, hidden: The ensemble.
        num: Images.
        folder: Where recordings go; each is removed.
        **settings: Of `timing.in_turns`.
    """
    from end2_tf import config, transfer
    from end2_tf.data.views import Views

    images, _ = distillation.make_images(num)
    ensemble = distillation.make_ensemble(num_members, CLASSES, SHAPE, hidden)
    how, views = config.Transfer(), Views(config.Augmentation(), images, 0)
    views.rows = transfer.shard_rows(how, views, transfer.said_bytes(how, num_members, CLASSES, []))
    numbers = itertools.count()

    def record() -> None:
        place = folder / f"written_{next(numbers)}"
        transfer.record(ensemble, views, how, place)
        shutil.rmtree(place)

    calls = {"asked": lambda: ensemble.predict_logits(images), "recorded": record}
    times = timing.in_turns(calls, **settings)
    shares = tuple(100 * ratio for ratio in timing.ratios(times["asked"], times["recorded"]))
    rate = tuple(num / each for each in times["recorded"])
    return [
        timing.Row("reading", f"recording {num_members} MLPs", "images/s", rate),
        timing.Row("reading", f"recording {num_members} MLPs, of their bare rate", "%", shares, 90),
    ]


if __name__ == "__main__":
    sys.exit(timing.main(__doc__, measure))
