"""Batches as a `tf.data` pipeline in which each batch is a pure function of the step.

The order of examples, the view (all random augmentation) and the targets follow from (seed, step), so a training that
resumes at step n sees what an uninterrupted one would have seen from there on.
"""

from __future__ import annotations

import dataclasses
import hashlib
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


@dataclasses.dataclass(frozen=True)
class Share:
    """Which part of each batch a pipeline makes: that of `count` replicas, from number `first` on, of `total`."""

    first: int = 0
    count: int = 1
    total: int = 1


class Batches:
    """The batches of a training.

    Args:
        views: The in-domain inputs and their augmentation.
        order: Which examples make up a batch.
        targets: Looks up a batch's targets.
        auxiliary: Inputs without labels and their augmentation, if `order` takes any.
        num_views: How many recorded views there are; epoch e shows view e mod num_views. None: a view an epoch.
    """

    def __init__(
        self,
        views: Views,
        order: Order,
        targets: Targets,
        *,
        auxiliary: Views | None = None,
        num_views: int | None = None,
    ):
        self._views, self._order, self._targets = views, order, targets
        self._auxiliary, self._num_views = auxiliary, num_views

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    def arrays(self, step: int, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns a step's inputs and targets; of some of its examples, if `ids` names them."""
        order, ids = self._order, self._order.batch(step) if ids is None else ids
        epoch = step // order.steps_per_epoch
        view = epoch % self._num_views if self._num_views else epoch
        inside = ids < order.num_examples
        inputs = self._views.array(view)[ids[inside]]
        if self._auxiliary is not None and not inside.all():
            rows = np.empty((len(ids), *inputs.shape[1:]), inputs.dtype)
            rows[inside], rows[~inside] = inputs, self._auxiliary.array(view)[ids[~inside] - order.num_examples]
            inputs = rows
        return inputs, self._targets(epoch, view, ids)

    def digest(self, step: int) -> str:
        """Returns a digest of what a step was shown, 16 hexadecimal digits."""
        state = hashlib.sha256()
        for array in self.arrays(step):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()[:16]

    def dataset(self, first_step: int, num_steps: int, share: Share = Share()) -> tf.data.Dataset:
        """Returns the pipeline of steps `first_step` to `num_steps`, for each the parts of its replicas in turn.

        Replica r of R has every R-th example of a batch, from the r-th on. Of a batch with fewer examples than replicas
        a part has one example that doesn't count.

        Returns:
            Elements (inputs, targets, weights, size, epoch): weights float32 (n,), 0 for what doesn't count, else 1;
            size float32, how many examples the whole batch has; epoch int64.
        """
        inputs, targets = self.arrays(first_step)
        order = self._order

        def look_up(position: np.int64) -> tuple[Any, ...]:
            step, replica = divmod(int(position), share.count)
            ids = order.batch(step)
            own = ids[share.first + replica :: share.total]
            counted = own if len(own) else ids[:1]
            weights = np.full(len(counted), len(own) > 0, np.float32)
            epoch = np.int64(step // order.steps_per_epoch)
            return *self.arrays(step, counted), weights, np.float32(len(ids)), epoch

        dtypes = [tf.as_dtype(inputs.dtype), tf.as_dtype(targets.dtype), tf.float32, tf.float32, tf.int64]
        shapes = [(None, *inputs.shape[1:]), (None, *targets.shape[1:]), (None,), (), ()]

        def load(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
            values = tf.numpy_function(look_up, [position], dtypes, stateful=False)
            for value, shape in zip(values, shapes, strict=True):
                value.set_shape(shape)
            return tuple(values)

        positions = tf.data.Dataset.range(first_step * share.count, num_steps * share.count)
        return positions.map(load).prefetch(8)  # one batch after the other, ahead of the training


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
