"""What is published: a backbone and its head as one Keras model, raw inputs in, probabilities and uncertainties out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf.errors import ModelError
from end2_tf.layers import DirichletHead, SoftmaxHead


@keras.saving.register_keras_serializable("end2_tf")
class UncertaintyClassifier(keras.Model):
    """A classifier that says how sure it is, and why not.

    `predict` returns a dict of arrays: with a Dirichlet head `probs, alphas` and `logits` (batch, classes) and
    `total_uncertainty, data_uncertainty, knowledge_uncertainty` (batch,), in nats; with a softmax head `probs, logits,
    total_uncertainty`. `evaluate(x, labels)` takes integer labels and returns the error (a fraction) and the NLL
    (nats). `backbone` is the model of the logits, for fine-tuning.

    Args:
        backbone: Keras model from raw inputs to logits (batch, classes).
        head: `DirichletHead(offset)` or `SoftmaxHead()`.

    Raises:
        ModelError: the backbone doesn't return (batch, classes).

    Example:
        >>> model = UncertaintyClassifier(backbone, DirichletHead())
        >>> model.predict(x)["knowledge_uncertainty"]
    """

    def __init__(self, backbone: keras.Model, head: DirichletHead | SoftmaxHead, **kwargs: Any):
        shape = getattr(backbone, "output_shape", None)
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise ModelError(f"the backbone's output shape is {shape}, but it must be (batch, classes): logits.")
        inputs = keras.Input(backbone.input_shape[1:], name="inputs")
        super().__init__(inputs=inputs, outputs=head(backbone(inputs)), **kwargs)
        self.backbone, self.head = backbone, head
        self._error = keras.metrics.Mean(name="error")
        self._nll = keras.metrics.Mean(name="nll")
        self.compile(optimizer=None)  # enough to evaluate; an optimiser would triple the file

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Fine-tunes on integer labels; with Adam and the NLL unless `compile` was given something else."""
        if self.optimizer is None:
            self.compile(optimizer="adam")
        return super().fit(*args, **kwargs)

    def get_compile_config(self) -> dict[str, Any] | None:
        return None if self.optimizer is None else super().get_compile_config()

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **kwargs: Any
    ) -> Any:
        """Mean NLL of integer labels, unless `compile` was given another loss."""
        if self._has_own_loss():
            return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **kwargs)
        losses = self._negative_log_likelihood(y, y_pred)
        if sample_weight is not None:
            losses *= tf.cast(sample_weight, losses.dtype)
        return tf.reduce_mean(losses)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        results = super().compute_metrics(x, y, y_pred, sample_weight) if self._has_own_loss() else {}
        wrong = tf.not_equal(tf.argmax(y_pred["probs"], -1), tf.cast(tf.reshape(y, (-1,)), tf.int64))
        self._error.update_state(tf.cast(wrong, tf.float32), sample_weight)
        self._nll.update_state(self._negative_log_likelihood(y, y_pred), sample_weight)
        return {**results, "error": self._error.result(), "nll": self._nll.result()}

    def _has_own_loss(self) -> bool:
        return getattr(self, "_compile_loss", None) is not None

    def _negative_log_likelihood(self, y: Any, y_pred: dict[str, Any]) -> tf.Tensor:
        if "alphas" in y_pred:
            log_alphas = tf.math.log(y_pred["alphas"])
            log_probs = log_alphas - tf.reduce_logsumexp(log_alphas, -1, keepdims=True)
        else:
            log_probs = tf.nn.log_softmax(y_pred["logits"])
        labels = tf.cast(tf.reshape(y, (-1,)), tf.int32)
        return -tf.gather(log_probs, labels, batch_dims=1)

    def predict_measures(self, inputs: np.ndarray, batch_size: int = 1000) -> dict[str, np.ndarray]:
        """Returns what `predict` returns, without its progress bar, for float or uint8 arrays of raw inputs."""
        return self.predict(inputs, batch_size=batch_size, verbose=0)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "head": keras.saving.serialize_keras_object(self.head),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> UncertaintyClassifier:
        config = dict(config)
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"), custom_objects=custom_objects)
        head = keras.saving.deserialize_keras_object(config.pop("head"), custom_objects=custom_objects)
        return cls(backbone, head, **config)
