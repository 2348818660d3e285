"""Logit-based distribution distillation: the likelihood of the members' logits under the student's Gaussian."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from end2_tf.errors import ConfigError
from end2_tf.heads import Head, LogitGaussianHead
from end2_tf.heads.logit_gaussian import bounded_log_variance
from end2_tf.losses._base import DistillationLoss, float64


@keras.saving.register_keras_serializable("end2_tf")
class LogitGaussian(DistillationLoss):
    """Mean negative log-density of the members' logits under independent Gaussians, one a class.

    A constant added to all logits of a member changes no prediction, so each member's are centred first; else the
    student would learn that constant's spread as uncertainty. Unlike a Dirichlet, a Gaussian can say that one class is
    disputed and another isn't. Members enter through mean and variance of each class's centred logit.

    Args:
        draws: Of the published head, see `LogitGaussianHead`. Defaults to 100.
        targets, temperature, offset, **kwargs: See `DistillationLoss`. `temperature` must be 1, as it would only scale
            the logits, and `offset` 0, as there are no alphas.

    Call arguments:
        y_true: Members' logits, (batch, members, classes); or means and variances, (batch, 2 · classes).
        y_pred: The student's outputs, (batch, 2 · classes): means and logarithms of variances, see
            `LogitGaussianHead`.

    Returns:
        Nats, (batch,) before reduction. Negative values are normal: a density.

    Raises:
        ConfigError: `temperature` isn't 1, or `offset` isn't 0.
        ShapeError: ranks are not 3 (2) and 2, or class counts differ.

    Example:
        >>> members = np.array([[[1.0, -1.0], [3.0, -3.0]]])  # centred already: mean (2, -2), variance 1
        >>> float(LogitGaussian()(members, np.array([[2.0, -2.0, 0.0, 0.0]])))  # ln(2 π e)
        2.83787...

    Source: Fathullah, Xia & Gales, UAI 2023, arXiv:2305.10384 (Gaussian).
    """

    def __init__(
        self,
        draws: int = 100,
        *,
        targets: str = "members",
        temperature: float = 1.0,
        offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(targets=targets, temperature=temperature, offset=offset, **kwargs)
        for name, value, allowed, why in (
            ("temperature", temperature, 1, "it would only scale the logits"),
            ("offset", offset, 0, "there are no alphas to add it to"),
        ):
            if value != allowed:
                raise ConfigError(f"LogitGaussian's {name} is {value!r}, but {why}. Allowed: {allowed}. Leave it out.")
        self.draws = draws
        self.make_head()  # refuses what it can't take

    def make_head(self, dtype: Any = None) -> Head:
        return LogitGaussianHead(self.draws, dtype=dtype)

    @property
    def tempers_alphas(self) -> bool:
        return False

    def statistics_size(self, num_classes: int) -> int:
        return 2 * num_classes

    def reduce_log_probs(self, log_probs: tf.Tensor) -> tf.Tensor:
        centred = log_probs - tf.reduce_mean(log_probs, axis=-1, keepdims=True)
        # Not the second moment: in float32 its difference from the squared mean has few digits.
        return tf.concat([tf.reduce_mean(centred, axis=-2), tf.math.reduce_variance(centred, axis=-2)], axis=-1)

    def from_statistics(self, statistics: tf.Tensor, logits: tf.Tensor, temperature: Any) -> tf.Tensor:
        mean, variance = tf.split(float64(statistics), 2, axis=-1)
        own_mean, log_variance = tf.split(float64(logits), 2, axis=-1)
        log_variance = bounded_log_variance(log_variance)
        distance = (variance + tf.square(mean - own_mean)) * tf.exp(-log_variance)
        return 0.5 * tf.reduce_sum(math.log(2 * math.pi) + log_variance + distance, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "draws": self.draws}
