"""How well predicted probabilities fit the labels: error, likelihood, Brier score, calibration."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from end2_tf.errors import DataError
from end2_tf.metrics import checks


class ReliabilityCurve(NamedTuple):
    """Confidence and accuracy by bin, (num_bins,) each; NaN in empty bins."""

    lower: np.ndarray  # bins are (lower, upper]
    upper: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    num_examples: np.ndarray


def error_rate(probs: Any, labels: Any) -> float:
    """Returns the fraction of examples whose most probable class isn't the label.

    Args:
        probs: Probabilities, (n, classes); of equal ones the first counts.
        labels: Right classes, (n,).

    Raises:
        ShapeError, DataError: as `checks.labels_and_probs`.
    """
    labels, probs = checks.labels_and_probs(labels, probs)
    return float(np.mean(probs.argmax(axis=-1) != labels))


def negative_log_likelihood(probs: Any, labels: Any, *, are_logs: bool = False) -> float:
    """Returns the mean of -ln p(label), in nats, without clipping: a label of probability 0 gives infinity.

    Args:
        probs: Probabilities, (n, classes); or their logarithms, which hold what a float32 softmax rounds to 0.
        labels: Right classes, (n,).
        are_logs: Whether `probs` are logarithms.

    Raises:
        ShapeError, DataError: as `checks.labels_and_probs`; logarithms must not be NaN or above 0.
    """
    if are_logs:
        log_probs = np.asarray(probs)
        labels = checks.fitting_labels(labels, log_probs, "log_probs")
        chosen = log_probs[np.arange(len(labels)), labels].astype(np.float64)
        wrong = ~(chosen <= 1e-6)  # a float32 log-softmax may round to just above 0
        if np.any(wrong):
            index = int(np.argmax(wrong))
            raise DataError(
                f"log_probs[{index}, {labels[index]}] is {chosen[index]}. Allowed: 0 or less. Pass log_softmax(logits)."
            )
        return float(-np.mean(chosen))
    labels, probs = checks.labels_and_probs(labels, probs)
    return negative_log_likelihood_of(probs, labels)


def negative_log_likelihood_of(probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean of -ln p(label) of checked arguments."""
    return float(np.mean(negative_log_likelihoods_of(probs, labels)))


def negative_log_likelihoods_of(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns -ln p(label) of each example, (n,) float64, of checked arguments."""
    with np.errstate(divide="ignore"):
        return -np.log(probs[np.arange(len(labels)), labels].astype(np.float64))


def brier_score(probs: Any, labels: Any) -> float:
    """Returns the mean of Σ_c (p_c - 1[c = label])², in [0, 2]; some authors halve it.

    Arguments and errors as for `error_rate`.
    """
    labels, probs = checks.labels_and_probs(labels, probs)
    return brier_score_of(probs, labels)


def brier_score_of(probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the Brier score of checked arguments."""
    chosen = probs[np.arange(len(labels)), labels].astype(np.float64)
    squares = np.einsum("nc,nc->n", probs, probs, dtype=np.float64)
    return float(np.mean(squares - chosen**2 + (1 - chosen) ** 2))


def reliability_curve(probs: Any, labels: Any, num_bins: int = 15) -> ReliabilityCurve:
    """Returns mean confidence and accuracy of predictions, binned by confidence.

    Args:
        probs: Probabilities, (n, classes); confidence is the largest.
        labels: Right classes, (n,).
        num_bins: Number of bins of equal width, (lower, upper]; confidence 1 is in the last.

    Raises:
        ShapeError, DataError: as `checks.labels_and_probs`.
        ConfigError: `num_bins` is below 1.
    """
    labels, probs = checks.labels_and_probs(labels, probs)
    return reliability_curve_of(probs, probs.argmax(axis=-1), labels, checks.number_of_bins(num_bins))


def reliability_curve_of(
    probs: np.ndarray, predicted: np.ndarray, labels: np.ndarray, num_bins: int
) -> ReliabilityCurve:
    """Returns the curve of checked arguments and the most probable classes."""
    confidence = probs[np.arange(len(labels)), predicted]
    edges = np.arange(num_bins + 1) / num_bins
    # Edges in the confidences' dtype: 0.3 in float32 is above 0.3, and belongs to the bin that ends there.
    bins = np.searchsorted(edges.astype(confidence.dtype), confidence, side="left") - 1
    bins = np.clip(bins, 0, num_bins - 1)  # a float32 softmax may round to just above 1
    num_examples = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, weights=confidence, minlength=num_bins) / num_examples
        accuracy = np.bincount(bins, weights=predicted == labels, minlength=num_bins) / num_examples
    return ReliabilityCurve(edges[:-1], edges[1:], mean_confidence, accuracy, num_examples)


def expected_calibration_error(probs: Any, labels: Any, num_bins: int = 15) -> float:
    """Returns Σ_bins (num_examples/n) |accuracy - confidence|, a fraction.

    Arguments and errors as for `reliability_curve`.

    Source: Naeini, Cooper & Hauskrecht, AAAI 2015; Guo et al., ICML 2017.
    """
    return mean_gap(reliability_curve(probs, labels, num_bins))


def mean_gap(curve: ReliabilityCurve) -> float:
    """Returns the expected calibration error of a curve."""
    gaps = np.abs(curve.accuracy - curve.confidence)
    return float(np.nansum(curve.num_examples * gaps) / curve.num_examples.sum())
