"""What the losses on labels share: the shapes of labels and logits."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from end2_tf.errors import ShapeError


def labels_and_logits(
    loss: str, y_true: Any, y_pred: Any, allowed: str, *, rank: int = 2
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns labels, (batch,) or rows (batch, classes), and logits (..., classes) as tensors.

    Labels (batch, 1) become (batch,), as in Keras' own losses.

    Args:
        loss: Its name, for the message.
        y_true: Labels or rows.
        y_pred: Logits.
        allowed: The shapes that the loss takes, for the message.
        rank: Of the logits.

    Raises:
        ShapeError: ranks are others, or a row hasn't as many numbers as there are classes.
    """
    labels, logits = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    fits = labels.shape.rank in (None, 1, 2) and logits.shape.rank in (None, rank)
    if fits and labels.shape.rank == 2 and logits.shape.rank is not None:
        width, classes = labels.shape[1], logits.shape[-1]
        if width == 1:
            return tf.squeeze(labels, axis=1), logits
        fits = None in (width, classes) or width == classes
    if not fits:
        raise ShapeError(
            f"{loss} got y_true of shape {tuple(labels.shape)} and y_pred of shape {tuple(logits.shape)}. "
            f"Allowed: {allowed}. Give those."
        )
    return labels, logits
