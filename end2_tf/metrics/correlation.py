"""How far two models order inputs alike by uncertainty."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from end2_tf.errors import ShapeError
from end2_tf.metrics import checks


def rank_correlation(a: Any, b: Any) -> float:
    """Returns Spearman's rank correlation, in [-1, 1]; ties share their mean rank.

    Args:
        a: One model's uncertainties, (n,); may be infinite.
        b: The other's, for the same inputs, (n,).

    Returns:
        NaN if either is constant.

    Raises:
        ShapeError: lengths differ, or the arrays aren't one-dimensional and non-empty.
        DataError: a value is NaN.
    """
    a, b = checks.vector(a, "a"), checks.vector(b, "b")
    if a.shape != b.shape:
        raise ShapeError(f"a has {len(a)} values and b has {len(b)}. Allowed: one each for the same inputs.")
    if np.all(a == a[0]) or np.all(b == b[0]):
        return float("nan")
    return float(spearmanr(a, b).statistic)
