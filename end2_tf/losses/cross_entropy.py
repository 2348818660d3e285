"""Cross-entropy with labels, for networks trained alone: the members, and a baseline of the student's size."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from end2_tf.losses._labels import labels_and_logits

ON_LABELS = True  # needs no ensemble


@keras.saving.register_keras_serializable("end2_tf")
class CrossEntropy(keras.losses.Loss):
    """Negative log-probability of the label, or its mean over a distribution of labels.

    Args:
        **kwargs: `reduction`, `name`, `dtype` as in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels, (batch,) or (batch, 1); or probabilities of labels, (batch, classes), as mixup makes
            them.
        y_pred: Logits, (batch, classes).

    Returns:
        Nats, (batch,) before reduction.

    Raises:
        ShapeError: ranks are not 1 or 2 and 2, or class counts differ.

    Example:
        >>> float(CrossEntropy()(np.array([1]), np.log([[0.25, 0.75]])))
        0.28768...
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        allowed = "labels (batch,) or their probabilities (batch, classes), and logits (batch, classes)"
        y_true, y_pred = labels_and_logits("CrossEntropy", y_true, y_pred, allowed)
        if y_true.shape.rank == 2:
            return tf.nn.softmax_cross_entropy_with_logits(tf.cast(y_true, y_pred.dtype), y_pred)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(y_true, tf.int32), y_pred)
