from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.stats import entropy

from end2_tf.errors import DataError, ShapeError
from end2_tf.metrics import mean_kl


def test_by_hand():
    # 1/2 ln(.5/.25) + 1/2 ln(.5/.75), and 0 for equal rows
    assert_allclose(mean_kl([[0.5, 0.5], [0.1, 0.9]], [[0.25, 0.75], [0.1, 0.9]]), 0.5 * 0.5 * math.log(4 / 3))


@given(arrays(np.float64, (2, 6, 4), elements=st.floats(1e-3, 1)))
def test_is_scipys_mean(values):
    p, q = values / values.sum(-1, keepdims=True)
    assert_allclose(mean_kl(p, q), np.mean(entropy(p, q, axis=1)), atol=1e-12)
    assert mean_kl(p, q) >= -1e-12


def test_zeros_are_finite():
    assert mean_kl([[0.0, 1.0]], [[0.5, 0.5]]) == pytest.approx(math.log(2))
    assert mean_kl([[0.5, 0.5]], [[0.0, 1.0]]) == pytest.approx(
        0.5 * math.log(0.5 / 1.1754943508222875e-38) - 0.3465736
    )
    assert mean_kl([[1e-45, 1.0]], [[0.0, 1.0]]) == pytest.approx(0, abs=1e-40)


@pytest.mark.parametrize(
    ("reference", "probs", "error", "message"),
    [
        ([[0.5, 0.5]], [[1.0]], ShapeError, r"reference has shape \(1, 2\) and probs \(1, 1\)"),
        ([0.5, 0.5], [0.5, 0.5], ShapeError, r"Allowed: \(n, classes\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), ShapeError, "with 1 example and 1 class or more"),
        ([[np.nan, 1.0]], [[0.5, 0.5]], DataError, "reference has a value of nan"),
        ([[0.5, 0.5, 0.0]], [[0.0, -0.5, 1.5]], DataError, r"probs has a value of -0\.5\. Allowed: 0 or more"),
    ],
)
def test_wrong_inputs(reference, probs, error, message):
    with pytest.raises(error, match=message):
        mean_kl(reference, probs)
