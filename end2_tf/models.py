"""What is published, as Keras models that take raw inputs: a student with its head, or a whole ensemble."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf.errors import ModelError
from end2_tf.heads import Head


@keras.saving.register_keras_serializable("end2_tf")
class UncertaintyClassifier(keras.Model):
    """A classifier that says how sure it is, and why not.

    `predict` returns a dict of arrays: with a Dirichlet head `probs, alphas` and `logits` (batch, classes) and
    `total_uncertainty, data_uncertainty, knowledge_uncertainty` (batch,), in nats; with a softmax head `probs, logits,
    total_uncertainty`; what others return stands in `end2_tf.heads`. `evaluate(x, labels)` takes integer labels and
    returns the error (a fraction) and the NLL (nats). `backbone` is the model of the logits, for fine-tuning.

    Args:
        backbone: Keras model from raw inputs to logits (batch, outputs), as many as the head needs.
        head: One of `end2_tf.heads`.

    Raises:
        ModelError: the backbone doesn't return (batch, outputs).

    Example:
        >>> model = UncertaintyClassifier(backbone, DirichletHead())
        >>> model.predict(x)["knowledge_uncertainty"]
    """

    def __init__(self, backbone: keras.Model, head: Head, **kwargs: Any):
        shape = getattr(backbone, "output_shape", None)
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise ModelError(
                f"the backbone's output shape is {shape}. Allowed: (batch, outputs), logits. End it in a dense layer."
            )
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
        labels = tf.cast(tf.reshape(y, (-1,)), tf.int32)
        return -tf.gather(self.head.log_probs(y_pred), labels, batch_dims=1)

    def predict_measures(self, inputs: np.ndarray, batch_size: int = 1000) -> dict[str, np.ndarray]:
        """Returns what `predict` returns, without its progress bar, for float or uint8 arrays of raw inputs."""
        return self.predict(inputs, batch_size=batch_size, verbose=0)

    def predict_distribution(self, inputs: np.ndarray, batch_size: int = 1000) -> Any:
        """Returns the distribution over predictions for raw inputs, as one of TensorFlow Probability.

        Example:
            >>> distribution = model.predict_distribution(x)
            >>> distribution.sample(100).shape  # as if an ensemble of 100 had been asked
            TensorShape([100, 5, 3])
        """
        return self.head.distribution(self.predict_measures(inputs, batch_size))

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


# Layers of which many members can be computed as one batched operation. Convolutions with a kernel per member can't.
_BATCHABLE = {
    *("InputLayer", "Normalization", "Flatten", "Dense", "Activation", "ReLU", "Sin", "Multiply"),
    *("Dropout", "DropoutMask"),
}


def is_batchable(model: keras.Model) -> bool:
    """Returns whether members of this architecture can share one batched matrix product a layer."""
    return all(type(layer).__name__ in _BATCHABLE for layer in model.layers)


@dataclasses.dataclass(frozen=True)
class _Hidden:
    """Holds a model where Keras doesn't look for layers."""

    value: keras.Model


@keras.saving.register_keras_serializable("end2_tf")
class EnsembleModel(keras.Model):
    """M networks of one architecture as one model: raw inputs → logits (batch, members, classes).

    Each weight of all members is one array. Where every layer allows it a layer is one batched matrix product, else
    the graph loops over the members.

    Args:
        member: One network; says what the architecture is, its weights don't matter.
        num_members: M.
    """

    def __init__(self, member: keras.Model, num_members: int, **kwargs: Any):
        super().__init__(**kwargs)
        # Keras would save and train the prototype's own weights, which mean nothing, if it saw them.
        self._prototype, self.num_members = _Hidden(member), num_members
        self.stacks = [
            self.add_weight(
                name=f"weight_{number}", shape=(num_members, *weight.shape), dtype=weight.dtype, initializer="zeros"
            )
            for number, weight in enumerate(member.weights)
        ]
        self.built = True

    @property
    def member(self) -> keras.Model:
        """The prototype: a member's architecture."""
        return self._prototype.value

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor:
        places = {id(weight): number for number, weight in enumerate(self.member.weights)}
        values = [tf.convert_to_tensor(stack) for stack in self.stacks]
        trainable = [values[places[id(v)]] for v in self.member.trainable_variables]
        # Dropout's seeds are variables but no weights; at inference nothing is dropped, and any value will do.
        frozen = [
            values[places[id(v)]] if id(v) in places else tf.zeros((self.num_members, *v.shape), v.dtype)
            for v in self.member.non_trainable_variables
        ]

        def one(weights: Any) -> tf.Tensor:
            return self.member.stateless_call(list(weights[0]), list(weights[1]), inputs, training=False)[0]

        if is_batchable(self.member):
            outputs = tf.vectorized_map(one, (trainable, frozen))
        else:
            signature = tf.TensorSpec((None, self.member.output_shape[-1]), self.member.outputs[0].dtype)
            outputs = tf.map_fn(one, (trainable, frozen), fn_output_signature=signature, parallel_iterations=1)
        return tf.transpose(outputs, (1, 0, 2))

    def compute_output_spec(self, inputs: Any, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0], self.num_members, self.member.output_shape[-1]), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        member = keras.saving.serialize_keras_object(self.member)
        return {"name": self.name, "member": member, "num_members": self.num_members}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> EnsembleModel:
        config = dict(config)
        member = keras.saving.deserialize_keras_object(config.pop("member"), custom_objects=custom_objects)
        return cls(member, **config)
