"""Precision of the Dirichlet that has an ensemble's mean and one more of its measures.

Proxy losses need a target Dirichlet b·p for the members' mean p. Three choices of b, from the identities
MI = S/b and RMI = (K-1-S)/b of a Dirichlet b·p, with S as in `end2_tf.dirichlet.s_sum` and 0 < S < (K-1)/2:

- `stirling`: S at its limit (K-1)/2. Cheap, and always low.
- `exact`: RMI of the Dirichlet = RMI of the ensemble, the maximum-likelihood precision for a fixed mean.
- `matched_mutual_information`: MI of the Dirichlet = MI of the ensemble.

All in float64 TensorFlow, inside `tf.function` and XLA too, in a fixed number of steps. Precisions are kept within
[FLOOR, cap]: members that agree have an infinite one, members that are one-hot and disagree have 0.

Source: Ryabinin, Malinin & Gales, 2021, arXiv:2105.06987 (Stirling); the roots follow from the identities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from end2_tf import dirichlet, uncertainty
from end2_tf.errors import ConfigError, unknown

KINDS = ("stirling", "exact", "mutual_information")
CAP = 1e6  # at 10 classes a knowledge uncertainty of 4.5e-6
FLOOR = 1e-3  # knowledge uncertainty about 99.9 % of total uncertainty

# Newton's method in ln b. On 62,000 random ensembles of 2 to 1000 classes neither changed after one step less.
_STEPS_EXACT = 5
_STEPS_MUTUAL_INFORMATION = 12
_SLOPE_STEP = 1e-5  # of the difference quotient; its error makes each step gain 4 or 5 digits at least
_TINY = 1e-300
_HUGE = 1e300


def from_members(log_probs: Any, kind: str, cap: float = CAP) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the mean of an ensemble and the precision of its proxy Dirichlet.

    Args:
        log_probs: Members' log-probabilities, (..., members, classes), finite.
        kind: `stirling`, `exact` or `mutual_information`.
        cap: Largest precision.

    Returns:
        Mean probabilities (..., classes) and precision (...), float64.

    Raises:
        ConfigError: `kind` is unknown.
    """
    check_kind(kind)
    measures = uncertainty.from_members(_float64(log_probs))
    mean_probs = measures["probs"]
    if kind == "stirling":
        return mean_probs, stirling(mean_probs.shape[-1], measures["mkl"], cap)
    if kind == "exact":
        return mean_probs, exact(mean_probs, measures["mkl"], cap)
    return mean_probs, matched_mutual_information(mean_probs, measures["knowledge_uncertainty"], cap)


def check_kind(kind: str) -> None:
    """Raises ConfigError unless `kind` is one of `KINDS`."""
    if kind not in KINDS:
        raise ConfigError(unknown("precision", kind, "a kind of precision", KINDS))


def stirling(num_classes: int, mkl: Any, cap: float = CAP) -> tf.Tensor:
    """Returns (K-1) / (2 RMI), the precision that a large ensemble of nearly agreeing members has.

    Args:
        num_classes: K, at least 2.
        mkl: Reverse mutual information, nats, at least 0; any shape.
        cap: Largest precision, returned where `mkl` is 0.

    Returns:
        Float64 of `mkl`'s shape.

    Example:
        >>> float(stirling(3, 0.1))
        10.0
    """
    return tf.clip_by_value((num_classes - 1) / (2 * tf.maximum(_float64(mkl), _TINY)), FLOOR, cap)


def exact(mean_probs: Any, mkl: Any, cap: float = CAP) -> tf.Tensor:
    """Returns the precision at which the Dirichlet has the ensemble's reverse mutual information.

    The root lies between once and twice the Stirling value, where Newton's method is safe.

    Args:
        mean_probs: p, (..., classes), rows summing to 1. A class of probability 0 counts as the limit of a small one.
        mkl: Reverse mutual information, nats, at least 0, infinite where members exclude what others don't; (...).
        cap: Largest precision, returned where `mkl` is 0.

    Returns:
        Float64 (...), to a relative error of 1e-13.
    """
    mean_probs, log_mkl = _float64(mean_probs), tf.math.log(tf.clip_by_value(_float64(mkl), _TINY, _HUGE))
    degrees = _degrees(mean_probs)
    low = tf.math.log(degrees / 2) - log_mkl

    def step(log_precision: tf.Tensor) -> tf.Tensor:
        s, slope = _s_and_slope(mean_probs, log_precision)
        excess = tf.math.log(degrees - s) - log_precision - log_mkl
        return tf.clip_by_value(log_precision + excess / (1 + slope / (degrees - s)), low, low + np.log(2.0))

    return tf.clip_by_value(tf.exp(_repeat(step, low, _STEPS_EXACT)), FLOOR, cap)


def matched_mutual_information(mean_probs: Any, knowledge: Any, cap: float = CAP) -> tf.Tensor:
    """Returns the precision at which the Dirichlet has the ensemble's knowledge uncertainty.

    MI = S/b falls from H(p) at b = 0 to 0, like (K-1)/(2b) in the end. Newton's method in ln b starts from the simplest
    curve with both limits, H / (1 + 2bH/(K-1)).

    Args:
        mean_probs: p, (..., classes), rows summing to 1; classes of probability 0 drop out.
        knowledge: Mutual information, nats; (...).
        cap: Largest precision, returned where `knowledge` is 0, below it, or too small for float64 to tell.

    Returns:
        Float64 (...); `FLOOR` where `knowledge` reaches H(p). Relative error 1e-9 near there, where it moves knowledge
            uncertainty by 1e-12, and 1e-13 elsewhere.

    Example:
        >>> round(float(matched_mutual_information([0.2, 0.3, 0.5], 0.092351426763)), 9)  # of Dir(2, 3, 5)
        10.0
    """
    mean_probs, knowledge = _float64(mean_probs), _float64(knowledge)
    is_resolved = knowledge > np.finfo(np.float64).eps
    knowledge = tf.where(is_resolved, knowledge, 1.0)
    total = tf.maximum(dirichlet.entropy(mean_probs), _TINY)
    low, high = np.log(FLOOR), tf.math.log(_float64(cap))
    guess = tf.math.log(_degrees(mean_probs) / 2) + tf.math.log(tf.maximum(1 / knowledge - 1 / total, _TINY))

    def step(log_precision: tf.Tensor) -> tf.Tensor:
        s, slope = _s_and_slope(mean_probs, log_precision)
        excess = tf.math.log(s) - log_precision - tf.math.log(knowledge)
        # Near H(p) the curve is flat; there the bounds stop a step that goes too far.
        return tf.clip_by_value(log_precision + excess / tf.maximum(1 - slope / s, 1e-6), low, high)

    root = tf.exp(_repeat(step, tf.clip_by_value(guess, low, high), _STEPS_MUTUAL_INFORMATION))
    return tf.where(is_resolved, tf.clip_by_value(root, FLOOR, cap), cap)


def _repeat(step: Callable[[tf.Tensor], tf.Tensor], start: tf.Tensor, num_steps: int) -> tf.Tensor:
    _, end = tf.while_loop(
        lambda i, _: i < num_steps, lambda i, value: (i + 1, tf.ensure_shape(step(value), start.shape)), (0, start)
    )
    return end


def _s_and_slope(mean_probs: tf.Tensor, log_precision: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns S(b·p), above 0, and dS / d ln b, both (...)."""
    precisions = tf.exp(log_precision[..., None] + tf.constant([0.0, _SLOPE_STEP], tf.float64))
    s = tf.maximum(dirichlet.s_sum(precisions[..., None] * mean_probs[..., None, :]), _TINY)
    return s[..., 0], (s[..., 1] - s[..., 0]) / _SLOPE_STEP


def _degrees(mean_probs: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.shape(mean_probs)[-1] - 1, tf.float64)


def _float64(values: Any) -> tf.Tensor:
    return tf.cast(values if tf.is_tensor(values) else np.asarray(values, np.float64), tf.float64)
