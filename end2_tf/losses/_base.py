"""What all distillation losses share: targets, temperature, offset, checks of shapes, safe concentrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from end2_tf.errors import ConfigError, ShapeError, unknown
from end2_tf.heads import DirichletHead, Head

TARGETS = ("members", "statistics")

# Above alpha = exp(30) = 1e13 the NLL's gradient is rounding noise even in float64; below exp(-30) nothing changes.
MIN_LOG_ALPHA = -30.0
MAX_LOG_ALPHA = 30.0
MIN_LOG_PROB = -700.0  # exp(-700) = 1e-304 still has all of float64's digits


class DistillationLoss(keras.losses.Loss):
    """Base of the losses that compare a student's logits with an ensemble.

    A loss sees the members only through a few statistics of each example, so it comes in two steps: `reduce_members`,
    which a transfer set applies once and caches, and `from_statistics`. `call` runs the second alone or both, as
    `targets` says. A subclass implements `statistics_size`, `reduce_log_probs` and `from_statistics`.

    Everything is computed in float64. Unless `dtype` is given, the result has the predictions' own dtype, and float32
    for half precisions.

    Args:
        targets: What y_true holds: `members`, their logits (batch, members, classes); or `statistics`, what
            `reduce_members` made of them at the same temperature, (batch, statistics). Defaults to `members`.
        temperature: Divides logits, above 0. `loss.temperature` is a variable: assign to it to anneal, also while a
            compiled training runs. Defaults to 1.
        offset: Added to exp(logits) to give alphas, at least 0; the head's own. Defaults to 0.
        **kwargs: `reduction`, `name`, `dtype` as in `keras.losses.Loss`.

    Raises:
        ConfigError: an argument isn't among the allowed values.
        ShapeError: when called, already while tracing: y_true or y_pred doesn't have the shape that `targets` says.
    """

    has_mean: ClassVar[bool] = False  # whether the statistics begin with the members' mean probabilities

    def __init__(
        self,
        *,
        targets: str = "members",
        temperature: float = 1.0,
        offset: float = 0.0,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        # Keras casts both inputs to the loss's dtype before `call`.
        super().__init__(dtype=dtype or "float64", **kwargs)
        if targets not in TARGETS:
            raise ConfigError(unknown(f"{type(self).__name__}'s targets", targets, "a kind of targets", TARGETS))
        self._check_number("temperature", temperature, temperature > 0, "above 0")
        self._check_number("offset", offset, offset >= 0, "at least 0, mostly 0 or 1")
        self.targets = targets
        self.offset = float(offset)
        self._has_own_dtype = dtype is not None
        self._initial_temperature = float(temperature)
        self.temperature = keras.Variable(
            self._initial_temperature, trainable=False, dtype="float64", autocast=False, name="temperature"
        )

    def make_head(self, dtype: Any = None) -> Head:
        """Returns the head that a student trained with this loss is published with."""
        return DirichletHead(self.offset, dtype=dtype)

    @property
    def tempers_alphas(self) -> bool:
        """Whether the student's alphas are those of its logits divided by the temperature."""
        return True

    def statistics_size(self, num_classes: int) -> int:
        """Returns S, how many numbers `reduce_members` keeps of an example."""
        raise self._lacks("statistics_size")

    def reduce_log_probs(self, log_probs: tf.Tensor) -> tf.Tensor:
        """Returns the statistics (..., S) of members' tempered log-probabilities (..., members, classes)."""
        raise self._lacks("reduce_log_probs")

    def from_statistics(self, statistics: tf.Tensor, logits: tf.Tensor, temperature: Any) -> tf.Tensor:
        """Returns the loss of each example, float64 (batch,).

        Args:
            statistics: (batch, S), as `reduce_members` returns them, in float32 or float64.
            logits: The student's, (batch, classes).
            temperature: That of the statistics.
        """
        raise self._lacks("from_statistics")

    def teacher_temperature(self, temperature: Any) -> Any:
        """Returns what members' logits are divided by."""
        return temperature

    def reduce_members(self, member_logits: Any, temperature: Any) -> tf.Tensor:
        """Returns the statistics of members' predictions that the loss needs.

        Logarithms of probabilities are kept at -700 or above, which float64 can exponentiate.

        Args:
            member_logits: (..., members, classes).
            temperature: Divides the logits, above 0.

        Returns:
            Float64 (..., S); no gradient flows into the members.

        Raises:
            ShapeError: there are no members or fewer than two classes.
        """
        member_logits = float64(member_logits)
        shape = member_logits.shape
        if shape.rank is not None and (shape.rank < 2 or shape[-2] == 0 or shape[-1] in (0, 1)):
            raise ShapeError(
                f"member_logits has shape {tuple(shape)}. Allowed: (..., members, classes) with at least 1 member and "
                f"2 classes. Stack the members' logits on the axis before the last."
            )
        log_probs = tf.nn.log_softmax(member_logits / float64(self.teacher_temperature(temperature)))
        return tf.stop_gradient(self.reduce_log_probs(tf.maximum(log_probs, MIN_LOG_PROB)))

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Returns the loss of each example, (batch,), in nats."""
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        self._check_shapes(y_true.shape, y_pred.shape)
        temperature = tf.convert_to_tensor(self.temperature)
        statistics = self.reduce_members(y_true, temperature) if self.targets == "members" else float64(y_true)
        return self.from_statistics(statistics, float64(y_pred), temperature)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        value = super().__call__(y_true, y_pred, sample_weight)
        dtype = keras.backend.standardize_dtype(getattr(y_pred, "dtype", "float64"))
        return value if self._has_own_dtype or dtype == "float64" else tf.cast(value, tf.float32)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "targets": self.targets, "temperature": self._initial_temperature}
        return config | {"offset": self.offset, "dtype": self.dtype if self._has_own_dtype else None}

    def alphas(self, logits: Any, temperature: Any) -> tf.Tensor:
        """Returns the student's concentrations exp(logits/temperature) + offset, float64.

        Where the largest logit over temperature exceeds 30, all are lowered by the same amount, which keeps the mean;
        alphas below exp(-30) are raised to it. Gradients pass, except those that push further out.
        """
        return bounded_alphas(float64(logits) / float64(temperature), self.offset)

    def _check_shapes(self, y_true: tf.TensorShape, y_pred: tf.TensorShape) -> None:
        name, rank = type(self).__name__, 3 if self.targets == "members" else 2
        axes = "(batch, members, classes)" if rank == 3 else "(batch, statistics)"
        if y_pred.rank not in (None, 2):
            raise ShapeError(
                f"{name} got y_pred of shape {tuple(y_pred)}. Allowed: the student's logits, (batch, classes). "
                f"Flatten the other axes into the batch."
            )
        if y_true.rank not in (None, rank):
            other = "statistics" if rank == 3 else "members"
            raise ShapeError(
                f"{name} got y_true of shape {tuple(y_true)}, but targets={self.targets!r} needs {axes}. "
                f"Give those, or build the loss with targets={other!r}."
            )
        head = self.make_head()
        classes = None if y_pred[1] is None else head.num_classes(y_pred[1])
        if classes is not None and classes < 2:
            raise ShapeError(
                f"{name} got y_pred of shape {tuple(y_pred)}. Allowed: at least 2 classes. Let the network end in "
                f"{head.outputs_per_class}."
            )
        size = classes if rank == 3 or classes is None else self.statistics_size(classes)
        if None not in (size, y_true[-1]) and y_true[-1] != size:
            raise ShapeError(
                f"{name} got y_true of shape {tuple(y_true)} and y_pred of shape {tuple(y_pred)}: with {classes} "
                f"classes y_true's last axis must be {size}. Use a student and an ensemble of the same classes."
            )
        if None not in (y_true[0], y_pred[0]) and y_true[0] != y_pred[0]:
            raise ShapeError(
                f"{name} got y_true of shape {tuple(y_true)} and y_pred of shape {tuple(y_pred)}, which differ in the "
                f"batch. Give both for the same examples."
            )

    def _lacks(self, method: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} doesn't define {method}, which each loss does for itself.")

    def _check_number(self, field: str, value: float, is_allowed: bool, allowed: str) -> None:
        if not (is_allowed and np.isfinite(value)):
            raise ConfigError(
                f"{type(self).__name__}'s {field} is {value!r}. Allowed: {allowed}. Give another {field}."
            )


def bounded_alphas(log_alphas: tf.Tensor, offset: float) -> tf.Tensor:
    """Returns exp(log_alphas) + offset within bounds, see `DistillationLoss.alphas`."""
    return tf.exp(_bounded(log_alphas)) + offset


def float64(values: Any) -> tf.Tensor:
    """Returns a float64 tensor; Python and NumPy numbers lose no digits on the way."""
    return tf.cast(values if tf.is_tensor(values) else np.asarray(values, np.float64), tf.float64)


@tf.custom_gradient
def _bounded(log_alphas: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Keeps ln alphas within bounds. A plain clip would hold a student that is outside there for ever."""
    excess = tf.nn.relu(tf.reduce_max(log_alphas, axis=-1, keepdims=True) - MAX_LOG_ALPHA)
    lowered = log_alphas - excess

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        inward = tf.where(lowered < MIN_LOG_ALPHA, tf.minimum(upstream, 0.0), upstream)
        common = tf.reduce_mean(inward, axis=-1, keepdims=True)
        return tf.where((excess > 0) & (common < 0), inward - common, inward)

    return tf.maximum(lowered, MIN_LOG_ALPHA), gradient
