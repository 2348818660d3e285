"""Trains members one by one: any architecture."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from end2_tf import config, training
from end2_tf.data import shards
from end2_tf.data.dataset import DataSet
from end2_tf.data.pipeline import Batches, Order, label_targets
from end2_tf.data.views import Views
from end2_tf.losses import CrossEntropy


def train(
    member: keras.Model,
    data: DataSet,
    settings: config.Ensemble,
    *,
    seed: int,
    checkpoint: Path | None = None,
    validate: training.Validate | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    progress: training.Progress | None = None,
) -> list[dict[str, float]]:
    """Trains one network on labels, in place.

    Args:
        member: A freshly made model from raw inputs to logits.
        data: Its train split is used; validation only for the history.
        settings: Epochs, batch size, optimiser, augmentation.
        seed: Of the order of data, augmentation and dropout.
        checkpoint: Where to keep the state of an unfinished training.
        validate: See `training.fit`.
        callbacks: More Keras callbacks.
        progress: Called with (epochs done, epochs, last row) after each epoch.

    Returns:
        One row an epoch, with the columns of `training.COLUMNS`.
    """
    order = Order(len(data.train), settings.batch_size, seed, rows=shards.rows_in(data.train.inputs))
    views = Views(settings.augmentation, data.train.inputs, seed)
    targets = label_targets(np.asarray(data.train.labels), views, data.num_classes)
    return training.fit(
        member,
        CrossEntropy(),
        Batches(views, order, targets),
        epochs=settings.epochs,
        settings=settings.optimizer,
        seed=seed,
        checkpoint=checkpoint,
        validate=validate,
        callbacks=callbacks,
        progress=progress,
    )
