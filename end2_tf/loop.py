"""Training steps on any `tf.distribute` strategy, several in one call of the graph.

Each replica has its share of a batch and divides the sum of its losses by the size of the whole batch; gradients are
summed over replicas. So a step is that of one device, however many replicas there are and however uneven their shares.
Keras' own `fit` takes a mean over each replica's share instead, which is another number where shares differ, and
doesn't run under `MultiWorkerMirroredStrategy` (keras-team/keras#20585).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf.data.pipeline import Batches, Share

STEPS_PER_CALL = 32

Teach = Callable[[Any, Any, Any], Any]
"""(inputs, targets, epoch) → targets, in the graph, for teachers that are asked during training."""


class Loop:
    """The steps of one model's training, under the strategy in whose scope it is made.

    Args:
        model: From raw inputs to logits, with its optimiser; both made in that scope.
        loss: Of (targets, logits); its `call` gives each example's.
        clip_norm: The largest global norm of a gradient; None for any.
        teach: Makes a batch's targets, if they aren't those of the pipeline.
        compiled: Whether XLA compiles what a student does in a step; None for where that pays, on a GPU, if neither a
            layer nor the loss has a `supports_jit` that is False. Steps of several replicas never are.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: keras.losses.Loss,
        *,
        clip_norm: float | None = None,
        teach: Teach | None = None,
        compiled: bool | None = None,
    ):
        self._strategy = tf.distribute.get_strategy()
        self._model, self._loss, self._clip_norm, self._teach = model, loss, clip_norm, teach
        if compiled is None:
            compiled = bool(tf.config.list_physical_devices("GPU")) and _supports_xla(model, loss)
        compiled = compiled and self._strategy.num_replicas_in_sync == 1
        self._learn = tf.function(self._learn_from, jit_compile=True) if compiled else self._learn_from
        self._calls = tf.function(self._make_steps, reduce_retracing=True)

    def run(self, batches: Batches, first_step: int, num_steps: int) -> Iterator[np.ndarray]:
        """Makes steps `first_step` to `num_steps`, as many in a call as fit in an epoch's rest.

        Yields:
            After each call, for each of its steps the sum of the losses and the number of examples, float64 (steps, 2).
        """
        iterator = iter(self._distribute(batches, first_step, num_steps))
        step = first_step
        while step < num_steps:
            left = batches.steps_per_epoch - step % batches.steps_per_epoch
            steps = min(STEPS_PER_CALL, left, num_steps - step)
            yield self._calls(iterator, tf.constant(steps)).numpy().astype(np.float64)
            step += steps

    def _distribute(self, batches: Batches, first_step: int, num_steps: int) -> Any:
        total = self._strategy.num_replicas_in_sync

        def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = total // context.num_input_pipelines
            share = Share(context.input_pipeline_id * count, count, total)
            return batches.dataset(first_step, num_steps, share)

        return self._strategy.distribute_datasets_from_function(pipeline)

    def _make_steps(self, iterator: Any, steps: tf.Tensor) -> tf.Tensor:
        losses = tf.TensorArray(tf.float32, steps)
        for i in tf.range(steps):
            each = self._strategy.run(self._step, args=next(iterator))
            losses = losses.write(i, self._strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None))
        return losses.stack()

    def _step(self, inputs: Any, targets: Any, weights: Any, size: Any, epoch: Any) -> tf.Tensor:
        """Makes one step on a replica's share; returns its sum of losses and its part of the batch's size, (2,)."""
        inputs = tf.cast(inputs, tf.float32)
        if self._teach is not None:
            targets = self._teach(inputs, targets, epoch)
        return self._learn(inputs, targets, weights, size)

    def _learn_from(self, inputs: Any, targets: Any, weights: Any, size: Any) -> tf.Tensor:
        model, replicas = self._model, self._strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            losses = self._loss.call(targets, model(inputs, training=True))
            loss = tf.reduce_sum(tf.cast(weights, losses.dtype) * losses)
            mean = loss / tf.cast(size, losses.dtype)
            if model.losses:  # penalties of weights, the same on every replica
                mean += tf.cast(tf.add_n(model.losses), losses.dtype) / replicas
        variables = model.trainable_variables
        gradients = tape.gradient(mean, variables)
        if self._clip_norm is not None:
            gradients = self._clipped(gradients)
        model.optimizer.apply(gradients, variables)
        return tf.stack([tf.cast(loss, tf.float32), size / replicas])

    def _clipped(self, gradients: list[Any]) -> list[Any]:
        """Returns gradients clipped by the norm of their sum over replicas; the optimiser sums them once more."""
        replicas = self._strategy.num_replicas_in_sync
        known = [g for g in gradients if g is not None]
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            known = context.all_reduce(tf.distribute.ReduceOp.SUM, known)
        clipped = iter(tf.clip_by_global_norm(known, self._clip_norm)[0])
        return [None if g is None else next(clipped) / replicas for g in gradients]


def _supports_xla(model: keras.Model, loss: keras.losses.Loss) -> bool:
    """Returns whether XLA compiles all of a model's layers and its loss, as they say themselves."""
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else []
    return all(getattr(each, "supports_jit", True) for each in (*layers, loss))
