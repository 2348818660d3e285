"""A network that suits the inputs: `cnn` for images, `mlp` for features."""

from __future__ import annotations

import keras

from end2_tf.backbones import cnn, mlp


def logits(features: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """For own data, where the shape isn't known beforehand; takes no options.

    Args:
        features: Normalised inputs, (batch, height, width, channels) or (batch, features).
    """
    if len(features.shape) == 4:
        return cnn.logits(features, num_classes, filters=(32, 64), dense=128)
    return mlp.logits(features, num_classes)
