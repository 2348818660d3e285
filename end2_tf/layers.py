"""Heads that turn a network's logits into predictions and uncertainty measures, and a pooling that Keras lacks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf import uncertainty
from end2_tf.errors import ConfigError, ShapeError

# Within these, alphas of 1e4 classes and their sum stay normal float32 numbers.
MIN_LOG_ALPHA = -60.0
MAX_LOG_ALPHA = 60.0

_MEASURES = ("total_uncertainty", "data_uncertainty", "knowledge_uncertainty")


class _Head(keras.layers.Layer):
    """Base of the heads: full precision whatever the policy, one check of the input's shape."""

    def __init__(self, *, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(dtype=dtype or "float32", **kwargs)
        if self.compute_dtype not in ("float32", "float64"):
            raise ConfigError(
                f"{type(self).__name__}'s dtype computes in {self.compute_dtype}, which can't hold alphas. "
                f"Allowed: float32, float64; leave dtype out under mixed precision."
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2 or (input_shape[-1] is not None and input_shape[-1] < 2):
            raise ShapeError(
                f"{type(self).__name__} got logits of shape {tuple(input_shape)}. Allowed: (batch, classes), 2 or more "
                f"classes. Let the network end in a dense layer of as many units as there are classes."
            )
        super().build(input_shape)

    def _spec(self, logits: Any, per_class: tuple[str, ...], per_example: tuple[str, ...]) -> dict[str, Any]:
        shape = tuple(logits.shape)
        shapes = dict.fromkeys(per_class, shape) | dict.fromkeys(per_example, shape[:1])
        return {name: keras.KerasTensor(shape, dtype=self.compute_dtype) for name, shape in shapes.items()}


@keras.saving.register_keras_serializable("end2_tf")
class DirichletHead(_Head):
    """Reads logits as a Dirichlet distribution over predictions, with its uncertainty measures.

    The last layer of a distilled student, and of a Prior Network. Networks trained for the mean alone carry nothing in
    the sum of their alphas: give those a `SoftmaxHead`.

    Args:
        offset: Added to exp(logits) to give alphas, at least 0; the loss's own. With 0, probs are softmax(logits).
        dtype: float32 (also under mixed precision) or float64. Defaults to float32.

    Call arguments:
        logits: (batch, classes), any finite values. Where the largest exceeds 60, all are lowered by the same amount,
            which keeps the mean; alphas below exp(-60) are raised to it.

    Returns:
        A dict: `probs`, `alphas`, `logits`, (batch, classes); `total_uncertainty`, `data_uncertainty`,
        `knowledge_uncertainty`, nats, (batch,).

    Raises:
        ConfigError: `offset` is negative, or `dtype` is a half precision.
        ShapeError: logits aren't (batch, classes).

    Example:
        >>> head = DirichletHead()
        >>> float(head(np.log([[2.0, 3.0, 5.0]]))["knowledge_uncertainty"][0])
        0.09235...

    Source: Malinin, Mlodozeniec & Gales, ICLR 2020 (offset 0); Ryabinin, Malinin & Gales, 2021 (offset 1).
    """

    def __init__(self, offset: float = 0.0, *, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(dtype=dtype, **kwargs)
        if not offset >= 0:
            raise ConfigError(
                f"DirichletHead's offset is {offset!r}. Allowed: at least 0. Use the loss's own, mostly 0 or 1."
            )
        self.offset = float(offset)

    def call(self, logits: Any) -> dict[str, Any]:
        excess = tf.nn.relu(tf.reduce_max(logits, axis=-1, keepdims=True) - MAX_LOG_ALPHA)
        alphas = tf.exp(tf.maximum(logits - excess, MIN_LOG_ALPHA)) + self.offset
        measures = uncertainty.from_alphas(alphas)
        probs = tf.nn.softmax(logits) if self.offset == 0 else measures["probs"]
        return {"probs": probs, "alphas": alphas, "logits": logits} | {name: measures[name] for name in _MEASURES}

    def compute_output_spec(self, logits: Any) -> dict[str, Any]:
        return self._spec(logits, ("probs", "alphas", "logits"), _MEASURES)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "offset": self.offset}


@keras.saving.register_keras_serializable("end2_tf")
class SoftmaxHead(_Head):
    """Turns logits into probabilities and their entropy, for networks that predict one distribution.

    Call arguments:
        logits: (batch, classes).

    Returns:
        A dict: `probs`, `logits`, (batch, classes); `total_uncertainty`, nats, (batch,).

    Raises:
        ConfigError: `dtype` is a half precision.
        ShapeError: logits aren't (batch, classes).
    """

    def call(self, logits: Any) -> dict[str, Any]:
        probs = tf.nn.softmax(logits)
        total = uncertainty.from_probs(probs)["total_uncertainty"]
        return {"probs": probs, "logits": logits, "total_uncertainty": total}

    def compute_output_spec(self, logits: Any) -> dict[str, Any]:
        return self._spec(logits, ("probs", "logits"), ("total_uncertainty",))


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
