from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from end2_tf.errors import DataError, ShapeError
from end2_tf.metrics import rank_correlation


def test_by_hand():
    # Spearman's 1 - 6 Σ d² / (n (n² - 1)) with d = (0, 1, 1, 0).
    assert_allclose(rank_correlation([1, 2, 3, 4], [10, 30, 20, 40]), 1 - 6 * 2 / (4 * 15))


def test_only_ranks_matter():
    a = np.random.default_rng(0).normal(size=200)
    assert_allclose(rank_correlation(a, np.exp(5 * a)), 1)
    assert_allclose(rank_correlation(a, -(a**3)), -1)
    assert_allclose(rank_correlation([1, 2, 3], [-np.inf, 0, np.inf]), 1)


def test_ties_share_their_mean_rank():
    assert_allclose(rank_correlation([1, 1, 2], [1, 2, 3]), np.corrcoef([1.5, 1.5, 3], [1, 2, 3])[0, 1])


@pytest.mark.parametrize("constant", [[2.0, 2.0, 2.0], [np.inf] * 3])
def test_constants_give_nan_and_no_warning(constant, recwarn):
    assert np.isnan(rank_correlation(constant, [1, 2, 3]))
    assert np.isnan(rank_correlation([1, 2, 3], constant))
    assert np.isnan(rank_correlation([1.0], [2.0]))
    assert not list(recwarn)


@pytest.mark.parametrize(
    ("a", "b", "kind", "message"),
    [
        ([1, 2], [1, 2, 3], ShapeError, "a has 2 values and b has 3"),
        ([1, np.nan], [1, 2], DataError, r"a\[1\] is nan"),
        ([1, 2], [[1, 2]], ShapeError, r"b have shape \(1, 2\)"),
    ],
)
def test_wrong_inputs(a, b, kind, message):
    with pytest.raises(kind, match=message):
        rank_correlation(a, b)
