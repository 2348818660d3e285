"""EnD²: the likelihood of the members' predictions under the student's Dirichlet."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from end2_tf.errors import ConfigError, unknown
from end2_tf.losses._base import MIN_LOG_PROB, DistillationLoss, float64

# variant: (exponent of temperature that divides the student's logits, the teacher's, power of temperature as factor)
VARIANTS = {
    "both": (1, 1, 2),
    "teacher": (0, 1, 0),
    "student": (1, 0, 2),
    "reverse": (-1, 1, -2),
}


@keras.saving.register_keras_serializable("end2_tf")
class DirichletNLL(DistillationLoss):
    """Mean negative log-density of the members' predictions under the student's Dirichlet.

    The paper's EnD² objective. Start it at a temperature of 10 or so and anneal to 1: at 1, where members are nearly
    one-hot, the gradient is mostly that of classes they exclude. Its optimum has a flatter mean than the ensemble where
    members disagree strongly, and with more than about 100 classes those that nobody predicts dominate the gradient;
    `MeanPrecision` and `ProxyReverseKL` have neither trouble.

    The members enter through their mean log-probabilities s only: the density is
    Σ (alpha_c - 1) s_c - ln B(alpha).

    Args:
        smoothing: Share of the uniform distribution mixed into each member's tempered prediction, in [0, 1]. Keeps s
            above ln(smoothing / classes). Defaults to 1e-4.
        variant: What temperature divides. `both`: student and members, as in the paper; `teacher`: members; `student`:
            the student; `reverse`: members, while it multiplies the student's logits. Defaults to `both`.
        scale_by_temperature: Whether to scale as published: `both` and `student` by temperature squared, `reverse` by
            its inverse. Defaults to True.
        targets, temperature, offset, **kwargs: See `DistillationLoss`.

    Call arguments:
        y_true: Members' logits, (batch, members, classes); or s, (batch, classes).
        y_pred: Student's logits, (batch, classes). Their alphas are kept between exp(-30) and about exp(30), s above
            -700. So the loss and its gradient are finite for any finite logits.

    Returns:
        Nats, (batch,) before reduction. Negative values are normal: a density. If all members agree there is no lower
        bound but that of the largest alphas.

    Raises:
        ConfigError: an argument isn't among the allowed values.
        ShapeError: ranks are not 3 (2) and 2, or class counts differ.

    Example:
        >>> loss = DirichletNLL(smoothing=0.0)
        >>> members = np.log([[[0.2, 0.3, 0.5], [0.1, 0.4, 0.5]]])
        >>> float(loss(members, np.log([[2.0, 3.0, 5.0]])))
        -2.08176...

    Source: Malinin, Mlodozeniec & Gales, ICLR 2020, arXiv:1905.00076; variants as in the authors' code.
    """

    def __init__(
        self,
        smoothing: float = 1e-4,
        variant: str = "both",
        scale_by_temperature: bool = True,
        *,
        targets: str = "members",
        temperature: float = 1.0,
        offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(targets=targets, temperature=temperature, offset=offset, **kwargs)
        self._check_number("smoothing", smoothing, 0 <= smoothing <= 1, "from 0 to 1")
        if variant not in VARIANTS:
            raise ConfigError(unknown("DirichletNLL's variant", variant, "a variant", VARIANTS))
        self.smoothing = float(smoothing)
        self.variant = variant
        self.scale_by_temperature = scale_by_temperature

    @property
    def tempers_alphas(self) -> bool:
        return VARIANTS[self.variant][0] != 0

    def statistics_size(self, num_classes: int) -> int:
        return num_classes

    def teacher_temperature(self, temperature: Any) -> Any:
        return temperature ** VARIANTS[self.variant][1]

    def reduce_log_probs(self, log_probs: tf.Tensor) -> tf.Tensor:
        if self.smoothing > 0:
            uniform = 1 / tf.cast(tf.shape(log_probs)[-1], tf.float64)
            log_probs = tf.math.log((1 - self.smoothing) * tf.exp(log_probs) + self.smoothing * uniform)
        return tf.reduce_mean(log_probs, axis=-2)

    def from_statistics(self, statistics: tf.Tensor, logits: tf.Tensor, temperature: Any) -> tf.Tensor:
        temperature = float64(temperature)
        student, _, factor = VARIANTS[self.variant]
        alphas = self.alphas(logits, temperature**student)
        s = tf.maximum(float64(statistics), MIN_LOG_PROB)
        # Unlike `dirichlet`'s forms this loses digits, 1e-14 of its largest summand, and takes a third of their time.
        classes = tf.math.lgamma(alphas) - (alphas - 1) * s
        values = tf.reduce_sum(classes, axis=-1) - tf.math.lgamma(tf.reduce_sum(alphas, axis=-1))
        return values * temperature**factor if self.scale_by_temperature else values

    def get_config(self) -> dict[str, Any]:
        own = {"smoothing": self.smoothing, "variant": self.variant, "scale_by_temperature": self.scale_by_temperature}
        return {**super().get_config(), **own}
