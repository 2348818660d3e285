"""Multi-layer perceptron."""

from __future__ import annotations

from typing import Literal

import keras

from end2_tf.config import Count as Units
from end2_tf.config import ShareBelowOne as Share

WIDTHS = ("hidden",)  # what the study `capacity` scales


def logits(
    features: keras.KerasTensor,
    num_classes: int,
    *,
    hidden: tuple[Units, ...] = (64, 64, 64),
    sine: Literal["none", "first", "last"] = "none",
    sine_scale: float = 2.0,
    dropout: Share = 0.0,
) -> keras.KerasTensor:
    """Dense layers with ReLU, as the paper's toy network; one of them may be sinusoidal instead.

    ReLU networks extrapolate in straight lines, so far from the data their members agree, with confidence. With
    `sine="last"` the last hidden layer is sin(scale · (W h + b)): beside the data it is smooth, far from them its
    argument grows and the classes it votes for are as good as random, each member's its own. `sine="first"` does the
    same with random frequencies of the inputs, at a cost in accuracy (BUILD_NOTES has the numbers).

    Args:
        features: Normalised inputs, (batch, ...); flattened.
        hidden: Units of each hidden layer.
        sine: Which hidden layer is sinusoidal.
        sine_scale: Of its argument: radians per unit.
        dropout: Share of units dropped after each hidden layer.
    """
    x = features if len(features.shape) == 2 else keras.layers.Flatten()(features)
    sinusoidal = {"none": None, "first": 0, "last": len(hidden) - 1}[sine]
    for number, units in enumerate(hidden):
        # Unit weights on the inputs and zero biases keep the first layer homogeneous around the origin.
        spread = keras.initializers.RandomNormal(stddev=1.0) if sinusoidal == number == 0 else "he_normal"
        x = keras.layers.Dense(units, kernel_initializer=spread)(x)
        x = keras.ops.sin(sine_scale * x) if number == sinusoidal else keras.layers.ReLU()(x)
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
    return keras.layers.Dense(num_classes, kernel_initializer="lecun_normal", dtype="float32", name="logits")(x)
