"""Cross-entropy: SciPy as the oracle, extremes, shapes, training."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from scipy.special import log_softmax

from end2_tf.errors import ShapeError
from end2_tf.losses import CrossEntropy

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(8, 5)).astype(np.float32)
LABELS = RNG.integers(5, size=8)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_golden_values(dtype):
    want = -log_softmax(LOGITS, axis=-1)[np.arange(8), LABELS]
    assert_allclose(CrossEntropy(reduction=None)(LABELS.astype(dtype), LOGITS), want, rtol=1e-5)
    assert_allclose(CrossEntropy()(LABELS.astype(dtype), LOGITS), want.mean(), rtol=1e-5)
    assert_allclose(CrossEntropy(dtype="float64")(LABELS, LOGITS.astype(np.float64)), want.mean(), rtol=1e-6)


def test_extreme_logits():
    logits = tf.Variable([[1e4, 0.0, -1e4]] * 3)
    with tf.GradientTape() as tape:
        values = CrossEntropy(reduction=None)(np.arange(3), logits)
    assert_allclose(values, [0, 1e4, 2e4])
    assert np.isfinite(tape.gradient(values, logits)).all()


def test_config_round_trip():
    loss = CrossEntropy(name="mine", reduction="sum")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert isinstance(copy, CrossEntropy)
    assert copy.get_config() == loss.get_config() == {"name": "mine", "reduction": "sum"}


def test_distributions_of_labels_give_the_mean_over_labels():
    rows = np.eye(5, dtype=np.float32)
    one_hot = CrossEntropy(reduction=None)(rows[LABELS], LOGITS)
    np.testing.assert_allclose(one_hot, CrossEntropy(reduction=None)(LABELS, LOGITS), rtol=1e-6)
    other = (LABELS + 1) % 5
    mixed = CrossEntropy(reduction=None)(0.3 * rows[LABELS] + 0.7 * rows[other], LOGITS)
    expected = 0.3 * CrossEntropy(reduction=None)(LABELS, LOGITS) + 0.7 * CrossEntropy(reduction=None)(other, LOGITS)
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)


def test_labels_of_shape_batch_1_are_labels():
    loss = CrossEntropy(reduction=None)
    np.testing.assert_array_equal(loss(LABELS[:, None], LOGITS), loss(LABELS, LOGITS))


def test_shape_errors():
    with pytest.raises(ShapeError, match=r"y_true of shape \(8, 5, 1\) .* probabilities \(batch, classes\)"):
        CrossEntropy()(np.eye(5)[LABELS][..., None], LOGITS)
    with pytest.raises(ShapeError, match=r"y_true of shape \(8, 4\) and y_pred of shape \(8, 5\)"):
        CrossEntropy()(np.eye(4)[LABELS % 4], LOGITS)
    with pytest.raises(ShapeError, match=r"y_pred of shape \(5,\). Allowed: labels \(batch,\) or"):
        CrossEntropy()(LABELS, LOGITS[0])
