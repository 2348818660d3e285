"""Compact VGG-style network: what two cores can train."""

from __future__ import annotations

import keras

from end2_tf.config import Count as Units
from end2_tf.config import ShareBelowOne as Share
from end2_tf.errors import ConfigError
from end2_tf.layers import BatchNormalization

WIDTHS = ("filters", "dense")  # what the study `capacity` scales


def logits(
    features: keras.KerasTensor,
    num_classes: int,
    *,
    filters: tuple[Units, ...] = (16, 32, 64),
    convolutions: tuple[Units, ...] = (1,),
    dense: Units = 64,
    dropout: Share = 0.0,
    batch_norm: bool = False,
) -> keras.KerasTensor:
    """Blocks of 3×3 convolutions and 2×2 max-pooling, then one dense layer.

    Args:
        features: Normalised images, (batch, height, width, channels).
        filters: Of each block; the image halves after each.
        convolutions: Of each block, or one number for all.
        dense: Units of the layer before the logits.
        dropout: Share dropped before and after the dense layer.
        batch_norm: Batch normalisation after each convolution; momentum .9, which settles within an epoch.

    Raises:
        ConfigError: `convolutions` has more or fewer numbers than there are blocks.
    """
    numbers = convolutions * len(filters) if len(convolutions) == 1 else convolutions
    if len(numbers) != len(filters):
        raise ConfigError(
            f"convolutions is {list(numbers)}, but filters has {len(filters)} blocks. Allowed: one for each, or "
            "one for all."
        )
    x = features
    for width, number in zip(filters, numbers, strict=True):
        for _ in range(number):
            x = keras.layers.Conv2D(width, 3, padding="same", use_bias=not batch_norm)(x)
            if batch_norm:
                x = BatchNormalization(momentum=0.9)(x)
            x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    x = keras.layers.Dense(dense, activation="relu")(x)
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
