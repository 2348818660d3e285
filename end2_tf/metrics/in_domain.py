"""The metrics of a classifier on labelled in-domain data, under the names that result files use."""

from __future__ import annotations

from typing import Any

import numpy as np

from end2_tf.metrics import calibration, checks, detection

_TINY = np.finfo(np.float64).tiny
_CHUNK_VALUES = 2**18  # of probabilities: temporaries that stay in the cache


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
    num_bins = checks.number_of_bins(num_bins)
    predicted = probs.argmax(axis=-1)  # once, as the checks and the sorting: they are most of the time
    errors = predicted != labels
    points = detection.operating_points(errors, _entropies(probs) if scores is None else scores, "errors")
    if log_probs is None:
        nll = calibration.negative_log_likelihood_of(probs, labels)
    else:
        nll = calibration.negative_log_likelihood(log_probs, labels, are_logs=True)
    auroc = detection.area_under_roc(points)
    return {
        "error": float(errors.mean()),
        "nll": nll,
        "brier": calibration.brier_score_of(probs, labels),
        "ece": calibration.mean_gap(calibration.reliability_curve_of(probs, predicted, labels, num_bins)),
        "prr": 100 * (2 * auroc - 1),
        "misclassification_auroc": auroc,
        "misclassification_aupr": detection.area_under_precision(points),
    }


def _entropies(probs: np.ndarray) -> np.ndarray:
    """Returns -Σ p ln p, (n,), in float64; 0 ln 0 is 0."""
    entropies = np.empty(len(probs))
    rows = max(1, _CHUNK_VALUES // probs.shape[1])
    for start in range(0, len(probs), rows):
        part = probs[start : start + rows].astype(np.float64)
        np.einsum("nc,nc->n", part, -np.log(np.maximum(part, _TINY)), out=entropies[start : start + rows])
    return entropies
