"""Batches as a `tf.data` pipeline in which each batch is a pure function of the step.

The order of examples, the view (all random augmentation) and the targets follow from (seed, step), so a training that
resumes at step n sees what an uninterrupted one would have seen from there on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from end2_tf.data import shards
from end2_tf.data.views import Views

MAX_STEPS, CHUNK_BYTES = 32, 4 << 20  # of batches that are made in one call

_Window = tuple[tuple[int, int], ...]  # the shards of a window, as [start, stop)

Targets = Callable[[int, int, np.ndarray], np.ndarray]
"""(epoch, view, ids) → targets, (batch, ...); ids count in-domain examples first, auxiliary ones after them."""


@dataclasses.dataclass(frozen=True)
class Order:
    """Which examples make up a batch.

    A batch holds `batch_size` in-domain examples (fewer at the end of an epoch) and, of `num_auxiliary` inputs, so many
    that they are `auxiliary_share` of a full batch. An epoch is one pass over the in-domain examples, so a method with
    auxiliary data takes as many steps as one without. Of examples in shards it shuffles shards, and then examples
    within a window of a few of them.
    """

    num_examples: int
    batch_size: int
    seed: int
    num_auxiliary: int = 0
    auxiliary_share: float = 0.5
    rows: int | None = None  # in-domain examples a shard; None: all are in memory
    auxiliary_rows: int | None = None

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
        start = position * self.batch_size
        stop = min(start + self.batch_size, self.num_examples)
        ids = _shuffled(self.num_examples, self.rows, (self.seed, epoch, 0), start, stop)
        if not self.num_auxiliary:
            return ids
        first, parts = step * self.auxiliary_per_batch, []
        last = first + self.auxiliary_per_batch
        while first < last:  # they go on where the last batch ended, round after round
            turn, start = divmod(first, self.num_auxiliary)
            stop = min(self.num_auxiliary, start + last - first)
            parts.append(_shuffled(self.num_auxiliary, self.auxiliary_rows, (self.seed, turn, 1), start, stop))
            first += stop - start
        return np.concatenate([ids, self.num_examples + np.concatenate(parts)])


def _shuffled(num: int, rows: int | None, key: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    """Returns places `start` to `stop` of a random order of `num` examples, int64."""
    parts = []
    for first, window in _windows(num, rows, key):
        a, b = max(start - first, 0), min(stop - first, sum(end - begin for begin, end in window))
        if a < b:
            parts.append(_permutation(window, key)[a:b])
    return np.concatenate(parts)


@functools.lru_cache(maxsize=4)
def _windows(num: int, rows: int | None, key: tuple[int, ...]) -> list[tuple[int, _Window]]:
    """Returns the windows of a random order, each with its first place: one where all examples are in memory."""
    parts = shards.spans(num, rows or num)
    num_windows = -(-len(parts) // shards.WINDOW)
    if num_windows == 1:
        return [(0, ((0, num),))]
    order = np.random.default_rng([*key, num_windows]).permutation(len(parts))
    windows = [tuple(parts[i] for i in each) for each in np.array_split(order, num_windows)]
    sizes = [sum(end - begin for begin, end in window) for window in windows]
    return list(zip(np.cumsum([0, *sizes[:-1]]).tolist(), windows, strict=True))


@functools.lru_cache(maxsize=4)  # in-domain and auxiliary ones, each with the window that comes next
def _permutation(window: _Window, key: tuple[int, ...]) -> np.ndarray:
    """Returns the examples of a window in a random order."""
    if len(window) == 1:
        ((begin, end),) = window
        return begin + np.random.default_rng([*key, begin] if begin else list(key)).permutation(end - begin)
    ids = np.concatenate([np.arange(begin, end) for begin, end in window])
    return np.random.default_rng([*key, window[0][0]]).permutation(ids)


@dataclasses.dataclass(frozen=True)
class Share:
    """Which part of each batch a pipeline makes: that of `count` replicas, from number `first` on, of `total`."""

    first: int = 0
    count: int = 1
    total: int = 1


class Batches:
    """The batches of a training.

    Attributes:
        failure: What making a batch in a pipeline raised, if anything.

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
        self.failure: Exception | None = None

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    def arrays(self, step: int, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns a step's inputs and targets; of some of its examples, if `ids` names them."""
        order, ids = self._order, self._order.batch(step) if ids is None else ids
        epoch = step // order.steps_per_epoch
        view = epoch % self._num_views if self._num_views else epoch
        inside = ids < order.num_examples
        inputs = self._views.rows_at(view, ids[inside])
        if self._auxiliary is not None and not inside.all():
            rows = np.empty((len(ids), *inputs.shape[1:]), inputs.dtype)
            rows[inside], rows[~inside] = inputs, self._auxiliary.rows_at(view, ids[~inside] - order.num_examples)
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
        size = inputs[:1].nbytes + targets[:1].nbytes
        several = max(1, min(MAX_STEPS, CHUNK_BYTES // (len(inputs) * size))) if share.total == 1 else 1
        runs = _Runs(order, several)

        def look_up(number: np.int64) -> tuple[Any, ...]:
            try:
                return made_of(number)
            except Exception as error:
                self.failure = error  # TensorFlow would tell of it in words of its own
                raise

        def made_of(number: np.int64) -> tuple[Any, ...]:
            run, replica = divmod(int(number), share.count)
            steps = runs.steps(run)
            batches = [order.batch(step) for step in steps]
            own = [ids[share.first + replica :: share.total] for ids in batches]
            counted = [part if len(part) else ids[:1] for part, ids in zip(own, batches, strict=True)]
            shape = len(steps), len(counted[0])
            values = (
                array.reshape(*shape, *array.shape[1:]) for array in self.arrays(steps[0], np.concatenate(counted))
            )
            weights = np.full(shape, len(own[0]) > 0, np.float32)
            sizes = np.full(len(steps), len(batches[0]), np.float32)
            return *values, weights, sizes, np.full(len(steps), steps[0] // order.steps_per_epoch)

        dtypes = [tf.as_dtype(inputs.dtype), tf.as_dtype(targets.dtype), tf.float32, tf.float32, tf.int64]
        shapes = [(None, None, *inputs.shape[1:]), (None, None, *targets.shape[1:]), (None, None), (None,), (None,)]

        def load(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            values = tf.numpy_function(look_up, [number], dtypes, stateful=False)
            for value, shape in zip(values, shapes, strict=True):
                value.set_shape(shape)
            return tuple(values)

        first, skipped = runs.place(first_step)
        numbers = tf.data.Dataset.range(first * share.count, (runs.place(num_steps - 1)[0] + 1) * share.count)
        made = numbers.map(load).prefetch(2).unbatch()  # one after the other, ahead of the training
        options = tf.data.Options()
        options.autotune.enabled = False  # there is nothing to tune, and its thread can hold up the end for seconds
        return made.skip(skipped).take((num_steps - first_step) * share.count).prefetch(8).with_options(options)


@dataclasses.dataclass(frozen=True)
class _Runs:
    """The steps of a training in runs of one epoch and one size of batch, since a call of Python for each is too slow.

    Args:
        order: What batches are made of.
        most: How many steps a run has at most.
    """

    order: Order
    most: int

    @property
    def _full(self) -> int:
        """Steps of an epoch with full batches."""
        return self.order.num_examples // self.order.batch_size

    @property
    def _runs_per_epoch(self) -> int:
        return -(-self._full // self.most) + self.order.steps_per_epoch - self._full

    def steps(self, run: int) -> range:
        """Returns the steps of a run."""
        epoch, number = divmod(run, self._runs_per_epoch)
        start = min(number * self.most, self._full)
        stop = min(start + self.most, self._full) if start < self._full else self.order.steps_per_epoch
        first = epoch * self.order.steps_per_epoch
        return range(first + start, first + stop)

    def place(self, step: int) -> tuple[int, int]:
        """Returns the run of a step, and how many steps of it come before."""
        epoch, position = divmod(step, self.order.steps_per_epoch)
        number = position // self.most if position < self._full else self._runs_per_epoch - 1
        run = epoch * self._runs_per_epoch + number
        return run, step - self.steps(run).start


def label_targets(labels: np.ndarray, views: Views, num_classes: int) -> Targets:
    """Returns labels as targets; where inputs are mixed up, rows (batch, classes) of one-hot labels mixed up alike.

    Auxiliary inputs have the label -1, or a row of zeros.
    """
    if views.augmentation.mixup:
        return label_rows(labels, views, num_classes)
    known = np.append(labels, -1)
    return lambda epoch, view, ids: known[np.minimum(ids, len(labels))]


def label_rows(labels: np.ndarray, views: Views, num_classes: int) -> Targets:
    """Returns labels as targets (batch, classes): one-hot, mixed up as the inputs are; zeros for auxiliary ones."""
    known = np.append(labels, -1)

    def one_hot(ids: np.ndarray) -> np.ndarray:
        return (known[np.minimum(ids, len(labels))][:, None] == np.arange(num_classes)).astype(np.float32)

    def targets(epoch: int, view: int, ids: np.ndarray) -> np.ndarray:
        rows, inside = one_hot(ids), ids < len(labels)
        if views.augmentation.mixup:
            partners, weights = (table[ids[inside]] for table in views.mixture(view))
            rows[inside] = weights[:, None] * rows[inside] + (1 - weights[:, None]) * one_hot(partners)
        return rows

    return targets
