"""What the losses with a target Dirichlet share: an ensemble's mean, and its precision."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import tensorflow as tf

from end2_tf import precision as precisions
from end2_tf.errors import ConfigError
from end2_tf.losses._base import MAX_LOG_ALPHA, MIN_LOG_ALPHA, DistillationLoss, float64


class PrecisionLoss(DistillationLoss):
    """Base of losses whose statistics are the members' mean probabilities and the logarithm of a precision."""

    has_mean: ClassVar[bool] = True

    def __init__(self, precision: str, cap: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        precisions.check_kind(precision)
        self._check_number("cap", cap, cap >= precisions.FLOOR, f"at least {precisions.FLOOR:g}")
        self.precision = precision
        self.cap = float(cap)

    def statistics_size(self, num_classes: int) -> int:
        return num_classes + 1

    def reduce_log_probs(self, log_probs: tf.Tensor) -> tf.Tensor:
        mean_probs, precision = precisions.from_members(log_probs, self.precision, self.cap)
        return tf.concat([mean_probs, tf.math.log(precision)[..., None]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "precision": self.precision, "cap": self.cap}


class ProxyLoss(PrecisionLoss):
    """Base of the divergences between the student's Dirichlet and the proxy."""

    def __init__(
        self,
        precision: str = "stirling",
        cap: float = precisions.CAP,
        *,
        targets: str = "members",
        temperature: float = 1.0,
        offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(precision, cap, targets=targets, temperature=temperature, offset=offset, **kwargs)
        if math.log(cap) > MAX_LOG_ALPHA:
            raise ConfigError(f"{type(self).__name__}'s cap is {cap!r}. Allowed: at most 1e13. Give a smaller cap.")

    def divergence(self, alphas: tf.Tensor, proxy: tf.Tensor, precision: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each example, of concentrations (batch, classes) and the precision (batch,)."""
        raise NotImplementedError

    def from_statistics(self, statistics: tf.Tensor, logits: tf.Tensor, temperature: Any) -> tf.Tensor:
        statistics = float64(statistics)
        mean_probs, precision = statistics[..., :-1], tf.exp(statistics[..., -1])
        proxy = tf.maximum(precision[..., None] * mean_probs + self.offset, math.exp(MIN_LOG_ALPHA))
        return self.divergence(self.alphas(logits, temperature), proxy, precision)
