"""Prior Networks: a Dirichlet learned from labels and from inputs known to be outside the domain; no ensemble."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf import dirichlet
from end2_tf.errors import ConfigError, unknown
from end2_tf.heads import DirichletHead, Head
from end2_tf.losses._base import bounded_alphas, float64
from end2_tf.losses._labels import labels_and_logits

ON_LABELS = True  # needs no ensemble
OUTSIDE = True  # auxiliary inputs have a target of their own

DIRECTIONS = ("reverse", "forward")


@keras.saving.register_keras_serializable("end2_tf")
class PriorNetwork(keras.losses.Loss):
    """KL divergence between the student's Dirichlet and one made of the label: sharp inside the domain, flat outside.

    The target is beta = 1 + concentration · label, which is 1 for every class where there is no label. The reverse
    divergence, KL(student ‖ target), asks for one mode where classes overlap; the forward one asks the student to cover
    every label it has seen for an input with mass at the corners, which spreads it there. Both are divided by the
    concentration, so that its choice doesn't rescale the gradient. The reverse one grows as fast as alphas do: clip
    gradients (`optimizer.clip_norm`) where a network starts with large logits.

    Args:
        direction: `reverse` or `forward`. Defaults to `reverse`.
        concentration: Added to 1 for the label's class, above 0. Defaults to 100.
        outside_weight: Of examples without a label, at least 0. Defaults to 1.
        offset: Added to exp(logits) to give alphas, at least 0; the head's own. Defaults to 0.
        **kwargs: `reduction`, `name`, `dtype` as in `keras.losses.Loss`; computed in float64.

    Call arguments:
        y_true: Integer labels, (batch,) or (batch, 1), -1 for inputs from outside the domain; or rows (batch, classes):
            one-hot, zeros for inputs from outside, or mixtures, as mixup makes them.
        y_pred: The student's logits, (batch, classes).

    Returns:
        Nats over the concentration, (batch,) before reduction.

    Raises:
        ConfigError: an argument isn't among the allowed values.
        ShapeError: ranks are not 1 or 2 and 2, or class counts differ.

    Example:
        >>> float(PriorNetwork()(np.array([0, -1]), np.log([[50.0, 1.0, 1.0], [2.0, 3.0, 5.0]])))
        0.006958...

    Source: Malinin & Gales 2019, arXiv:1905.13472 (reverse); 2018, arXiv:1802.10501 (forward).
    """

    def __init__(
        self,
        *,
        direction: str = "reverse",
        concentration: float = 100.0,
        outside_weight: float = 1.0,
        offset: float = 0.0,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=dtype or "float64", **kwargs)
        if direction not in DIRECTIONS:
            raise ConfigError(unknown("PriorNetwork's direction", direction, "a divergence", DIRECTIONS))
        for name, value, is_allowed, allowed in (
            ("concentration", concentration, concentration > 0, "above 0"),
            ("outside_weight", outside_weight, outside_weight >= 0, "at least 0"),
            ("offset", offset, offset >= 0, "at least 0, mostly 0 or 1"),
        ):
            if not (is_allowed and np.isfinite(value)):
                raise ConfigError(f"PriorNetwork's {name} is {value!r}. Allowed: {allowed}. Give another {name}.")
        self.direction, self.concentration = direction, float(concentration)
        self.outside_weight, self.offset = float(outside_weight), float(offset)

    def make_head(self, dtype: Any = None) -> Head:
        """Returns the head that a network trained with this loss is published with."""
        return DirichletHead(self.offset, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        allowed = "labels (batch,), -1 outside, or rows (batch, classes), and logits (batch, classes)"
        y_true, y_pred = labels_and_logits("PriorNetwork", y_true, y_pred, allowed)
        labels = float64(y_true)
        if y_true.shape.rank != 2:
            labels = tf.one_hot(tf.cast(y_true, tf.int32), tf.shape(y_pred)[-1], dtype=tf.float64)  # zeros for -1
        alphas = bounded_alphas(float64(y_pred), self.offset)
        targets = 1.0 + self.concentration * labels
        pair = (alphas, targets) if self.direction == "reverse" else (targets, alphas)
        inside = tf.reduce_sum(labels, axis=-1)
        weights = inside + (1 - inside) * self.outside_weight
        return weights * dirichlet.kl_divergence(*pair) / self.concentration

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "direction": self.direction,
            "concentration": self.concentration,
            "outside_weight": self.outside_weight,
            "offset": self.offset,
        }
