"""EnD: distils an ensemble's mean prediction."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from end2_tf.errors import ConfigError
from end2_tf.heads import Head, SoftmaxHead
from end2_tf.losses._base import DistillationLoss, float64


@keras.saving.register_keras_serializable("end2_tf")
class EnsembleDistillation(DistillationLoss):
    """Cross-entropy of the student to the members' mean prediction, both tempered.

    The classic distillation (EnD). The student gets the ensemble's accuracy and total uncertainty, but can't split it:
    nothing is learned of how much the members disagree. Use it as the baseline of EnD².

    Args:
        scale_by_temperature: Whether to multiply by temperature squared, which keeps gradients of one size over
            temperatures. Defaults to True.
        targets, temperature, offset, **kwargs: See `DistillationLoss`; `offset` must be 0, as the head is a softmax.

    Call arguments:
        y_true: Members' logits, (batch, members, classes); or their mean probabilities, (batch, classes).
        y_pred: Student's logits, (batch, classes).

    Returns:
        Nats (times temperature squared), (batch,) before reduction; at least the entropy of the mean prediction.

    Raises:
        ShapeError: ranks are not 3 (2) and 2, or class counts differ.

    Example:
        >>> members = np.log([[[0.2, 0.8], [0.4, 0.6]]])
        >>> float(EnsembleDistillation()(members, np.log([[0.5, 0.5]])))
        0.69314...

    Source: Hinton, Vinyals & Dean, 2015, arXiv:1503.02531; EnD in Malinin, Mlodozeniec & Gales, ICLR 2020.
    """

    has_mean: ClassVar[bool] = True

    def __init__(
        self,
        scale_by_temperature: bool = True,
        *,
        targets: str = "members",
        temperature: float = 1.0,
        offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(targets=targets, temperature=temperature, offset=offset, **kwargs)
        if offset != 0:
            raise ConfigError(
                f"EnsembleDistillation's offset is {offset!r}, but its student has a softmax head, which has none. "
                f"Allowed: 0. Leave offset out."
            )
        self.scale_by_temperature = scale_by_temperature

    def make_head(self, dtype: Any = None) -> Head:
        return SoftmaxHead(dtype=dtype)

    @property
    def tempers_alphas(self) -> bool:
        return False

    def statistics_size(self, num_classes: int) -> int:
        return num_classes

    def reduce_log_probs(self, log_probs: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.exp(log_probs), axis=-2)

    def from_statistics(self, statistics: tf.Tensor, logits: tf.Tensor, temperature: Any) -> tf.Tensor:
        temperature = float64(temperature)
        log_probs = tf.nn.log_softmax(float64(logits) / temperature)
        values = -tf.reduce_sum(float64(statistics) * log_probs, axis=-1)
        return values * temperature**2 if self.scale_by_temperature else values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale_by_temperature": self.scale_by_temperature}
