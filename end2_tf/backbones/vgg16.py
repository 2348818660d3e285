"""VGG-16 as in the authors' code (KaosEngineer/PriorNetworks, and its TensorFlow predecessor)."""

from __future__ import annotations

import keras

from end2_tf.config import Count as Units
from end2_tf.config import ShareBelowOne as Share
from end2_tf.layers import AveragePoolingTo, BatchNormalization

WIDTHS = ("dense",)  # what the study `capacity` scales: 56 of the 70 million weights
BLOCKS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (filters as multiples of the first block's, convolutions)


def logits(
    features: keras.KerasTensor,
    num_classes: int,
    *,
    dropout: Share = 0.3,
    width: Units = 64,
    dense: Units = 2048,
    slope: float = 0.2,
    momentum: float = 0.97,
) -> keras.KerasTensor:
    """3×3 convolutions with batch norm, leaky ReLU and dropout; two dense layers; 70,322,250 weights at 32×32, K = 10.

    Args:
        features: Normalised images, (batch, height, width, channels), at least 32 pixels a side.
        dropout: Of the dense layers. Convolutions drop max(dropout - .3, 0), as the TensorFlow code did; the later
            PyTorch code drops max(dropout - .3, .2) there, which the paper's settings don't mention.
        width: Filters of the first block; VGG-16 has 64. Smaller ones are for trying things out.
        dense: Units of each of the two dense layers.
        slope: Of the leaky ReLU below zero.
        momentum: Of the batch norm's moving statistics.
    """
    convolution_dropout = max(dropout - 0.3, 0.0)
    x = features
    for factor, convolutions in BLOCKS:
        for _ in range(convolutions):
            x = keras.layers.Conv2D(width * factor, 3, padding="same", kernel_initializer=_initializer())(x)
            x = BatchNormalization(momentum=momentum)(x)
            x = keras.layers.LeakyReLU(slope)(x)
            if convolution_dropout:
                x = keras.layers.Dropout(convolution_dropout)(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = AveragePoolingTo(7)(x)  # the 1×1 map of a 32×32 input is copied 49 times, as the authors' code does
    x = keras.layers.Flatten()(x)
    for _ in range(2):
        x = keras.layers.Dense(dense, kernel_initializer=_initializer())(x)
        x = keras.layers.LeakyReLU(slope)(x)
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)


def _initializer() -> keras.initializers.Initializer:
    """Kaiming normal by fan-in with gain 1, as the authors' code calls it."""
    return keras.initializers.VarianceScaling(1.0, mode="fan_in", distribution="untruncated_normal")
