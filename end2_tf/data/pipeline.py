"""Batches as a `tf.data` pipeline in which each batch is a pure function of the step.

The order of examples, the view (all random augmentation) and the targets follow from (seed, step), so a training that
resumes at step n sees what an uninterrupted one would have seen from there on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from end2_tf.data.views import Views

Targets = Callable[[int, int, np.ndarray], np.ndarray]
"""(epoch, view, ids) → targets, (batch, ...); ids count in-domain examples first, auxiliary ones after them."""


@dataclasses.dataclass(frozen=True)
class Order:
    """Which examples make up a batch.

    A batch holds `batch_size` in-domain examples (fewer at the end of an epoch) and, of `num_auxiliary` inputs, so many
    that they are `auxiliary_share` of a full batch. An epoch is one pass over the in-domain examples, so a method with
    auxiliary data takes as many steps as one without.
    """

    num_examples: int
    batch_size: int
    seed: int
    num_auxiliary: int = 0
    auxiliary_share: float = 0.5

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_examples // self.batch_size)

    @property
    def auxiliary_per_batch(self) -> int:
        if not self.num_auxiliary:
            return 0
        return max(1, round(self.batch_size * self.auxiliary_share / (1 - self.auxiliary_share)))

    def batch(self, step: int) -> np.ndarray:
        """Returns the ids of one batch, int64; auxiliary input j has id num_examples + j."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _permutation(self.num_examples, self.seed, epoch, 0)
        ids = order[position * self.batch_size : (position + 1) * self.batch_size]
        if not self.num_auxiliary:
            return ids
        taken = np.arange(step * self.auxiliary_per_batch, (step + 1) * self.auxiliary_per_batch)
        rounds, places = np.divmod(taken, self.num_auxiliary)
        auxiliary = [
            _permutation(self.num_auxiliary, self.seed, int(r), 1)[p] for r, p in zip(rounds, places, strict=True)
        ]
        return np.concatenate([ids, self.num_examples + np.asarray(auxiliary, np.int64)])


class _LastPermutations:
    """Keeps the permutations in use: one for the in-domain examples and up to two for auxiliary ones."""

    def __init__(self, size: int = 8):
        self.size = size
        self.kept: dict[tuple[int, ...], np.ndarray] = {}

    def __call__(self, num: int, *key: int) -> np.ndarray:
        whole = (num, *key)
        if whole not in self.kept:
            while len(self.kept) >= self.size:
                self.kept.pop(next(iter(self.kept)))
            self.kept[whole] = np.random.default_rng(list(key)).permutation(num)
        return self.kept[whole]


_permutation = _LastPermutations()


def batches(
    views: Views,
    order: Order,
    targets: Targets,
    *,
    num_steps: int,
    first_step: int = 0,
    auxiliary: Views | None = None,
    num_views: int | None = None,
    label_batch: Callable[[Any, Any, Any], Any] | None = None,
) -> tf.data.Dataset:
    """Returns the batches of steps `first_step` to `num_steps`, as (inputs float32, targets).

    Args:
        views: The in-domain inputs and their augmentation.
        order: Which examples make up a batch.
        targets: Looks up a batch's targets.
        num_steps: Where the pipeline ends.
        first_step: Where it starts.
        auxiliary: Inputs without labels and their augmentation, if `order` takes any.
        num_views: How many recorded views there are; epoch e shows view e mod num_views. None: a view an epoch.
        label_batch: (inputs, targets, epoch) → targets, in the graph, for teachers that see what the student sees.
    """
    example = targets(0, 0, np.arange(1))

    def lookup(position: np.int64) -> tuple[np.ndarray, np.ndarray, np.int64]:
        step = int(position)
        ids = order.batch(step)
        epoch = step // order.steps_per_epoch
        view = epoch % num_views if num_views else epoch
        inside = ids < order.num_examples
        inputs = views.array(view)[ids[inside]]
        if auxiliary is not None and not inside.all():
            inputs = np.concatenate([inputs, auxiliary.array(view)[ids[~inside] - order.num_examples]])
        return inputs, targets(epoch, view, ids), np.int64(epoch)

    dtypes = [tf.as_dtype(views.inputs.dtype), tf.as_dtype(example.dtype), tf.int64]

    def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs, y, epoch = tf.numpy_function(lookup, [step], dtypes, stateful=False)
        inputs.set_shape((None, *views.inputs.shape[1:]))
        y.set_shape((None, *example.shape[1:]))
        epoch.set_shape(())
        inputs = tf.cast(inputs, tf.float32)
        return inputs, (y if label_batch is None else label_batch(inputs, y, epoch))

    steps = tf.data.Dataset.range(first_step, num_steps)
    return steps.map(load).prefetch(8)  # one batch after the other, ahead of the training


def label_targets(labels: np.ndarray, views: Views, num_classes: int) -> Targets:
    """Returns labels as targets; where inputs are mixed up, rows (batch, classes) of one-hot labels mixed up alike."""
    if not views.augmentation.mixup:
        return lambda epoch, view, ids: labels[ids]
    return label_rows(labels, views, num_classes)


def label_rows(labels: np.ndarray, views: Views, num_classes: int) -> Targets:
    """Returns labels as targets (batch, classes): one-hot, mixed up as the inputs are."""
    rows = np.eye(num_classes, dtype=np.float32)[labels]

    def targets(epoch: int, view: int, ids: np.ndarray) -> np.ndarray:
        if not views.augmentation.mixup:
            return rows[ids]
        partners, weights = (table[ids] for table in views.mixture(view))
        return weights[:, None] * rows[ids] + (1 - weights[:, None]) * rows[partners]

    return targets
