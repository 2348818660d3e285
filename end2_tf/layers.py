"""A pooling that Keras lacks, and dropout that is drawn once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("end2_tf")
class AveragePoolingTo(keras.layers.Layer):
    """Adaptive average pooling to a square map of any size, larger ones than the input's too.

    Bin i of an axis of n averages the rows from floor(i·n/size) up to ceil((i+1)·n/size), as in PyTorch. Keras' own
    AdaptiveAveragePooling2D can't enlarge a map inside a graph (3.15: "Negative dimension size"), which VGG-16 needs at
    32×32 inputs, where a 1×1 map becomes 7×7.

    Args:
        size: Height and width of the result.

    Call arguments:
        inputs: (batch, height, width, channels) of known height and width.

    Returns:
        (batch, size, size, channels).
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = int(size)

    def _bins(self, length: int) -> tf.Tensor:
        """Returns what each bin takes of each row, (size, length); rows sum to 1."""
        first = np.arange(self.size) * length // self.size
        last = -(-(np.arange(self.size) + 1) * length // self.size)  # rounded up, and excluded
        rows = np.arange(length)
        inside = (rows >= first[:, None]) & (rows < last[:, None])
        return tf.constant(inside / inside.sum(1, keepdims=True), self.compute_dtype)

    def call(self, inputs: Any) -> tf.Tensor:
        height, width = inputs.shape[1:3]
        return tf.einsum("ih,bhwc,jw->bijc", self._bins(height), inputs, self._bins(width))

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0], self.size, self.size, inputs.shape[-1]), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("end2_tf")
class DropoutMask(keras.layers.Layer):
    """Multiplies by a mask that is a weight of the layer, the same for every input: 0, or 1 / (1 - rate).

    Call arguments:
        inputs: (batch, ...) of known shape.

    Returns:
        The same shape.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.mask = self.add_weight(name="mask", shape=input_shape[1:], initializer="ones", trainable=False)

    def call(self, inputs: Any) -> Any:
        return inputs * self.mask

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape
