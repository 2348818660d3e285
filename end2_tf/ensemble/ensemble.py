"""The ensemble as one object: members' logits, on arrays and inside graphs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf import uncertainty, workdir
from end2_tf.errors import ModelError, ShapeError
from end2_tf.models import EnsembleModel
from end2_tf.reading import keras_files


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
        if isinstance(members, keras.Model):
            raise ModelError(f"members is one model ({members.name}). Give a list of models.")
        self.members: Sequence[keras.Model] = tuple(members)
        for index, member in enumerate(self.members):
            if not isinstance(member, keras.Model):
                raise ModelError(
                    f"member {index} is {member!r}, of type {type(member).__name__}. Give Keras models; "
                    "keras.saving.load_model opens a file."
                )
        if not self.members:
            raise ModelError("an ensemble was given no members. Give it at least one Keras model.")
        _check_outputs(self.members)
        self.members = tuple(map(with_fixed_statistics, self.members))
        self._are_probabilities = [_ends_in_softmax(m) for m in self.members]
        self.closes_unseen = False  # whether a softmax was noticed only by what members return
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

    @property
    def returns_logits(self) -> bool:
        """Whether all members return logits, as far as is known; else some return probabilities."""
        return not any(self._are_probabilities)

    def __len__(self) -> int:
        return self.num_members

    def __iter__(self) -> Iterator[keras.Model]:
        return (self.member(i) for i in range(self.num_members))

    def member(self, index: int) -> keras.Model:
        """Returns one member as an ordinary Keras model."""
        return self.members[index]

    def first(self, num_members: int) -> Ensemble:
        """Returns an ensemble of the first members.

        Raises:
            ModelError: there aren't that many.
        """
        if num_members > self.num_members:
            raise ModelError(
                f"transfer.num_members is {num_members}, but there are {self.num_members} members. "
                "Allowed: at most that many, or none for all."
            )
        part = self._first(num_members)
        part._are_probabilities = self._are_probabilities[: len(part.members)]
        part.closes_unseen = self.closes_unseen
        return part

    def _first(self, num_members: int) -> Ensemble:
        return Ensemble(self.members[:num_members])

    def recognise_probabilities(self, inputs: np.ndarray) -> None:
        """Looks at members' outputs on a few raw inputs: rows that are positive and sum to 1 are probabilities.

        Catches a softmax that isn't the last layer's activation, for instance `keras.ops.softmax`.
        """
        batch = tf.cast(inputs, tf.float32)
        for index, member in enumerate(self.members):
            outputs = np.asarray(member(batch, training=False), np.float64)
            looks_so = len(outputs) > 0 and (outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-3)
            if looks_so and not self._are_probabilities[index]:
                self._are_probabilities[index] = self.closes_unseen = True

    def knows(self, inputs: np.ndarray) -> np.ndarray:
        """Returns which inputs members can be asked about, bool (n,): all, unless they are known by records only."""
        return np.ones(len(inputs), bool)

    def logits(self, inputs: Any) -> tf.Tensor:
        """Returns members' logits (batch, members, classes) float32; for use inside a graph."""
        return tf.stack([self._member_logits(i, inputs) for i in range(self.num_members)], axis=1)

    def _member_logits(self, index: int, inputs: Any) -> tf.Tensor:
        return _as_logits(self.members[index](inputs, training=False), self._are_probabilities[index])

    def predict_logits(self, inputs: np.ndarray, batch_size: int = 1000) -> np.ndarray:
        """Returns members' logits (n, members, classes) float32 for arrays of raw inputs."""
        self.check_inputs(inputs)
        out = np.empty((len(inputs), self.num_members, self.num_classes), np.float32)
        for index in range(self.num_members):  # members outside: each graph is traced once and kept
            function = self._functions[index]
            if function is None:
                graph = tf.function(lambda x, i=index: self._member_logits(i, x))
                # Concrete: TensorFlow takes several members' graphs for one that is traced again and again, and warns.
                batch = tf.TensorSpec((None, *self.input_shape), tf.float32)
                function = self._functions[index] = graph.get_concrete_function(batch)
            for rows in _chunks(len(inputs), batch_size):
                out[rows, index] = function(tf.cast(inputs[rows], tf.float32)).numpy()
        return out

    def uncertainty(self, inputs: np.ndarray, batch_size: int = 1000) -> dict[str, np.ndarray]:
        """Returns the measures of `end2_tf.uncertainty.from_members` for arrays of raw inputs."""
        return uncertainty.from_members(self.predict_logits(inputs, batch_size))

    def as_model(self) -> keras.Model:
        """Returns the ensemble as one Keras model: raw inputs → the members' own outputs (batch, members, classes)."""
        inputs = keras.Input(self.input_shape, name="inputs")
        outputs = [member(inputs) for member in self.members]
        return keras.Model(inputs, keras.ops.stack(outputs, axis=1), name="ensemble")

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Returns whether members take inputs of this shape; networks without dense layers may take several."""
        return len(shape) == len(self.input_shape) and all(
            want in (None, got) for want, got in zip(self.input_shape, shape, strict=True)
        )

    def check_inputs(self, inputs: np.ndarray, name: str = "inputs") -> None:
        """Raises ShapeError unless `inputs`, which the message calls `name`, is (n, *input_shape)."""
        shape = tuple(np.shape(inputs))
        if not self.takes(shape[1:]) or not shape:
            raise ShapeError(
                f"{name} have shape {shape}, but the members take ({', '.join(map(str, ('n', *self.input_shape)))}). "
                "Give the inputs they were trained on."
            )


class StackedEnsemble(Ensemble):
    """Members of one architecture, as one `EnsembleModel`: one graph serves all of them.

    Args:
        prototype: One member; says what the architecture is. Its own weights don't matter.
        weights: For each of `prototype.weights`, in that order, an array (members, *shape).

    Raises:
        ShapeError: the arrays don't fit the prototype.
    """

    def __init__(self, prototype: keras.Model, weights: Sequence[np.ndarray]):
        expected = [tuple(w.shape) for w in prototype.weights]
        got = [tuple(np.shape(w)[1:]) for w in weights]
        if expected != got or len({len(w) for w in weights}) != 1:
            raise ShapeError(
                f"stacked weights have shapes {got} a member, but the prototype's are {expected}. Make them agree."
            )
        super().__init__([prototype])
        self.model = EnsembleModel(prototype, len(weights[0]))
        for stack, values in zip(self.model.stacks, weights, strict=True):
            stack.assign(values)
        self._predict = tf.function(self.logits, reduce_retracing=True)

    @classmethod
    def from_model(cls, model: EnsembleModel) -> StackedEnsemble:
        """Takes the members of a model that is an ensemble."""
        return cls(model.member, [np.asarray(stack) for stack in model.stacks])

    @classmethod
    def from_members(cls, members: Sequence[keras.Model]) -> StackedEnsemble:
        """Stacks members of one architecture.

        Raises:
            ModelError: they have several, or normalise inputs by statistics of their own.
        """
        members = [with_fixed_statistics(member) for member in members]
        if len({architecture(member) for member in members}) > 1:
            raise ModelError(
                "the members have different architectures, or normalise inputs by statistics of their own, so they "
                "can't be stacked. Use Ensemble, which asks them one by one."
            )
        rows = [m.get_weights() for m in members]
        return cls(members[0], [np.stack(arrays) for arrays in zip(*rows, strict=True)])

    @property
    def num_members(self) -> int:
        return self.model.num_members

    def member(self, index: int) -> keras.Model:
        member = keras.models.clone_model(self.model.member)
        member.set_weights([np.asarray(stack)[index] for stack in self.model.stacks])
        return member

    def _first(self, num_members: int) -> StackedEnsemble:
        return StackedEnsemble(self.model.member, [np.asarray(stack)[:num_members] for stack in self.model.stacks])

    def logits(self, inputs: Any) -> tf.Tensor:
        return _as_logits(self.model(inputs, training=False), self._are_probabilities[0])

    def predict_logits(self, inputs: np.ndarray, batch_size: int = 1000) -> np.ndarray:
        self.check_inputs(inputs)
        out = np.empty((len(inputs), self.num_members, self.num_classes), np.float32)
        for rows in _chunks(len(inputs), batch_size):
            out[rows] = self._predict(tf.cast(inputs[rows], tf.float32)).numpy()
        return out

    def as_model(self) -> keras.Model:
        return self.model


_ADVICE = "Save it with model.save('….keras'), and import the modules of its custom layers."


def load(pattern: str) -> Ensemble:
    """Opens a user's own Keras files as an ensemble.

    Args:
        pattern: A glob, for instance `members/*.keras`, or the folder; members are taken in alphabetical order. Or one
            file with an `EnsembleModel`, as the `model.keras` of a published ensemble is.

    Raises:
        ModelError: no file matches, one can't be opened, or the models don't fit together; names the file.
    """
    paths = workdir.model_files(pattern)
    if not paths:
        raise ModelError(
            f"ensemble.models is {pattern!r}, which has no Keras file. Give a folder of .keras files, or a glob in "
            "quotes."
        )
    members = []
    for path in paths:
        members.append(keras_files.load(path, what=str(path), error=ModelError, advice=_ADVICE, compile=False))
    ensembles = [path for path, model in zip(paths, members, strict=True) if isinstance(model, EnsembleModel)]
    if ensembles and len(paths) > 1:
        raise ModelError(
            f"{ensembles[0]} is a whole ensemble, and ensemble.models, {pattern!r}, matches {len(paths)} files. "
            "Give that file alone, or files with one member each."
        )
    try:
        return StackedEnsemble.from_model(members[0]) if ensembles else Ensemble(members)
    except ModelError as error:
        raise ModelError(f"{error} Files: {', '.join(map(str, paths))}.") from None


def _check_outputs(members: Sequence[keras.Model]) -> None:
    classes: set[int] = set()
    inputs: set[tuple[int | None, ...]] = set()
    for index, member in enumerate(members):
        input_shape, num_classes = check_network(member, f"member {index} ({member.name})")
        classes.add(num_classes)
        inputs.add(input_shape)
    if len(classes) > 1:
        raise ModelError(f"members have different class counts: {sorted(classes)}. All must know the same classes.")
    if len(inputs) > 1:
        raise ModelError(
            f"members take inputs of different shapes: {sorted(map(str, inputs))}. All must take the same."
        )


def check_network(model: keras.Model, name: str) -> tuple[tuple[int | None, ...], int]:
    """Returns (shape of one input, class count) of a model with one input and one output (batch, classes).

    Raises:
        ModelError: the model isn't built, or has other inputs or outputs.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:  # a Sequential without an Input, a subclass that was never called
        raise ModelError(f"{name} isn't built: its input shape isn't known. Begin it with keras.Input(shape).")
    input_shape = model.input_shape
    if len(inputs) != 1 or not isinstance(input_shape, tuple):
        raise ModelError(f"{name} has {len(inputs)} inputs. Allowed: one tensor, the raw inputs.")
    output_shape = model.compute_output_shape(input_shape)  # keeps the structure, unlike output_shape
    is_tensor = isinstance(output_shape, tuple) and all(n is None or isinstance(n, int) for n in output_shape)
    if not is_tensor or len(output_shape) != 2 or output_shape[-1] is None or output_shape[-1] < 2:
        got = f"output shape {output_shape}" if is_tensor else f"several or named outputs, {len(model.outputs)} in all"
        raise ModelError(
            f"{name} has {got}. A member returns one tensor (batch, classes) with at least 2 classes: logits or "
            "probabilities."
        )
    return tuple(input_shape[1:]), output_shape[-1]


def closing_activation(model: keras.Model) -> str:
    """Returns the name of the activation that a model's last layer applies; `linear` where there is none to be seen."""
    if not model.layers:
        return "linear"
    last = model.layers[-1]
    if isinstance(last, keras.Model):
        return closing_activation(last)
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    return getattr(getattr(last, "activation", None), "__name__", "linear")


def _ends_in_softmax(model: keras.Model) -> bool:
    """Returns whether a model returns probabilities, read from its last layer.

    Raises:
        ModelError: it ends in another squashing function, so its outputs are neither logits nor class probabilities.
    """
    name = closing_activation(model)
    if name in ("linear", "log_softmax", "softmax"):
        return name == "softmax"
    raise ModelError(
        f"{model.name} ends in the activation {name!r}, so its outputs are neither logits nor class probabilities. "
        "Remove the activation, or make it a softmax."
    )


NORMALISING = ("softmax", "log_softmax")  # activations after which a constant added to all logits is lost


def fresh_copy(model: keras.Model) -> keras.Model:
    """Returns a newly initialised model of the same architecture that returns logits: a closing softmax is left out."""
    last = model.layers[-1]

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer is last and isinstance(layer, keras.layers.Softmax):
            return keras.layers.Activation("linear", name=layer.name)
        settings = layer.get_config()
        if layer is last and getattr(getattr(layer, "activation", None), "__name__", "") in NORMALISING:
            settings["activation"] = "linear"
        return type(layer).from_config(settings)

    return keras.models.clone_model(model, clone_function=clone)


def with_fixed_statistics(model: keras.Model) -> keras.Model:
    """Returns a model whose adapted `Normalization` layers have their statistics in the config; the same without any.

    Keras keeps what such a layer was adapted to as weights, and computes with a copy of them that only a file renews.
    So a network of that config, or with those weights, doesn't normalise as the original does.
    """
    adapted = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None and layer.built
    ]
    if not adapted or not (isinstance(model, keras.Sequential) or hasattr(model, "operations")):
        return model  # a class of one's own knows best what it is made of

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        if any(layer is one for one in adapted):
            settings |= {
                "mean": np.asarray(layer.adapt_mean).tolist(),
                "variance": np.asarray(layer.adapt_variance).tolist(),
            }
        return type(layer).from_config(settings)

    fixed = keras.models.clone_model(model, clone_function=clone, recursive=True)
    gone = {id(weight) for layer in adapted for weight in layer.weights}
    fixed.set_weights([np.asarray(weight) for weight in model.weights if id(weight) not in gone])
    return fixed


def _as_logits(outputs: Any, are_probabilities: bool) -> tf.Tensor:
    outputs = tf.cast(outputs, tf.float32)
    return tf.math.log(tf.maximum(outputs, np.finfo(np.float32).tiny)) if are_probabilities else outputs


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

    def count(network: keras.Model) -> None:
        for operation in getattr(network, "operations", network.layers):
            counted[operation.name] = f"operation_{len(counted)}"
            if isinstance(operation, keras.Model):  # a network within a network has names of its own
                count(operation)
        for tensor in network.inputs or ():  # a Sequential's input layer isn't among its layers
            counted.setdefault(tensor._keras_history.operation.name, f"operation_{len(counted)}")

    count(model)
    counted[model.name] = "model"
    return json.dumps(strip(model.get_config()), sort_keys=True, default=str)
