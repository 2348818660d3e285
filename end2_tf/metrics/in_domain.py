"""The metrics of a classifier on labelled in-domain data, under the names that result files use."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr

from end2_tf.metrics import calibration, checks, detection, rejection


def classification(
    probs: Any, labels: Any, num_bins: int = 15, scores: Any = None, *, log_probs: Any = None
) -> dict[str, float]:
    """Returns error, likelihood, calibration, and how well uncertainty finds the errors.

    Args:
        probs: Probabilities, (n, classes).
        labels: Right classes, (n,).
        num_bins: Bins of the expected calibration error.
        scores: Uncertainties that should find the errors, (n,). Defaults to total uncertainty, the entropy of `probs`.
        log_probs: Logarithms of `probs` for the likelihood, where `probs` may have been rounded to 0.

    Returns:
        `error`, `nll` (nats), `brier`, `ece`, `prr` (per cent), `misclassification_auroc`, `misclassification_aupr`
        (positive class: wrong predictions). All but `nll` and `prr` are fractions. The last three are NaN if no
        prediction or every prediction is wrong.

    Raises:
        ShapeError, DataError, ConfigError: as the single metrics.
    """
    labels, probs = checks.labels_and_probs(labels, probs)
    errors = probs.argmax(axis=-1) != labels
    if scores is None:
        scores = entr(probs.astype(np.float64)).sum(axis=-1)
    if log_probs is None:
        nll = calibration.negative_log_likelihood(probs, labels)
    else:
        nll = calibration.negative_log_likelihood(log_probs, labels, are_logs=True)
    return {
        "error": float(errors.mean()),
        "nll": nll,
        "brier": calibration.brier_score(probs, labels),
        "ece": calibration.expected_calibration_error(probs, labels, num_bins),
        "prr": rejection.prediction_rejection_ratio(errors, scores),
        "misclassification_auroc": detection.auroc(errors, scores),
        "misclassification_aupr": detection.average_precision(errors, scores),
    }
