"""How well uncertainty separates a positive class: wrong predictions, or out-of-distribution inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from end2_tf.errors import ConfigError, DataError, unknown
from end2_tf.measures import MEASURES
from end2_tf.metrics import checks


def auroc(positive: Any, scores: Any) -> float:
    """Returns the probability that a positive scores above a negative; ties count half.

    Args:
        positive: Whether each input belongs to the positive class, (n,).
        scores: Uncertainties, (n,); may be infinite.

    Returns:
        A fraction in [0, 1]; NaN if there is one class only.

    Raises:
        ShapeError, DataError: as `checks.flags_and_scores`.
    """
    positive, ranks = _ranked(positive, scores)
    return float(roc_auc_score(positive, ranks)) if _has_both(positive) else float("nan")


def average_precision(positive: Any, scores: Any) -> float:
    """Returns the area under the precision-recall steps (AUPR), without interpolation.

    It grows with the share of positives, so compare it on one set of labels only. Arguments and errors as for `auroc`.

    Returns:
        A fraction in [0, 1]; NaN if there is one class only.
    """
    positive, ranks = _ranked(positive, scores)
    return float(average_precision_score(positive, ranks)) if _has_both(positive) else float("nan")


def false_positive_rate_at(positive: Any, scores: Any, true_positive_rate: float = 0.95) -> float:
    """Returns the share of negatives flagged by the highest threshold that catches enough of the positives.

    At 0.95 with OOD as the positive class this is FPR95. Many papers take in-domain as positive: a different number.

    Args:
        positive: Whether each input belongs to the positive class, (n,).
        scores: Uncertainties, (n,); may be infinite. An input is flagged at or above the threshold.
        true_positive_rate: Share of positives to catch, in (0, 1].

    Returns:
        A fraction in [0, 1]; NaN if there is one class only.

    Raises:
        ShapeError, DataError: as `checks.flags_and_scores`.
        ConfigError: `true_positive_rate` is out of range.
    """
    if not 0 < true_positive_rate <= 1:
        raise ConfigError(f"true_positive_rate is {true_positive_rate}. Allowed: above 0, at most 1. 0.95 is common.")
    positive, ranks = _ranked(positive, scores)
    if not _has_both(positive):
        return float("nan")
    false_rates, true_rates, _ = roc_curve(positive, ranks, drop_intermediate=False)
    return float(false_rates[np.argmax(true_rates >= true_positive_rate)])


def out_of_distribution(in_scores: Mapping[str, Any], out_scores: Mapping[str, Any]) -> dict[str, float]:
    """Returns how well each uncertainty measure tells OOD inputs, the positive class, from in-domain ones.

    Args:
        in_scores: Measures of in-domain inputs by name, (n,) each, as `end2_tf.uncertainty` returns them: `max_prob`
            and `alpha0`, which fall with uncertainty, are negated here. `probs` is ignored.
        out_scores: The same measures of OOD inputs, (m,) each.

    Returns:
        `ood_auroc_<column>`, `ood_aupr_<column>`, `ood_fpr95_<column>` for each measure, with the columns of
        `end2_tf.measures.MEASURES`; fractions.

    Raises:
        ConfigError: a name is no measure.
        DataError: the two have different measures, or scores are NaN.
        ShapeError: scores aren't one-dimensional and non-empty.
    """
    names = [name for name in in_scores if name != "probs"]
    for name in names:
        if name not in MEASURES:
            raise ConfigError(unknown("in_scores", name, "a measure", MEASURES))
    if set(names) != set(out_scores) - {"probs"}:
        odd = sorted(set(names) ^ (set(out_scores) - {"probs"}))
        raise DataError(f"in_scores and out_scores differ in {', '.join(map(repr, odd))}. Give both the same measures.")
    metrics = {}
    for name, (column, sign, _) in MEASURES.items():
        if name not in names:
            continue
        inside, outside = checks.vector(in_scores[name], name), checks.vector(out_scores[name], name)
        scores = sign * np.concatenate([inside, outside])
        positive = np.repeat([False, True], [len(inside), len(outside)])
        metrics[f"ood_auroc_{column}"] = auroc(positive, scores)
        metrics[f"ood_aupr_{column}"] = average_precision(positive, scores)
        metrics[f"ood_fpr95_{column}"] = false_positive_rate_at(positive, scores)
    return metrics


def _ranked(positive: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the checked flags and the scores' ranks, which keep order and ties but are finite."""
    positive, scores = checks.flags_and_scores(positive, scores, "positive")
    return positive, rankdata(scores, method="dense")


def _has_both(positive: np.ndarray) -> bool:
    return bool(positive.any() and not positive.all())
