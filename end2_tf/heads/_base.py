"""What all heads share: full precision, one check of the outputs' shape, the names of what is published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from end2_tf.errors import ConfigError, ShapeError

PUBLISHED = ("total_uncertainty", "data_uncertainty", "knowledge_uncertainty")


class Head(keras.layers.Layer):
    """Base of the heads.

    A subclass implements `parameters`, `measures`, `log_probs` and `distribution`, and where a class takes more than
    one output `num_outputs` and `num_classes`.

    Args:
        dtype: float32 (also under mixed precision) or float64. Defaults to float32.

    Raises:
        ConfigError: `dtype` is a half precision.
        ShapeError: when called: the outputs aren't (batch, outputs) of two classes or more.
    """

    outputs_per_class: ClassVar[str] = "as many units as there are classes"  # what the last layer needs, for messages

    def __init__(self, *, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(dtype=dtype or "float32", **kwargs)
        if self.compute_dtype not in ("float32", "float64"):
            raise ConfigError(
                f"{type(self).__name__}'s dtype computes in {self.compute_dtype}, which can't hold alphas. "
                f"Allowed: float32, float64; leave dtype out under mixed precision."
            )

    def num_outputs(self, num_classes: int) -> int:
        """Returns how many outputs a network needs for `num_classes` classes."""
        return num_classes

    def num_classes(self, num_outputs: int) -> int:
        """Returns how many classes a network of `num_outputs` outputs knows; 0 where that is no whole number."""
        return num_outputs

    def parameters(self, logits: Any) -> dict[str, Any]:
        """Returns what describes the distribution over predictions, by name, of raw outputs (batch, outputs)."""
        raise NotImplementedError

    def measures(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `probs` and all measures of `end2_tf.uncertainty` that the distribution has.

        Args:
            outputs: What the head returned, or at least its parameters: tensors, or NumPy arrays, whose dtype is the
                result's; float64 arrays of float32 outputs lose nothing further.
        """
        raise NotImplementedError

    def log_probs(self, outputs: Mapping[str, Any]) -> Any:
        """Returns the logarithm of the mean prediction, (batch, classes), as a tensor."""
        raise NotImplementedError

    def distribution(self, outputs: Mapping[str, Any]) -> Any:
        """Returns the distribution over predictions as one of TensorFlow Probability, to sample from or to score.

        Args:
            outputs: What the head returned, or at least its parameters.

        Returns:
            A `tfp.distributions.Distribution`, batch (batch,), event (classes,): over probabilities, unless the head
            says otherwise.
        """
        raise NotImplementedError

    @property
    def measure_names(self) -> tuple[str, ...]:
        """Those of the published measures that the head has."""
        return PUBLISHED

    def call(self, logits: Any) -> dict[str, Any]:
        parameters = self.parameters(logits)
        measures = self.measures(parameters)
        return {"probs": measures["probs"], **parameters} | {name: measures[name] for name in self.measure_names}

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2 or (input_shape[-1] is not None and self.num_classes(input_shape[-1]) < 2):
            raise ShapeError(
                f"{type(self).__name__} got logits of shape {tuple(input_shape)}. Allowed: (batch, "
                f"{'classes' if self.num_outputs(2) == 2 else 'outputs'}), 2 or more classes. Let the network end in a "
                f"dense layer of {self.outputs_per_class}."
            )
        super().build(input_shape)

    def parameter_shapes(self, batch: int | None, num_classes: int) -> dict[str, tuple[int | None, ...]]:
        """Returns the shapes of `parameters`."""
        raise NotImplementedError

    def compute_output_spec(self, logits: Any) -> dict[str, Any]:
        batch, num_classes = logits.shape[0], self.num_classes(logits.shape[-1])
        shapes = {"probs": (batch, num_classes), **self.parameter_shapes(batch, num_classes)}
        shapes |= dict.fromkeys(self.measure_names, (batch,))
        return {name: keras.KerasTensor(shape, dtype=self.compute_dtype) for name, shape in shapes.items()}
