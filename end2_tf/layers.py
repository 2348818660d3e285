"""A pooling that Keras lacks, batch normalisation in one operation, and dropout that is drawn once."""

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
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' own, over all replicas, and in one operation where one device has the whole batch of images.

    Keras writes it out in a dozen operations, each of which reads the map from memory: half of a compact network's
    training step on a processor. Weights, results and gradients are the same.

    Args:
        **kwargs: Of Keras' layer; `synchronized` is True unless given.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"synchronized": True, **kwargs})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is not None or not self._is_one_operation(inputs):
            return super().call(inputs, training=training, mask=mask)
        of_batch = bool(training and self.trainable)
        count = inputs.shape[-1]
        results = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones(count) if self.gamma is None else tf.convert_to_tensor(self.gamma),
            offset=tf.zeros(count) if self.beta is None else tf.convert_to_tensor(self.beta),
            mean=tf.zeros(0) if of_batch else tf.convert_to_tensor(self.moving_mean),
            variance=tf.zeros(0) if of_batch else tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=of_batch,
        )
        if of_batch:
            num = tf.cast(tf.size(inputs) // count, tf.float32)  # the operation divides by one less, Keras doesn't
            variance = results.batch_variance * (tf.maximum(num - 1, 1) / num)
            for moving, batch in ((self.moving_mean, results.batch_mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return results.y

    def _is_one_operation(self, inputs: Any) -> bool:
        is_image = len(inputs.shape) == 4 and self.axis in (-1, 3) and inputs.shape[-1] is not None
        has_kernel = inputs.dtype in (tf.float32, tf.float16, tf.bfloat16) and self.epsilon > 1e-5  # as cuDNN has it
        return is_image and has_kernel and tf.distribute.get_strategy().num_replicas_in_sync == 1


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
