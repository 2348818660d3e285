"""Trains all members at once: every weight in one array, one batched matrix product a layer, one optimiser step.

For networks of dense layers, where a step of one small member is all overhead: 100 members of 64-64-64 take a few
times as long as one. Many members are two stacks, whose operations don't wait for one another: so one has work for the
cores while the other is in an operation too small to share.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from end2_tf import config, interrupts, training
from end2_tf.checkpoint import Checkpoint
from end2_tf.data.dataset import DataSet
from end2_tf.data.views import Views
from end2_tf.errors import TrainingError
from end2_tf.interrupts import Terminated
from end2_tf.training import Progress

MANY = 20  # members that are two stacks; not a question of cores, since who goes on may have others than who began


def train(
    members: list[keras.Model],
    data: DataSet,
    settings: config.Ensemble,
    *,
    seeds: list[int],
    numbers: list[int] | None = None,
    prototype: keras.Model | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> list[list[dict[str, float]]]:
    """Trains members in place, each with its own initial values and its own order of data.

    Args:
        members: Models of one architecture that `is_batchable`, freshly made.
        data: Its train split is used; validation only for the history.
        settings: Epochs, batch size, optimiser, augmentation (jitter of features only).
        seeds: One a member.
        numbers: Of the members in their ensemble, for messages; by default 0, 1, ….
        prototype: The network that computes, with the members' weights; for one that computes in bfloat16. Defaults to
            the first member.
        checkpoint: Where to keep the state of an unfinished training.
        progress: Called with (epochs done, epochs, {"loss": mean over members}).

    Returns:
        For each member one row an epoch: epoch, loss.

    Raises:
        TrainingError: a member's loss is no longer finite; names the member.
    """
    if prototype is None:
        prototype = members[0]
    steps = -(-len(data.train) // settings.batch_size)
    half = len(members) if len(members) < MANY else -(-len(members) // 2)
    stacks = [
        _Stack(
            members[start : start + half],
            seeds[start : start + half],
            prototype,
            training.optimizer(settings.optimizer, steps * settings.epochs),
        )
        for start in range(0, len(members), half)
    ]
    run_epoch = _epoch_function(prototype, stacks, data, settings)
    state = Checkpoint(checkpoint, [variable for stack in stacks for variable in stack.variables])
    found = state.restore("losses")
    losses = np.zeros((0, len(members)), np.float32) if found is None else found["losses"]
    try:
        for epoch in range(len(losses), settings.epochs):
            with interrupts.deferred():  # between an epoch and its count
                values = run_epoch(tf.constant(epoch)).numpy()
                if not np.isfinite(values).all():
                    bad = int(np.flatnonzero(~np.isfinite(values))[0])
                    raise TrainingError(
                        f"the loss of member {bad if numbers is None else numbers[bad]} is {values[bad]} in epoch "
                        f"{epoch + 1}. Try a smaller ensemble.optimizer.learning_rate."
                    )
                losses = np.concatenate([losses, values[None]])
                if state.is_due:
                    state.save(losses=losses)
            if progress is not None:
                progress(epoch + 1, settings.epochs, {"loss": float(values.mean())})
    except (KeyboardInterrupt, Terminated):
        state.save(losses=losses)
        raise
    state.save(losses=losses)
    for stack in stacks:
        stack.finish()
    return [
        [{"epoch": float(epoch + 1), "loss": float(row[index])} for epoch, row in enumerate(losses)]
        for index in range(len(members))
    ]


class _Stack:
    """Members that are trained by the same operations, and their optimiser.

    Args:
        members: Whose weights are stacked.
        seeds: One a member.
        prototype: The network that computes.
        optimizer: Not built yet.
    """

    def __init__(
        self,
        members: list[keras.Model],
        seeds: list[int],
        prototype: keras.Model,
        optimizer: keras.optimizers.Optimizer,
    ):
        self.members, self.seeds, self.optimizer = members, seeds, optimizer
        self.trainable = [  # the name decides weight decay
            keras.Variable(self._stacked("trainable_variables", i), name=members[0].trainable_variables[i].name)
            for i in range(len(prototype.trainable_variables))
        ]
        self.frozen = [
            tf.constant(self._stacked("non_trainable_variables", i))
            for i in range(len(prototype.non_trainable_variables))
        ]
        optimizer.build(self.trainable)

    def _stacked(self, kind: str, place: int) -> np.ndarray:
        return np.stack([np.asarray(getattr(member, kind)[place]) for member in self.members])

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a checkpoint keeps."""
        return [*self.trainable, *self.optimizer.variables]

    def finish(self) -> None:
        """Gives members their weights, averaged ones where the optimiser averages."""
        self.optimizer.finalize_variable_values(self.trainable)
        for index, member in enumerate(self.members):
            for variable, stacked in zip(member.trainable_variables, self.trainable, strict=True):
                variable.assign(stacked[index])


def _epoch_function(prototype, stacks, data, settings):
    """Returns a graph that trains one epoch and gives each member's mean loss (members,)."""
    inputs, labels = tf.constant(data.train.inputs), tf.constant(data.train.labels)
    num_examples, size = len(data.train), settings.batch_size
    views = Views(settings.augmentation, data.train.inputs, 0)
    jitter = None if views.is_identity else tf.constant(views.feature_scale)
    starts = tf.range(0, num_examples, size)

    def forward(weights):
        values, constants, x = weights
        return prototype.stateless_call(list(values), list(constants), x, training=True)[0]

    def train_epoch(stack, epoch):
        seeds = tf.constant(stack.seeds, tf.int32)
        keys = tf.stack([seeds, tf.fill(tf.shape(seeds), epoch)], axis=1)
        noise = tf.map_fn(
            lambda key: tf.random.stateless_uniform((num_examples,), key), keys, fn_output_signature=tf.float32
        )
        order = tf.argsort(noise, axis=1, stable=True)
        total = tf.zeros((len(seeds),))
        for start in starts:
            rows = order[:, start : start + size]
            x, y = tf.cast(tf.gather(inputs, rows), tf.float32), tf.gather(labels, rows)
            if jitter is not None:
                x += jitter * tf.map_fn(  # each member's own, whoever shares its stack
                    lambda key, of=start, like=x[0]: tf.random.stateless_normal(
                        tf.shape(like), tf.random.experimental.stateless_fold_in(key, of)
                    ),
                    keys,
                    fn_output_signature=tf.float32,
                )
            values = [variable.value for variable in stack.trainable]
            with tf.GradientTape() as tape:
                tape.watch(values)
                logits = tf.vectorized_map(forward, (values, stack.frozen, x))
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, tf.cast(logits, tf.float32))
                member_losses = tf.reduce_mean(losses, axis=1)
                loss = tf.reduce_sum(member_losses)  # a sum: each member's gradient is its own
            gradients = tape.gradient(loss, values)
            if settings.optimizer.clip_norm:
                gradients = _clip_each_member(gradients, settings.optimizer.clip_norm)
            stack.optimizer.apply(gradients, stack.trainable)
            total += tf.reduce_sum(losses, axis=1)
        return total / num_examples

    @tf.function
    def run(epoch):
        return tf.concat([train_epoch(stack, epoch) for stack in stacks], axis=0)

    return run


def _clip_each_member(gradients: list[tf.Tensor], norm: float) -> list[tf.Tensor]:
    """Scales each member's gradients to a global norm of at most `norm`."""
    squares = tf.add_n([tf.reduce_sum(g * g, axis=tuple(range(1, g.shape.rank))) for g in gradients])
    scale = norm / tf.maximum(tf.sqrt(squares), norm)
    return [g * tf.reshape(scale, (-1, *[1] * (g.shape.rank - 1))) for g in gradients]
