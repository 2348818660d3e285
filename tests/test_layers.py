"""A pooling that Keras lacks."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from end2_tf.layers import AveragePoolingTo


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 14])
def test_average_pooling_to_averages_the_bins_of_pytorch(length):
    """Also inside a graph, with gradients, where Keras' own layer can't enlarge a map."""
    x = np.random.default_rng(0).normal(size=(2, length, length + 1, 3)).astype(np.float32)
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, AveragePoolingTo(7)(inputs))
    expected = np.empty((2, 7, 7, 3))
    for i, j in np.ndindex(7, 7):
        rows = slice(i * length // 7, math.ceil((i + 1) * length / 7))
        columns = slice(j * (length + 1) // 7, math.ceil((j + 1) * (length + 1) / 7))
        expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-6)
    gradient = tf.function(lambda v: tf.gradients(tf.reduce_sum(model(v)), v)[0])(tf.constant(x))
    np.testing.assert_allclose(tf.reduce_sum(gradient), expected.size, rtol=1e-5)
