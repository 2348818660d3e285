"""How well uncertainty separates a positive class: wrong predictions, or out-of-distribution inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

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
    return area_under_roc(operating_points(positive, scores))


def average_precision(positive: Any, scores: Any) -> float:
    """Returns the area under the precision-recall steps (AUPR), without interpolation.

    It grows with the share of positives, so compare it on one set of labels only. Arguments and errors as for `auroc`.

    Returns:
        A fraction in [0, 1]; NaN if there is one class only.
    """
    return area_under_precision(operating_points(positive, scores))


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
    return _false_rate(operating_points(positive, scores), true_positive_rate)


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
        points = operating_points(positive, scores)  # once for three metrics: sorting is nearly all of the time
        metrics[f"ood_auroc_{column}"] = area_under_roc(points)
        metrics[f"ood_aupr_{column}"] = area_under_precision(points)
        metrics[f"ood_fpr95_{column}"] = _false_rate(points, 0.95)
    return metrics


class OperatingPoints(NamedTuple):
    """How many inputs are flagged at or above each distinct score, the highest first: (thresholds,) each."""

    positives: np.ndarray
    negatives: np.ndarray

    @property
    def has_both(self) -> bool:
        return bool(self.positives[-1] and self.negatives[-1])


def operating_points(positive: Any, scores: Any, name: str = "positive") -> OperatingPoints:
    """Returns what all metrics of detection are made of; as for `auroc`, with the name of the flags for messages."""
    positive, scores = checks.flags_and_scores(positive, scores, name)
    rising = np.argsort(scores)  # of equal scores any order will do: they are flagged together
    ordered = scores[rising]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    below = np.concatenate([[0], np.cumsum(positive[rising])])
    positives = (below[-1] - below[starts])[::-1]
    return OperatingPoints(positives, (len(scores) - starts)[::-1] - positives)


def area_under_roc(points: OperatingPoints) -> float:
    """Returns the area under straight lines between the points: ties count half. NaN if there is one class only."""
    if not points.has_both:
        return float("nan")
    heights = points.positives + np.concatenate([[0], points.positives[:-1]])
    twice = int(np.dot(np.diff(points.negatives, prepend=0), heights))  # in integers, so that it is exact
    return twice / (2 * int(points.positives[-1]) * int(points.negatives[-1]))


def area_under_precision(points: OperatingPoints) -> float:
    """Returns the sum of precision over steps of recall; NaN if there is one class only."""
    if not points.has_both:
        return float("nan")
    precision = points.positives / (points.positives + points.negatives)
    return float(np.dot(np.diff(points.positives, prepend=0), precision) / points.positives[-1])


def _false_rate(points: OperatingPoints, true_positive_rate: float) -> float:
    if not points.has_both:
        return float("nan")
    first = np.argmax(points.positives / points.positives[-1] >= true_positive_rate)
    return float(points.negatives[first] / points.negatives[-1])
