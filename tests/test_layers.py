"""Heads: golden measures, extreme logits, precision under mixed policies, functional models, saving."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.special import digamma, softmax

from end2_tf import layers
from end2_tf.errors import ConfigError, ShapeError
from end2_tf.layers import AveragePoolingTo, DirichletHead, SoftmaxHead

GOLDEN = json.loads((Path(__file__).parent / "golden" / "golden.json").read_text())["dirichlet"]
DIRICHLET_KEYS = ["alphas", "data_uncertainty", "knowledge_uncertainty", "logits", "probs", "total_uncertainty"]
SOFTMAX_KEYS = ["logits", "probs", "total_uncertainty"]


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("key", GOLDEN)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [("float32", 2e-5, 5e-6), ("float64", 1e-11, 1e-14)])
def test_golden_measures(key, dtype, rtol, atol):
    golden = GOLDEN[key]
    alphas = np.array(golden["alphas"], np.float64)
    got = DirichletHead(dtype=dtype)(np.log(alphas)[None])
    assert_allclose(got["alphas"][0], alphas, rtol=rtol)
    assert_allclose(got["probs"][0], alphas / alphas.sum(), rtol=rtol)
    for name in ("total", "data", "knowledge"):
        assert_allclose(got[f"{name}_uncertainty"][0], float(golden[name]), rtol=rtol, atol=atol)


def test_offset_golden_measures():
    alphas = np.array([[2.0, 3.0, 5.0]])
    got = DirichletHead(offset=1.0, dtype="float64")(np.log(alphas - 1))
    assert_allclose(got["alphas"], alphas, rtol=1e-12)
    assert_allclose(got["probs"], alphas / 10, rtol=1e-12)
    data = digamma(11) - (alphas / 10 * digamma(alphas + 1)).sum()
    assert_allclose(got["data_uncertainty"], [data], rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(arrays(np.float32, (8, 4), elements=st.floats(-50, 50, width=32)))
def test_probs_without_offset_are_the_softmax(logits):
    got = DirichletHead()(logits)
    assert_allclose(got["probs"], softmax(logits, axis=-1), rtol=1e-5, atol=1e-30)
    assert_allclose(got["probs"], SoftmaxHead()(logits)["probs"], rtol=1e-6)
    shifted = DirichletHead()(logits + np.float32(2))  # adds precision, leaves the mean
    assert_allclose(shifted["alphas"], got["alphas"] * np.float32(np.exp(2)), rtol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 80, 89, 200, 1e4, 3e38])
def test_any_finite_logits_give_finite_results(offset, dtype, size):
    logits = np.array([[size, 0, -size], [size, size, size], [-size, -size, -size], [size, -size, -size]])
    variable = tf.Variable(logits, dtype=dtype)
    with tf.GradientTape() as tape:
        got = DirichletHead(offset, dtype=dtype)(variable)
        total = sum(tf.reduce_sum(got[key]) for key in DIRICHLET_KEYS if key != "alphas")
    for value in [*got.values(), tape.gradient(total, variable)]:
        assert np.isfinite(value).all()
    assert (got["knowledge_uncertainty"].numpy() >= 0).all()
    assert (got["alphas"].numpy() > 0).all()


def test_large_logits_keep_their_mean():
    """As after an annealing that was cut short: at a temperature of 20, logits are above 100."""
    got = DirichletHead()(np.array([[117.0, 115.0, 110.0]], np.float32))
    mean = softmax([117.0, 115.0, 110.0])
    assert_allclose(got["probs"][0], mean, rtol=1e-5)
    assert_allclose(got["alphas"][0] / np.sum(got["alphas"][0]), mean, rtol=1e-5)
    assert_allclose(got["total_uncertainty"][0], -(mean * np.log(mean)).sum(), rtol=1e-5)


def test_ten_thousand_classes():
    got = DirichletHead()(np.full((1, 10_000), 1e4, np.float32))
    assert np.isfinite(got["alphas"]).all()
    assert_allclose(got["total_uncertainty"], np.log(10_000), rtol=1e-5)


def test_softmax_head_golden():
    got = SoftmaxHead()(np.log([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]))
    assert_allclose(got["total_uncertainty"], [1.5 * np.log(2), np.log(3)], rtol=1e-6)
    assert np.isfinite(SoftmaxHead()(np.array([[1e4, 0, -1e4]]))["total_uncertainty"]).all()


@pytest.mark.parametrize(("head", "keys"), [(DirichletHead(1.0), DIRICHLET_KEYS), (SoftmaxHead(), SOFTMAX_KEYS)])
def test_functional_model_and_saving(head, keys, tmp_path):
    inputs = keras.Input((2,))
    outputs = head(keras.layers.Dense(3)(inputs))
    assert sorted(outputs) == keys
    per_class = {"probs", "alphas", "logits"}
    assert all(o.shape == ((None, 3) if k in per_class else (None,)) for k, o in outputs.items())
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].get_config() == head.get_config()
    want, got = model.predict(x, verbose=0), loaded.predict(x, verbose=0)
    for key in keys:
        assert want[key].shape == (5, *outputs[key].shape[1:])
        assert_allclose(got[key], want[key], rtol=1e-6)


@pytest.mark.parametrize("head", [DirichletHead, SoftmaxHead])
def test_float32_under_mixed_precision(head, mixed_precision):
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(3)
    model = keras.Model(inputs, head()(dense(inputs)))
    assert dense.compute_dtype == "float16"
    got = model(np.array([[20.0, -7.0]]))
    assert {str(keras.backend.standardize_dtype(v.dtype)) for v in got.values()} == {"float32"}
    got = head()(np.array([[14.0, 12.0, 0.0]], np.float16))  # exp(14) is beyond float16
    assert all(np.isfinite(v).all() for v in got.values())


@pytest.mark.parametrize("head", [DirichletHead(), SoftmaxHead()])
def test_eager_is_graph_is_xla(head):
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32) * 4
    eager = head(logits)
    for jit in (False, True):
        got = tf.function(head, jit_compile=jit)(tf.constant(logits))
        for key, value in eager.items():
            assert_allclose(got[key], value, rtol=1e-4, atol=1e-6)


def test_docstring_examples():
    results = doctest.testmod(layers, extraglobs={"np": np}, optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0


def test_errors():
    with pytest.raises(ConfigError, match=r"DirichletHead's offset is -1.0. Allowed: at least 0"):
        DirichletHead(-1.0)
    with pytest.raises(ConfigError, match=r"computes in float16, which can't hold alphas. Allowed: float32, float64"):
        DirichletHead(dtype="mixed_float16")
    with pytest.raises(ShapeError, match=r"DirichletHead got logits of shape \(2, 3, 4\). Allowed: \(batch, classes\)"):
        DirichletHead()(np.zeros((2, 3, 4)))
    with pytest.raises(ShapeError, match=r"SoftmaxHead got logits of shape \(None, 1\)"):
        SoftmaxHead()(keras.Input((1,)))


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
