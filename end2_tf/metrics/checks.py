"""What every metric asks of its arguments, and the messages where they don't fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from end2_tf.errors import ConfigError, DataError, ShapeError

_SUM_TOLERANCE = 1e-2  # how far a float16 softmax of thousands of classes may sum from 1


def labels_and_probs(labels: Any, probs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns integer labels (n,) and probabilities (n, classes) that fit each other.

    Raises:
        ShapeError: ranks or lengths differ from that, or there are no examples or classes.
        DataError: a label isn't a class, or `probs` aren't probabilities.
    """
    probs = np.asarray(probs)
    labels = fitting_labels(labels, probs, "probs")
    sums = np.einsum("nc->n", probs, dtype=np.float64, casting="unsafe")  # 3 times as fast as `sum` over few classes
    if not (probs.min() >= 0 and np.all(np.abs(sums - 1) <= _SUM_TOLERANCE)):  # NaN too
        row = int(np.argmin(np.all(probs >= 0, axis=-1) & (np.abs(sums - 1) <= _SUM_TOLERANCE)))
        raise DataError(
            f"probs[{row}] has smallest value {probs[row].min()} and sum {probs[row].sum()}. "
            "Allowed: at least 0, summing to 1. Pass softmax(logits)."
        )
    return labels, probs


def fitting_labels(labels: Any, rows: np.ndarray, name: str) -> np.ndarray:
    """Returns integer labels (n,) that name columns of `rows` (n, classes), which messages call `name`."""
    if rows.ndim != 2 or rows.size == 0:
        raise ShapeError(f"{name} have shape {rows.shape}. Allowed: (n, classes), with 1 example and 1 class or more.")
    labels = np.asarray(labels)
    if labels.shape != rows.shape[:1]:
        raise ShapeError(f"labels have shape {labels.shape}. Allowed: {rows.shape[:1]}, one for each row of {name}.")
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"labels have dtype {labels.dtype}. Allowed: integers, the index of the right class. Convert them."
        )
    wrong = (labels < 0) | (labels >= rows.shape[1])
    if np.any(wrong):
        index = int(np.argmax(wrong))
        raise DataError(
            f"labels[{index}] is {labels[index]}. Allowed: 0 to {rows.shape[1] - 1}, the columns of {name}."
        )
    return labels


def flags_and_scores(flags: Any, scores: Any, flags_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns booleans (n,), true for the positive class, and scores (n,); infinite scores are fine.

    Raises:
        ShapeError: the two aren't one-dimensional, of one length, and non-empty.
        DataError: a flag is neither 0 nor 1, or a score is NaN.
    """
    flags, scores = np.asarray(flags), vector(scores, "scores")
    if flags.shape != scores.shape:
        raise ShapeError(f"{flags_name} have shape {flags.shape}. Allowed: {scores.shape}, one for each score.")
    wrong = (flags != 0) & (flags != 1)
    if np.any(wrong):
        index = int(np.argmax(wrong))
        raise DataError(f"{flags_name}[{index}] is {flags[index]}. Allowed: 0 and 1, or False and True.")
    return flags.astype(bool), scores


def vector(values: Any, name: str) -> np.ndarray:
    """Returns `values` as a non-empty (n,) array without NaN."""
    values = np.asarray(values)
    if values.ndim != 1 or values.size == 0:
        raise ShapeError(f"{name} have shape {values.shape}. Allowed: (n,), with 1 example or more.")
    if values.dtype.kind not in "fiub":
        raise DataError(f"{name} have dtype {values.dtype}. Allowed: numbers. Convert them first.")
    is_nan = np.isnan(values)
    if np.any(is_nan):
        raise DataError(
            f"{name}[{int(np.argmax(is_nan))}] is nan, as are {int(is_nan.sum())} of {len(values)}. "
            "Allowed: numbers, infinite ones too. Check what computed them."
        )
    return values


def number_of_bins(num_bins: int) -> int:
    """Raises ConfigError unless `num_bins` is a whole number above 0."""
    if not isinstance(num_bins, int | np.integer) or num_bins < 1:
        raise ConfigError(f"num_bins is {num_bins!r}. Allowed: a whole number of 1 or more. 15 is common.")
    return int(num_bins)
