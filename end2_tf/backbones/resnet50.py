"""ResNet-50 (He et al., 2016), Keras' own."""

from __future__ import annotations

import keras

from end2_tf.backbones import applications


def logits(features: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """`keras.applications.ResNet50` without its weights; 25,636,712 weights at 224×224 and 1,000 classes. No options.

    Args:
        features: Normalised images, (batch, height, width, channels), at least 32 pixels a side.
    """
    return applications.logits(features, num_classes, features, network="ResNet50")
