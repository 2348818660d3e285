"""Wide ResNet 28-10 (Zagoruyko & Komodakis, 2016)."""

from __future__ import annotations

import keras

from end2_tf.config import Count as Units
from end2_tf.config import ShareBelowOne as Share
from end2_tf.errors import ConfigError
from end2_tf.layers import BatchNormalization

WIDTHS = ("width",)  # what the study `capacity` scales
FILTERS = (16, 32, 64)  # of a group, before they are widened


def logits(
    features: keras.KerasTensor,
    num_classes: int,
    *,
    depth: Units = 28,
    width: Units = 10,
    dropout: Share = 0.0,
    momentum: Share = 0.9,
) -> keras.KerasTensor:
    """Three groups of wide pre-activation blocks; 36,479,194 weights at three channels and K = 10.

    Args:
        features: Normalised images, (batch, height, width, channels); 32×32 ones are 8×8 in the last group.
        depth: Convolutions on the longest path and the logits' layer: 6n + 4 for n blocks a group.
        width: How many times as many filters as a plain ResNet's 16, 32 and 64.
        dropout: Share dropped between the two convolutions of each block; the paper has .3 or none.
        momentum: Of the batch norm's moving statistics.

    Raises:
        ConfigError: no number of blocks has this depth.

    Source: Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016, table 1; blocks of He et al., Identity Mappings in
    Deep Residual Networks, ECCV 2016, which normalise and activate before each convolution.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or not blocks:
        raise ConfigError(f"depth is {depth}. Allowed: 6n + 4 for n blocks a group, such as 10, 16, 22, 28 or 40.")

    def convolved(x: keras.KerasTensor, filters: int, size: int, stride: int = 1) -> keras.KerasTensor:
        return keras.layers.Conv2D(
            filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)

    def activated(x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.ReLU()(BatchNormalization(momentum=momentum)(x))

    x = convolved(features, FILTERS[0], 3)
    for group, plain in enumerate(FILTERS):
        for block in range(blocks):
            filters, stride = plain * width, 2 if group and not block else 1
            before = activated(x)
            # A shortcut whose shape changes has the block's own activation; the others are the identity.
            changes = stride > 1 or x.shape[-1] != filters
            shortcut = convolved(before, filters, 1, stride) if changes else x
            inner = activated(convolved(before, filters, 3, stride))
            if dropout:
                inner = keras.layers.Dropout(dropout)(inner)
            x = keras.layers.Add()([convolved(inner, filters, 3), shortcut])
    x = keras.layers.GlobalAveragePooling2D()(activated(x))
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
