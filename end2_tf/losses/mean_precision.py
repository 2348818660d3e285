"""EnD² in two terms: the ensemble's mean, and the precision that gives its knowledge uncertainty."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from end2_tf import precision as precisions
from end2_tf.losses._base import float64
from end2_tf.losses._proxy import PrecisionLoss


@keras.saving.register_keras_serializable("end2_tf")
class MeanPrecision(PrecisionLoss):
    """Cross-entropy of the student's mean to the ensemble's, plus weight · (ln alpha0 - ln precision)².

    A Dirichlet is its mean p and its precision alpha0. The likelihood fits both at once, and its optimum has

        E ln π = mean log-probability of the members,

    so p goes towards their geometric mean, and what it gains in density it pays in accuracy and calibration. Here each
    part has a term of its own: the first is least at p = ensemble's mean whatever alpha0, the second at
    alpha0 = target whatever p. At offset 0 the two don't even share coordinates: p is the softmax of the logits, ln
    alpha0 their logsumexp, and a constant added to all logits moves the second alone. So both minima are reached
    together, at any weight, without annealing. With the default target, the student at the optimum has the ensemble's
    total *and* knowledge uncertainty, hence its data uncertainty too.

    Args:
        precision: Target of alpha0: `mutual_information`, `exact` or `stirling`, see `end2_tf.precision`. Defaults to
            `mutual_information`.
        weight: Of the second term, at least 0. Defaults to 0.05.
        cap: Largest target, at least 1e-3. Defaults to 1e6.
        targets, temperature, offset, **kwargs: See `DistillationLoss`. Mean and precision are those of
            alphas = exp(logits/temperature) + offset; alpha0 can't be below classes · offset.

    Call arguments:
        y_true: Members' logits, (batch, members, classes); or their mean probabilities and ln precision,
            (batch, classes + 1).
        y_pred: Student's logits, (batch, classes), any finite values.

    Returns:
        Nats, (batch,) before reduction; at least the entropy of the mean prediction.

    Raises:
        ConfigError: an argument isn't among the allowed values.
        ShapeError: ranks are not 3 (2) and 2, or class counts differ.

    Example:
        >>> members = np.log([[[0.2, 0.8], [0.4, 0.6]]])
        >>> float(MeanPrecision()(members, np.log([[3.0, 7.0]])))
        0.63506...
    """

    def __init__(
        self,
        precision: str = "mutual_information",
        weight: float = 0.05,
        cap: float = precisions.CAP,
        *,
        targets: str = "members",
        temperature: float = 1.0,
        offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(precision, cap, targets=targets, temperature=temperature, offset=offset, **kwargs)
        self._check_number("weight", weight, weight >= 0, "at least 0")
        self.weight = float(weight)

    def from_statistics(self, statistics: tf.Tensor, logits: tf.Tensor, temperature: Any) -> tf.Tensor:
        statistics = float64(statistics)
        mean_probs, log_precision = statistics[..., :-1], statistics[..., -1]
        log_alphas = float64(logits) / float64(temperature)
        if self.offset > 0:  # ln(exp(z) + o), without overflow
            log_offset = math.log(self.offset)
            log_alphas = log_offset + tf.nn.softplus(log_alphas - log_offset)
        log_alpha0 = tf.reduce_logsumexp(log_alphas, axis=-1)
        cross_entropy = -tf.reduce_sum(mean_probs * tf.nn.log_softmax(log_alphas), axis=-1)
        return cross_entropy + self.weight * tf.square(log_alpha0 - log_precision)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight}
