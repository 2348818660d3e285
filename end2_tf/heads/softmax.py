"""One prediction and its entropy: the head of single networks and of EnD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf import uncertainty
from end2_tf.heads._base import Head


@keras.saving.register_keras_serializable("end2_tf")
class SoftmaxHead(Head):
    """Turns logits into probabilities and their entropy, for networks that predict one distribution.

    Call arguments:
        logits: (batch, classes).

    Returns:
        A dict: `probs`, `logits`, (batch, classes); `total_uncertainty`, nats, (batch,).

    Raises:
        ConfigError: `dtype` is a half precision.
        ShapeError: logits aren't (batch, classes).
    """

    @property
    def measure_names(self) -> tuple[str, ...]:
        return ("total_uncertainty",)

    def parameters(self, logits: Any) -> dict[str, Any]:
        return {"logits": logits}

    def measures(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        logits = outputs["logits"]
        probs = tf.nn.softmax(logits)
        return uncertainty.from_probs(probs if tf.is_tensor(logits) else np.asarray(probs))

    def log_probs(self, outputs: Mapping[str, Any]) -> tf.Tensor:
        return tf.nn.log_softmax(outputs["logits"])

    def distribution(self, outputs: Mapping[str, Any]) -> Any:
        """Returns the one prediction there is, with certainty."""
        import tensorflow_probability as tfp  # takes 2 s, and few need it

        return tfp.distributions.VectorDeterministic(tf.nn.softmax(outputs["logits"]))

    def parameter_shapes(self, batch: int | None, num_classes: int) -> dict[str, tuple[int | None, ...]]:
        return {"logits": (batch, num_classes)}
