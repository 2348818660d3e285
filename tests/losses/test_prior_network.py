from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from scipy.special import digamma, gammaln, polygamma

from end2_tf.errors import ConfigError, ShapeError
from end2_tf.losses import PriorNetwork

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)) * 2
LABELS = np.array([0, 3, -1, 2, -1, 1])


def kl(first, second):
    """KL(Dir ‖ Dir) by its textbook formula."""
    a0, b0 = first.sum(-1), second.sum(-1)
    normalisers = gammaln(a0) - gammaln(first).sum(-1) - gammaln(b0) + gammaln(second).sum(-1)
    return normalisers + ((first - second) * (digamma(first) - digamma(a0)[..., None])).sum(-1)


def targets_of(labels, concentration):
    return 1 + concentration * (labels[:, None] == np.arange(4))


@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_divergences_are_scipys(direction, offset):
    alphas, betas = np.exp(LOGITS) + offset, targets_of(LABELS, 50.0)
    expected = (kl(alphas, betas) if direction == "reverse" else kl(betas, alphas)) / 50
    expected[LABELS < 0] *= 0.3
    loss = PriorNetwork(direction=direction, concentration=50.0, outside_weight=0.3, offset=offset, reduction=None)
    assert_allclose(loss(LABELS, LOGITS), expected, rtol=1e-10)


@pytest.mark.parametrize("student", [LOGITS, np.zeros_like(LOGITS)])  # 0 as at the start, where alphas are targets
def test_gradient_is_the_published_one(student):
    logits = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = PriorNetwork(reduction="sum")(LABELS, logits)
    alphas, betas = np.exp(student), targets_of(LABELS, 100.0)
    of_alphas = (alphas - betas) * polygamma(1, alphas)
    of_alphas -= ((alphas - betas).sum(1) * polygamma(1, alphas.sum(1)))[:, None]
    assert_allclose(tape.gradient(value, logits), of_alphas * alphas / 100, rtol=1e-9, atol=1e-12)


def test_rows_are_labels_and_zeros_are_outside():
    loss = PriorNetwork(reduction=None)
    rows = (LABELS[:, None] == np.arange(4)).astype(np.float32)
    assert_allclose(loss(rows, LOGITS), loss(LABELS, LOGITS), rtol=1e-12)
    assert_allclose(loss(LABELS[:, None], LOGITS), loss(LABELS, LOGITS), rtol=1e-12)
    mixed = loss(np.array([[0.25, 0.75, 0, 0]]), np.log([[26.0, 76.0, 1.0, 1.0]]))
    assert_allclose(mixed, [0], atol=1e-12)


def test_the_optimum_is_the_target_and_extreme_logits_have_a_gradient():
    loss = PriorNetwork(reduction=None)
    assert_allclose(loss(np.array([1, -1]), np.log([[1.0, 101.0], [1.0, 1.0]])), [0, 0], atol=1e-12)
    for scale in (-1e4, 1e4):
        for direction in ("reverse", "forward"):
            logits = tf.Variable(np.eye(3) * scale)
            with tf.GradientTape() as tape:
                values = PriorNetwork(direction=direction, reduction=None)(np.array([0, 2, -1]), logits)
            assert np.isfinite(values).all()
            assert np.isfinite(tape.gradient(values, logits)).all()


def test_config_round_trip():
    loss = PriorNetwork(direction="forward", concentration=10.0, outside_weight=2.0, offset=1.0)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert isinstance(copy, PriorNetwork)
    assert copy.get_config() == loss.get_config()


def test_errors():
    with pytest.raises(ConfigError, match=r"PriorNetwork's direction .*'backward'.*forward"):
        PriorNetwork(direction="backward")
    with pytest.raises(ConfigError, match=r"PriorNetwork's concentration is 0.0. Allowed: above 0"):
        PriorNetwork(concentration=0.0)
    assert PriorNetwork(concentration=0.5).concentration == 0.5
    for name in ("outside_weight", "offset"):
        with pytest.raises(ConfigError, match=f"PriorNetwork's {name} is -0.1. Allowed: at least 0"):
            PriorNetwork(**{name: -0.1})
    with pytest.raises(ConfigError, match=r"PriorNetwork's outside_weight is nan"):
        PriorNetwork(outside_weight=float("nan"))
    with pytest.raises(ShapeError, match=r"-1 outside, or rows \(batch, classes\)"):
        PriorNetwork()(LABELS[:, None, None], LOGITS)
    with pytest.raises(ShapeError, match=r"y_true of shape \(\d+, 3\) and y_pred of shape \(\d+, 4\)"):
        PriorNetwork()(np.zeros((len(LABELS), 3)), LOGITS)
