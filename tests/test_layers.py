"""A pooling that Keras lacks, and batch normalisation in one operation."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from end2_tf.layers import AveragePoolingTo, BatchNormalization


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


def _both(dtype="float32", **kwargs):
    """Keras' batch normalisation and ours, alike."""
    layers = [
        made(momentum=0.9, dtype=keras.DTypePolicy(dtype), **kwargs)
        for made in (keras.layers.BatchNormalization, BatchNormalization)
    ]
    rng = np.random.default_rng(1)
    weights = None
    for layer in layers:
        layer.build((None, 5, 4, 3))
        weights = [rng.uniform(0.5, 2, w.shape) for w in layer.weights] if weights is None else weights
        layer.set_weights(weights)
    return layers


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kwargs", [{}, {"center": False, "scale": False}, {"trainable": False}, {"epsilon": 1e-6}])
@pytest.mark.parametrize("shape", [(7, 5, 4, 3), (1, 1, 1, 3)])
def test_batch_normalisation_is_keras_own(kwargs, training, shape):
    x = tf.constant(np.random.default_rng(0).normal(2, 3, shape), tf.float32)
    results = []
    for layer in _both(**kwargs):

        @tf.function(autograph=False)
        def step(layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=training)
                loss = tf.reduce_sum(y**3)
            gradients = tape.gradient(loss, [x, *layer.trainable_variables])
            return [y, *gradients, *[tf.convert_to_tensor(w) for w in layer.weights]]

        results.append(step())
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-4 * max(1.0, np.abs(want).max()))


def test_batch_normalisation_in_bfloat16_has_float32_statistics():
    x = tf.constant(np.random.default_rng(0).normal(2, 3, (64, 5, 4, 3)), tf.float32)
    theirs, ours = _both("mixed_bfloat16")
    want, got = (layer(x, training=True) for layer in (theirs, ours))
    assert got.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(got, tf.float32), tf.cast(want, tf.float32), atol=0.05)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        assert a.dtype == "float32"
        np.testing.assert_allclose(a, b, rtol=1e-3)


@pytest.mark.parametrize("shape", [(7, 3), (7, 4, 3)])
def test_batch_normalisation_of_other_shapes_is_keras_own(shape):
    x = tf.constant(np.random.default_rng(0).normal(2, 3, shape), tf.float32)
    theirs, ours = keras.layers.BatchNormalization(synchronized=True), BatchNormalization()
    np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))


def test_batch_normalisation_is_one_operation_and_synchronised():
    layer = BatchNormalization()
    function = tf.function(lambda x: layer(x, training=True), [tf.TensorSpec((None, 8, 8, 3))], autograph=False)
    types = [op.type for op in function.get_concrete_function().graph.get_operations()]
    assert types.count("FusedBatchNormV3") == 1
    assert "Rsqrt" not in types
    assert layer.synchronized
    assert BatchNormalization.from_config(layer.get_config()).get_config() == layer.get_config()
