"""EnD² in two terms: the ensemble's mean, and the precision that gives its knowledge uncertainty."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from end2_tf import precision as precisions
from end2_tf.errors import ConfigError, unknown
from end2_tf.losses._base import float64
from end2_tf.losses._proxy import PrecisionLoss

_LAST_CURVED = 2.0


def _itakura_saito(distance: tf.Tensor) -> tf.Tensor:
    curved = tf.minimum(distance, _LAST_CURVED)
    return tf.exp(curved) - distance - 1 + math.exp(_LAST_CURVED) * (distance - curved)


PENALTIES = {"itakura_saito": _itakura_saito, "squared": tf.square}


@keras.saving.register_keras_serializable("end2_tf")
class MeanPrecision(PrecisionLoss):
    """Cross-entropy of the student's mean to the ensemble's, plus weight · penalty(ln alpha0 - ln precision).

    A Dirichlet is its mean p and its precision alpha0. The likelihood fits both at once, and its optimum has

        E ln π = mean log-probability of the members,

    so p goes towards their geometric mean, and what it gains in density it pays in accuracy and calibration. Here each
    part has a term of its own: the first is least at p = ensemble's mean whatever alpha0, the second at
    alpha0 = target whatever p. At offset 0 the two don't even share coordinates: p is the softmax of the logits, ln
    alpha0 their logsumexp, and a constant added to all logits moves the second alone. So both minima are reached
    together, at any weight, without annealing. With the default target, the student at the optimum has the ensemble's
    total *and* knowledge uncertainty, hence its data uncertainty too.

    A student can't tell all inputs apart, so what it learns is an average over inputs that look alike to it, and the
    penalty decides which. With d = ln alpha0 - ln precision:

    - `squared`: d². Its average is that of ln precision. Knowledge uncertainty falls as 1/alpha0, so the student's
      is a geometric mean, which is below the arithmetic one: on average it knows less than it should of what it
      doesn't know.
    - `itakura_saito`: e^d - d - 1, the Itakura-Saito divergence of the two precisions. Least where 1/alpha0 is the
      average of 1/precision, so knowledge uncertainty is right on average. It is also what the Dirichlet likelihood
      itself makes of the precision where members nearly agree: there the likelihood is D·alpha0 - (K-1)/2 · ln alpha0
      plus a constant, with D the members' reverse mutual information, hence (K-1)/2 times this divergence from the
      Stirling precision (K-1)/(2D). Near d = 0 it is d²/2, so a weight w stands for w/2 of `squared`. Beyond d = 2 it
      goes on in a straight line, so that a student far too sure of itself gets no gradient of e^d.

    An offset o > 0 ties the two together where it matters: no class is less probable than o/alpha0. Where the precision
    is high that says nothing; where a student has learnt that members disagree, its mean must be flat, also on inputs
    where it would have been sure by mistake. So total uncertainty detects what knowledge uncertainty does, at the cost
    of a mean that can't follow members who agree on nothing but the class.

    Args:
        precision: Target of alpha0: `mutual_information`, `exact` or `stirling`, see `end2_tf.precision`. Defaults to
            `mutual_information`.
        weight: Of the second term, at least 0. Defaults to 0.02.
        penalty: `itakura_saito` or `squared`. Defaults to `itakura_saito`.
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
        0.61475...
    """

    def __init__(
        self,
        precision: str = "mutual_information",
        weight: float = 0.02,
        penalty: str = "itakura_saito",
        cap: float = precisions.CAP,
        *,
        targets: str = "members",
        temperature: float = 1.0,
        offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(precision, cap, targets=targets, temperature=temperature, offset=offset, **kwargs)
        self._check_number("weight", weight, weight >= 0, "at least 0")
        if penalty not in PENALTIES:
            raise ConfigError(unknown("penalty", penalty, "a penalty of MeanPrecision", PENALTIES))
        self.weight, self.penalty = float(weight), penalty

    def from_statistics(self, statistics: tf.Tensor, logits: tf.Tensor, temperature: Any) -> tf.Tensor:
        statistics = float64(statistics)
        mean_probs, log_precision = statistics[..., :-1], statistics[..., -1]
        log_alphas = float64(logits) / float64(temperature)
        if self.offset > 0:  # ln(exp(z) + o), without overflow
            log_offset = math.log(self.offset)
            log_alphas = log_offset + tf.nn.softplus(log_alphas - log_offset)
        log_alpha0 = tf.reduce_logsumexp(log_alphas, axis=-1)
        cross_entropy = -tf.reduce_sum(mean_probs * tf.nn.log_softmax(log_alphas), axis=-1)
        return cross_entropy + self.weight * PENALTIES[self.penalty](log_alpha0 - log_precision)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight, "penalty": self.penalty}
