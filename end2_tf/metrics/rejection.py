"""How well uncertainty finds a classifier's errors, measured by handing the most uncertain inputs to an oracle."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from end2_tf.metrics import checks, detection


class RejectionCurve(NamedTuple):
    """Error that remains after 0, 1, ..., n rejections; each field is (n+1,), in [0, 1]."""

    fraction_rejected: np.ndarray
    error: np.ndarray  # remaining errors over all n, rejected inputs included
    oracle_error: np.ndarray  # the same if errors were rejected first


def prediction_rejection_ratio(errors: Any, scores: Any) -> float:
    """Returns what share of an oracle's gain the scores reach, in per cent: 100 × (2 AUROC - 1).

    That equals the ratio of areas between random rejection and the rejection curve, and the oracle's. It doesn't
    depend on the error rate as AUPR does, so models of different accuracy can be compared.

    Args:
        errors: Whether each prediction is wrong, (n,).
        scores: Uncertainties, (n,); ties share their block's mean.

    Returns:
        100 for an oracle, 0 for random or constant scores, -100 for the reversed oracle; NaN if no prediction or
        every prediction is wrong.

    Raises:
        ShapeError, DataError: as `checks.flags_and_scores`.

    Source: Malinin, 2019, "Uncertainty Estimation in Deep Learning", PhD thesis, Cambridge.
    """
    errors, scores = checks.flags_and_scores(errors, scores, "errors")
    return 100 * (2 * detection.auroc(errors, scores) - 1)


def rejection_curve(errors: Any, scores: Any) -> RejectionCurve:
    """Returns the remaining error against the fraction rejected, most uncertain first.

    Inputs of equal score are rejected as a block, on a straight line. Arguments and errors as for
    `prediction_rejection_ratio`.
    """
    errors, scores = checks.flags_and_scores(errors, scores, "errors")
    _, block, sizes = np.unique(-scores.astype(np.float64), return_inverse=True, return_counts=True)
    block_mean = np.bincount(block, weights=errors) / sizes
    rejected = np.arange(len(errors) + 1)
    removed = np.concatenate([[0.0], np.cumsum(np.repeat(block_mean, sizes))])
    num_errors = errors.sum()
    return RejectionCurve(
        fraction_rejected=rejected / len(errors),
        error=np.clip(num_errors - removed, 0, None) / len(errors),  # the cumulative sum ends within rounding of 0
        oracle_error=np.clip(num_errors - rejected, 0, None) / len(errors),
    )
