from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, log_loss

from end2_tf.errors import ConfigError, DataError, ShapeError
from end2_tf.metrics import (
    brier_score,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_curve,
)

FUNCTIONS = [error_rate, negative_log_likelihood, brier_score, reliability_curve, expected_calibration_error]


def predictions(seed, num_examples=50, num_classes=4):
    rng = np.random.default_rng(seed)
    return softmax(rng.normal(0, 3, (num_examples, num_classes)), -1), rng.integers(0, num_classes, num_examples)


def two_classes(confidence):
    confidence = np.asarray(confidence)
    return np.stack([confidence, 1 - confidence], -1)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_against_scikit_learn_and_the_definition(seed):
    probs, labels = predictions(seed)
    assert_allclose(error_rate(probs, labels), 1 - accuracy_score(labels, probs.argmax(-1)))
    assert_allclose(negative_log_likelihood(probs, labels), log_loss(labels, probs, labels=range(4)), rtol=1e-12)
    assert_allclose(brier_score(probs, labels), np.mean(np.sum((probs - np.eye(4)[labels]) ** 2, -1)), rtol=1e-12)


def test_worked_example():
    probs = [[0.5, 0.3, 0.2], [0.1, 0.9, 0.0]]
    assert error_rate(probs, [0, 2]) == 0.5
    assert negative_log_likelihood(probs, [0, 1]) == pytest.approx(0.39925384810888)  # (ln 2 + ln 10/9) / 2
    assert brier_score(probs, [0, 2]) == pytest.approx((0.38 + 1.82) / 2)


def test_likelihood_is_not_clipped():
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == np.inf
    assert negative_log_likelihood([[1 - 1e-300, 1e-300]], [1]) == pytest.approx(300 * np.log(10))
    log_probs = log_softmax(np.array([[900.0, 0.0]], np.float32), -1)
    assert negative_log_likelihood(log_probs, [1], are_logs=True) == 900


def test_log_probabilities_give_the_same_likelihood():
    probs, labels = predictions(0)
    got = negative_log_likelihood(np.log(probs), labels, are_logs=True)
    assert_allclose(got, negative_log_likelihood(probs, labels), rtol=1e-14)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_wrong_log_probabilities(value):
    with pytest.raises(DataError, match=r"log_probs\[1, 0\] is .*log_softmax"):
        negative_log_likelihood([[-1.0, -0.5], [value, -0.5]], [0, 0], are_logs=True)


def test_calibration_error_of_calibrated_predictions_vanishes():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 100_000)
    labels = (rng.random(100_000) > confidence).astype(int)
    assert expected_calibration_error(two_classes(confidence), labels, num_bins=15) < 0.01


def test_calibration_error_by_hand():
    # Ten bins: (.5, .6] holds .55 and .6, one of them right; (.9, 1] holds 1, wrong.
    probs, labels = two_classes([0.55, 0.6, 1.0]), [0, 1, 1]
    assert expected_calibration_error(probs, labels, 10) == pytest.approx(2 / 3 * 0.075 + 1 / 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_include_their_upper_edge(dtype):
    probs = np.array([[0.3, 0.3, 0.3, 0.1], [0.4, 0.2, 0.2, 0.2], [0.7, 0.1, 0.1, 0.1], [1, 0, 0, 0]], dtype)
    curve = reliability_curve(probs, [0, 0, 0, 0], num_bins=10)
    assert curve.num_examples.tolist() == [0, 0, 1, 1, 0, 0, 1, 0, 0, 1]
    assert_allclose(curve.lower, np.arange(10) / 10)
    assert_allclose(curve.upper, np.arange(1, 11) / 10)
    assert np.isnan(curve.accuracy[0])
    assert np.isnan(curve.confidence[0])
    assert_allclose(curve.confidence[[2, 3, 6, 9]], [0.3, 0.4, 0.7, 1], rtol=1e-6)


def test_the_least_confidence_is_in_the_first_bin():
    curve = reliability_curve(np.full((3, 20), 1 / 20), [0, 1, 2])
    assert curve.num_examples.tolist() == [3] + [0] * 14


def test_there_are_15_bins_by_default():
    probs, _ = predictions(1)
    labels = np.array([np.random.default_rng(i).choice(4, p=p) for i, p in enumerate(probs)])
    assert len(reliability_curve(probs, labels).num_examples) == 15
    default, others = expected_calibration_error(probs, labels), (14, 16)
    assert default == expected_calibration_error(probs, labels, 15)
    assert default not in [expected_calibration_error(probs, labels, num) for num in others]


def test_confidence_just_above_one_is_in_the_last_bin():
    probs = np.array([[1 + 1e-6, 0.0]], np.float32)
    assert reliability_curve(probs, [0], 5).num_examples.tolist() == [0, 0, 0, 0, 1]


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(deadline=None, max_examples=30)
def test_calibration_error_against_a_plain_loop(seed, num_bins):
    probs, labels = predictions(seed)
    confidence, correct = probs.max(-1), probs.argmax(-1) == labels
    want = 0.0
    for index in range(num_bins):
        inside = (confidence > index / num_bins) & (confidence <= (index + 1) / num_bins)
        want += abs(np.sum(correct[inside]) - np.sum(confidence[inside])) / len(labels)
    assert_allclose(expected_calibration_error(probs, labels, num_bins), want, atol=1e-12)


def test_one_bin_compares_the_means():
    probs, labels = predictions(3)
    gap = abs(np.mean(probs.argmax(-1) == labels) - probs.max(-1).mean())
    assert expected_calibration_error(probs, labels, 1) == pytest.approx(gap)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("probs", "labels", "kind", "message"),
    [
        ([0.5, 0.5], [0], ShapeError, r"probs have shape \(2,\)"),
        (np.zeros((0, 3)), [], ShapeError, r"probs have shape \(0, 3\)"),
        ([[0.5, 0.5]], [0, 1], ShapeError, r"labels have shape \(2,\)\. Allowed: \(1,\)"),
        ([[0.5, 0.5]], [0.0], DataError, "labels have dtype float64"),
        ([[0.5, 0.5]], [2], DataError, r"labels\[0\] is 2\. Allowed: 0 to 1"),
        ([[0.5, 0.5]], [-1], DataError, r"labels\[0\] is -1"),
        ([[0.5, 0.5], [2.0, -1.0]], [0, 0], DataError, r"probs\[1\] has smallest value -1\.0.*softmax"),
        ([[0.5, 0.1]], [0], DataError, r"probs\[0\] has .* sum 0\.6"),
        ([[np.nan, 0.1]], [0], DataError, r"probs\[0\] has smallest value nan"),
        (
            [[0.5, 0.5], [0.5, 0.5], [0.5, 0.9]],
            [0, 0, 0],
            DataError,
            r"probs\[2\] has smallest value 0\.5 and sum 1\.4",
        ),
    ],
)
def test_wrong_inputs(function, probs, labels, kind, message):
    with pytest.raises(kind, match=message):
        function(np.asarray(probs), np.asarray(labels, dtype=None if len(labels) else int))


@pytest.mark.parametrize("num_bins", [0, -3, 2.5, "15"])
def test_wrong_number_of_bins(num_bins):
    with pytest.raises(ConfigError, match="num_bins is"):
        expected_calibration_error([[0.5, 0.5]], [0], num_bins)
