"""ResNet-18 for small images (He et al., 2016), with the stem that is usual on CIFAR and TinyImageNet."""

from __future__ import annotations

import keras

from end2_tf.config import Count as Units
from end2_tf.config import ShareBelowOne as Share
from end2_tf.layers import BatchNormalization

WIDTHS = ("width",)  # what the study `capacity` scales
BLOCKS = (2, 2, 2, 2)  # a stage; its filters double and its maps halve, but for the first


def logits(
    features: keras.KerasTensor,
    num_classes: int,
    *,
    width: Units = 64,
    dropout: Share = 0.0,
    momentum: Share = 0.9,
) -> keras.KerasTensor:
    """Two residual blocks a stage, ReLU after the sum; 11,173,962 weights at three channels and K = 10.

    The stem is one 3×3 convolution without max-pooling, so that a 32×32 image still is 4×4 in the last stage, a 64×64
    one 8×8. Shortcuts are projections where the shape changes (the paper's option B).

    Args:
        features: Normalised images, (batch, height, width, channels).
        width: Filters of the first stage; the others have two, four and eight times as many.
        dropout: Share dropped before the logits.
        momentum: Of the batch norm's moving statistics.

    Source: He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016, table 1.
    """

    def convolved(x: keras.KerasTensor, filters: int, size: int, stride: int = 1) -> keras.KerasTensor:
        x = keras.layers.Conv2D(filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(
            x
        )
        return BatchNormalization(momentum=momentum)(x)

    x = keras.layers.ReLU()(convolved(features, width, 3))
    for stage, blocks in enumerate(BLOCKS):
        filters = width * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            changes = stride > 1 or x.shape[-1] != filters
            shortcut = convolved(x, filters, 1, stride) if changes else x
            x = keras.layers.ReLU()(convolved(x, filters, 3, stride))
            x = keras.layers.ReLU()(keras.layers.Add()([convolved(x, filters, 3), shortcut]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
