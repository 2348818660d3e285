from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from end2_tf.errors import DataError, ShapeError
from end2_tf.metrics import prediction_rejection_ratio, rejection_curve

EXAMPLE_ERRORS = [1, 0, 1, 0, 0]
EXAMPLE_SCORES = [0.9, 0.8, 0.6, 0.4, 0.1]

# Few different scores make many ties.
pairs = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=60)


def test_worked_example():
    assert_allclose(prediction_rejection_ratio(EXAMPLE_ERRORS, EXAMPLE_SCORES), 200 / 3, rtol=1e-14)
    curve = rejection_curve(EXAMPLE_ERRORS, EXAMPLE_SCORES)
    assert_allclose(curve.fraction_rejected, [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert_allclose(curve.error, [0.4, 0.2, 0.2, 0, 0, 0], atol=1e-15)
    assert_allclose(curve.oracle_error, [0.4, 0.2, 0, 0, 0, 0], atol=1e-15)


def test_oracle_reversed_oracle_and_constant():
    errors = np.arange(100) < 17
    assert prediction_rejection_ratio(errors, errors) == 100
    assert prediction_rejection_ratio(errors, ~errors) == -100
    assert prediction_rejection_ratio(errors, np.ones(100)) == 0


def test_random_scores_are_near_zero():
    rng = np.random.default_rng(0)
    assert abs(prediction_rejection_ratio(rng.random(10_000) < 0.2, rng.random(10_000))) < 5


@given(pairs)
@settings(deadline=None)
def test_ratio_is_that_of_the_areas_and_of_auroc(examples):
    errors, scores = np.array(examples).T
    ratio = prediction_rejection_ratio(errors, scores)
    error = errors.mean()
    if error in (0, 1):
        assert np.isnan(ratio)
        return
    curve = rejection_curve(errors, scores)
    area = np.trapezoid(curve.error, curve.fraction_rejected)
    assert_allclose(ratio / 100, (error / 2 - area) / (error * (1 - error) / 2), atol=1e-12)
    assert_allclose(ratio / 100, 2 * roc_auc_score(errors, scores) - 1, atol=1e-12)
    oracle_area = np.trapezoid(curve.oracle_error, curve.fraction_rejected)
    assert_allclose(error / 2 - oracle_area, error * (1 - error) / 2, atol=1e-12)


@given(pairs, st.randoms())
@settings(deadline=None)
def test_order_of_examples_is_irrelevant_and_curves_fall(examples, random):
    shuffled = random.sample(examples, len(examples))
    curve = rejection_curve(*np.array(examples).T)
    for got, want in zip(rejection_curve(*np.array(shuffled).T), curve, strict=True):
        assert_allclose(got, want, atol=1e-12)
    assert np.all(np.diff(curve.error) <= 1e-12)
    assert np.all(curve.oracle_error <= curve.error + 1e-12)
    assert curve.error[-1] == pytest.approx(0, abs=1e-12)


def test_a_block_of_ties_falls_on_a_straight_line():
    curve = rejection_curve([1, 0, 0, 1], [5, 5, 5, 1])
    assert_allclose(curve.error, np.array([2, 5 / 3, 4 / 3, 1, 0]) / 4)


def test_no_remaining_error_is_below_0():
    rng = np.random.default_rng(1)  # means of its blocks add up to 2e-15 more than its errors
    curve = rejection_curve(rng.integers(0, 2, 30), rng.integers(0, 4, 30))
    assert curve.error.min() == 0


def test_infinite_scores_keep_their_order():
    assert_allclose(prediction_rejection_ratio(EXAMPLE_ERRORS, [np.inf, 8e307, 6, 4, -np.inf]), 200 / 3, rtol=1e-14)
    assert_allclose(rejection_curve([0, 1], [-np.inf, np.inf]).error, [0.5, 0, 0])


@pytest.mark.parametrize("function", [prediction_rejection_ratio, rejection_curve])
@pytest.mark.parametrize(
    ("errors", "scores", "kind", "message"),
    [
        ([0, 1], [0.1], ShapeError, r"errors have shape \(2,\)\. Allowed: \(1,\)"),
        ([], [], ShapeError, r"scores have shape \(0,\)"),
        ([[0, 1]], [[0.1, 0.2]], ShapeError, r"scores have shape \(1, 2\)"),
        ([0, 2], [0.1, 0.2], DataError, r"errors\[1\] is 2\. Allowed: 0 and 1"),
        ([0, 1], [0.1, np.nan], DataError, r"scores\[1\] is nan, as are 1 of 2"),
        ([0, 1], ["a", "b"], DataError, "scores have dtype"),
    ],
)
def test_wrong_inputs(function, errors, scores, kind, message):
    with pytest.raises(kind, match=message):
        function(errors, scores)
