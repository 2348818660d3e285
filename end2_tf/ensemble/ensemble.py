"""The ensemble as one object: members' logits, on arrays and inside graphs."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf import uncertainty
from end2_tf.errors import ModelError, ShapeError

# Layers of which many members can be computed as one batched operation. Convolutions with a kernel per member can't.
_BATCHABLE = {"InputLayer", "Normalization", "Flatten", "Dense", "Activation", "ReLU", "Sin", "Multiply", "Dropout"}


def is_batchable(model: keras.Model) -> bool:
    """Returns whether members of this architecture can share one batched matrix product a layer."""
    return all(type(layer).__name__ in _BATCHABLE for layer in model.layers)


class Ensemble:
    """M Keras models from inputs to logits (or probabilities), over the same classes.

    Args:
        members: Keras models with outputs (batch, classes). Those that end in a softmax are recognised, and their
            log-probabilities, which are logits too, are used.

    Raises:
        ModelError: no members; outputs that aren't (batch, classes); class counts or input shapes that differ.

    Example:
        >>> ensemble = Ensemble([build(seed) for seed in range(5)])
        >>> ensemble.predict_logits(x).shape
        (1000, 5, 10)
    """

    def __init__(self, members: Iterable[keras.Model]):
        self.members: Sequence[keras.Model] = tuple(members)
        if not self.members:
            raise ModelError("an ensemble was given no members. Give it at least one Keras model.")
        _check_outputs(self.members)
        self._are_probabilities = [_ends_in_softmax(m) for m in self.members]
        self._functions: list[Any] = [None] * len(self.members)

    @property
    def num_members(self) -> int:
        return len(self.members)

    @property
    def num_classes(self) -> int:
        return int(self.members[0].output_shape[-1])

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.members[0].input_shape[1:])

    def __len__(self) -> int:
        return self.num_members

    def __iter__(self) -> Iterator[keras.Model]:
        return (self.member(i) for i in range(self.num_members))

    def member(self, index: int) -> keras.Model:
        """Returns one member as an ordinary Keras model."""
        return self.members[index]

    def logits(self, inputs: Any) -> tf.Tensor:
        """Returns members' logits (batch, members, classes) float32; for use inside a graph."""
        return tf.stack([self._member_logits(i, inputs) for i in range(self.num_members)], axis=1)

    def _member_logits(self, index: int, inputs: Any) -> tf.Tensor:
        outputs = tf.cast(self.members[index](inputs, training=False), tf.float32)
        if self._are_probabilities[index]:
            return tf.math.log(tf.maximum(outputs, np.finfo(np.float32).tiny))
        return outputs

    def predict_logits(self, inputs: np.ndarray, batch_size: int = 1000) -> np.ndarray:
        """Returns members' logits (n, members, classes) float32 for arrays of raw inputs."""
        self.check_inputs(inputs)
        out = np.empty((len(inputs), self.num_members, self.num_classes), np.float32)
        for index in range(self.num_members):  # members outside: each graph is traced once and kept
            function = self._functions[index]
            if function is None:
                function = self._functions[index] = tf.function(
                    lambda x, i=index: self._member_logits(i, x), reduce_retracing=True
                )
            for rows in _chunks(len(inputs), batch_size):
                out[rows, index] = function(tf.cast(inputs[rows], tf.float32)).numpy()
        return out

    def uncertainty(self, inputs: np.ndarray, batch_size: int = 1000) -> dict[str, np.ndarray]:
        """Returns the measures of `end2_tf.uncertainty.from_members` for arrays of raw inputs."""
        return uncertainty.from_members(self.predict_logits(inputs, batch_size))

    def check_inputs(self, inputs: np.ndarray) -> None:
        """Raises ShapeError unless `inputs` is (n, *input_shape)."""
        shape = tuple(np.shape(inputs))
        if len(shape) != len(self.input_shape) + 1 or any(
            want is not None and want != got for want, got in zip(self.input_shape, shape[1:], strict=True)
        ):
            raise ShapeError(
                f"inputs have shape {shape}, but the members take (n, {', '.join(map(str, self.input_shape))})."
            )


class StackedEnsemble(Ensemble):
    """Members of one architecture, with each weight of all of them in one array (members, ...).

    One graph serves all members: batched matrix products where every layer allows it, else a loop inside the graph.

    Args:
        prototype: One member; says what the architecture is. Its own weights don't matter.
        weights: For each of `prototype.weights`, in that order, an array (members, *shape).
    """

    def __init__(self, prototype: keras.Model, weights: Sequence[np.ndarray]):
        expected = [tuple(w.shape) for w in prototype.weights]
        got = [tuple(np.shape(w)[1:]) for w in weights]
        if expected != got or len({len(w) for w in weights}) != 1:
            raise ShapeError(f"stacked weights have shapes {got} a member, but the prototype's are {expected}.")
        super().__init__([prototype])
        self.prototype = prototype
        self.weights = [np.asarray(w) for w in weights]
        stacks = {id(v): w for v, w in zip(prototype.weights, self.weights, strict=True)}
        num = len(self.weights[0])
        self._trainable = [stacks[id(v)] for v in prototype.trainable_variables]
        # Dropout's seeds are variables but no weights; at inference nothing is dropped, and any value will do.
        self._frozen = [
            stacks[id(v)] if id(v) in stacks else np.repeat(np.asarray(v)[None], num, axis=0)
            for v in prototype.non_trainable_variables
        ]
        self._predict = tf.function(self._stacked_logits, reduce_retracing=True)

    @classmethod
    def from_members(cls, members: Sequence[keras.Model]) -> StackedEnsemble:
        """Stacks members of one architecture."""
        rows = [m.get_weights() for m in members]
        return cls(members[0], [np.stack(arrays) for arrays in zip(*rows, strict=True)])

    @property
    def num_members(self) -> int:
        return len(self.weights[0])

    def member(self, index: int) -> keras.Model:
        model = keras.models.clone_model(self.prototype)
        model.set_weights([w[index] for w in self.weights])
        return model

    def _call(self, trainable: Any, frozen: Any, inputs: Any) -> Any:
        outputs = self.prototype.stateless_call(list(trainable), list(frozen), inputs, training=False)[0]
        outputs = tf.cast(outputs, tf.float32)
        if self._are_probabilities[0]:
            return tf.math.log(tf.maximum(outputs, np.finfo(np.float32).tiny))
        return outputs

    def _stacked_logits(self, trainable: Any, frozen: Any, inputs: Any) -> tf.Tensor:
        one = lambda weights: self._call(weights[0], weights[1], inputs)  # noqa: E731
        if is_batchable(self.prototype):
            outputs = tf.vectorized_map(one, (trainable, frozen))
        else:
            signature = tf.TensorSpec((None, self.num_classes), tf.float32)
            outputs = tf.map_fn(one, (trainable, frozen), fn_output_signature=signature, parallel_iterations=1)
        return tf.transpose(outputs, (1, 0, 2))

    def _tensors(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        return [tf.constant(w) for w in self._trainable], [tf.constant(w) for w in self._frozen]

    def logits(self, inputs: Any) -> tf.Tensor:
        return self._stacked_logits(*self._tensors(), inputs)

    def predict_logits(self, inputs: np.ndarray, batch_size: int = 1000) -> np.ndarray:
        self.check_inputs(inputs)
        trainable, frozen = self._tensors()
        out = np.empty((len(inputs), self.num_members, self.num_classes), np.float32)
        for rows in _chunks(len(inputs), batch_size):
            out[rows] = self._predict(trainable, frozen, tf.cast(inputs[rows], tf.float32)).numpy()
        return out


def load(pattern: str) -> Ensemble:
    """Opens a user's own Keras files as an ensemble.

    Args:
        pattern: A glob, for instance `members/*.keras`; members are taken in alphabetical order.

    Raises:
        ModelError: no file matches, one can't be opened, or the models don't fit together; names the file.
    """
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise ModelError(
            f"ensemble.models is {pattern!r}, which matches no file. Give a glob of .keras files, in quotes."
        )
    members = []
    for path in paths:
        try:
            members.append(keras.saving.load_model(path, compile=False))
        except Exception as error:  # whatever Keras meets in a stranger's file
            reason = str(error).strip().splitlines()
            raise ModelError(
                f"{path} can't be opened as a Keras model ({reason[0] if reason else type(error).__name__}). "
                "Save it with model.save('….keras'), and import the modules of its custom layers."
            ) from error
    try:
        return Ensemble(members)
    except ModelError as error:
        raise ModelError(f"{error} Files: {', '.join(paths)}.") from None


def _check_outputs(members: Sequence[keras.Model]) -> None:
    classes: set[int] = set()
    inputs: set[tuple[int | None, ...]] = set()
    for index, member in enumerate(members):
        shape = getattr(member, "output_shape", None)
        if not isinstance(shape, tuple) or len(shape) != 2 or not isinstance(shape[-1], int) or shape[-1] < 2:
            raise ModelError(
                f"member {index} ({member.name}) has output shape {shape}. "
                "A member returns one output, (batch, classes) with at least 2 classes: logits or probabilities."
            )
        classes.add(shape[-1])
        inputs.add(tuple(member.input_shape[1:]))
    if len(classes) > 1:
        raise ModelError(f"members have different class counts: {sorted(classes)}. All must know the same classes.")
    if len(inputs) > 1:
        raise ModelError(
            f"members take inputs of different shapes: {sorted(map(str, inputs))}. All must take the same."
        )


def _ends_in_softmax(model: keras.Model) -> bool:
    """Returns whether a model returns probabilities, read from its last layer.

    Raises:
        ModelError: it ends in another squashing function, so its outputs are neither logits nor class probabilities.
    """
    if not model.layers:
        return False
    last = model.layers[-1]
    if isinstance(last, keras.Model):
        return _ends_in_softmax(last)
    if isinstance(last, keras.layers.Softmax):
        return True
    name = getattr(getattr(last, "activation", None), "__name__", "linear")
    if name == "softmax":
        return True
    if name in ("linear", "log_softmax"):
        return False
    raise ModelError(
        f"{model.name} ends in the activation {name!r}, so its outputs are neither logits nor class probabilities. "
        "Remove the activation, or make it a softmax."
    )


def fresh_copy(model: keras.Model) -> keras.Model:
    """Returns a newly initialised model of the same architecture that returns logits: a closing softmax is left out."""
    last = model.layers[-1]

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer is last and isinstance(layer, keras.layers.Softmax):
            return keras.layers.Activation("linear", name=layer.name)
        settings = layer.get_config()
        if layer is last and getattr(getattr(layer, "activation", None), "__name__", "") == "softmax":
            settings["activation"] = "linear"
        return type(layer).from_config(settings)

    return keras.models.clone_model(model, clone_function=clone)


def _chunks(num: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, num)) for start in range(0, num, size))


def architecture(model: keras.Model) -> str:
    """Returns a model's config as text without the names Keras counts up, so that members of one kind compare equal."""
    counted: dict[str, str] = {}

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in ("shared_object_id", "seed")}
        if isinstance(value, list | tuple):
            return [strip(v) for v in value]
        return counted.get(value, value) if isinstance(value, str) else value

    for number, operation in enumerate(getattr(model, "operations", model.layers)):
        counted[operation.name] = f"operation_{number}"
    counted[model.name] = "model"
    return json.dumps(strip(model.get_config()), sort_keys=True, default=str)
