"""Metrics of predictions and uncertainties, on NumPy arrays and without TensorFlow.

Scores are uncertainties: higher means less certain. The positive class is the wrong prediction, or the OOD input.
"""

from __future__ import annotations

from end2_tf.metrics.bootstrap import Difference, paired_auroc_difference, paired_mean_difference
from end2_tf.metrics.calibration import (
    ReliabilityCurve,
    brier_score,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_curve,
)
from end2_tf.metrics.correlation import rank_correlation
from end2_tf.metrics.detection import auroc, average_precision, false_positive_rate_at, out_of_distribution
from end2_tf.metrics.divergence import mean_kl
from end2_tf.metrics.in_domain import classification
from end2_tf.metrics.rejection import RejectionCurve, prediction_rejection_ratio, rejection_curve

DEFINITIONS = {
    "error": "Fraction of inputs whose most probable class isn't the label.",
    "nll": "Mean of -ln p(label) in nats, without clipping.",
    "brier": "Mean squared distance between the probabilities and the one-hot label, from 0 to 2.",
    "ece": "Expected calibration error: mean gap between confidence and accuracy over bins (lower, upper] of equal "
    "width, weighted by their number of inputs.",
    "prr": "Prediction rejection ratio in per cent: the gain from rejecting inputs by falling uncertainty, relative to "
    "an oracle's gain; random is 0, and it equals 100 × (2 × misclassification AUROC - 1).",
    "misclassification_auroc": "Area under the ROC curve of finding wrong predictions, the positive class, by "
    "uncertainty.",
    "misclassification_aupr": "Average precision of finding wrong predictions, the positive class, by uncertainty; it "
    "grows with the error rate, so compare models by PRR.",
    "ood_auroc": "Area under the ROC curve of finding out-of-distribution inputs, the positive class, by uncertainty.",
    "ood_aupr": "Average precision of finding out-of-distribution inputs, the positive class, by uncertainty; it grows "
    "with their share.",
    "ood_fpr95": "Fraction of in-domain inputs flagged by the highest threshold on uncertainty that catches 95 % of "
    "the out-of-distribution inputs, the positive class.",
    "rank_correlation": "Spearman's rank correlation between two models' uncertainties on the same inputs.",
    "kl_to_ensemble": "Mean KL divergence of a model's predicted probabilities from the ensemble's, KL(ensemble ‖ "
    "model), in nats: what is lost in likelihood if the ensemble is right.",
}

__all__ = [
    "DEFINITIONS",
    "Difference",
    "RejectionCurve",
    "ReliabilityCurve",
    "auroc",
    "average_precision",
    "brier_score",
    "classification",
    "error_rate",
    "expected_calibration_error",
    "false_positive_rate_at",
    "mean_kl",
    "negative_log_likelihood",
    "out_of_distribution",
    "paired_auroc_difference",
    "paired_mean_difference",
    "prediction_rejection_ratio",
    "rank_correlation",
    "rejection_curve",
    "reliability_curve",
]
