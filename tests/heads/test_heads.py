"""Heads: golden measures, extreme logits, precision under mixed policies, functional models, saving."""

from __future__ import annotations

import doctest
import importlib
import json
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

from end2_tf import heads, registry
from end2_tf.errors import ConfigError, ShapeError
from end2_tf.heads import DirichletHead, HydraHead, LogitGaussianHead, SoftmaxHead
from end2_tf.models import UncertaintyClassifier

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden.json").read_text())["dirichlet"]
DIRICHLET_KEYS = ["alphas", "data_uncertainty", "knowledge_uncertainty", "logits", "probs", "total_uncertainty"]
MEASURES = ["total_uncertainty", "data_uncertainty", "knowledge_uncertainty"]
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


@pytest.mark.parametrize(
    ("head", "keys"),
    [
        (DirichletHead(1.0), DIRICHLET_KEYS),
        (SoftmaxHead(), SOFTMAX_KEYS),
        (HydraHead(5), [*MEASURES, "logits", "probs"]),
        (LogitGaussianHead(10), [*MEASURES, "logit_variance", "logits", "probs"]),
        (LogitGaussianHead(0), ["logit_variance", "logits", "probs", "total_uncertainty"]),
    ],
)
def test_functional_model_and_saving(head, keys, tmp_path):
    inputs = keras.Input((2,))
    outputs = head(keras.layers.Dense(head.num_outputs(3))(inputs))
    assert sorted(outputs) == sorted(keys)
    assert all(o.shape[-1] == 3 and o.shape[0] is None for k, o in outputs.items() if k not in MEASURES)
    assert all(outputs[k].shape == (None,) for k in MEASURES if k in outputs)
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


@pytest.mark.parametrize("head", [DirichletHead(), SoftmaxHead(), HydraHead(2), LogitGaussianHead(10)])
def test_eager_is_graph_is_xla(head):
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32) * 4
    eager = head(logits)
    for jit in (False, True):
        got = tf.function(head, jit_compile=jit)(tf.constant(logits))
        for key, value in eager.items():
            assert_allclose(got[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", registry.names("head"))
def test_docstring_examples(name):
    module = importlib.import_module(f"end2_tf.heads.{name}")
    assert doctest.testmod(module, extraglobs={"np": np}, optionflags=doctest.ELLIPSIS).failed == 0


def test_errors():
    with pytest.raises(ConfigError, match=r"DirichletHead's offset is -1.0. Allowed: at least 0"):
        DirichletHead(-1.0)
    with pytest.raises(ConfigError, match=r"computes in float16, which can't hold alphas. Allowed: float32, float64"):
        DirichletHead(dtype="mixed_float16")
    with pytest.raises(ShapeError, match=r"DirichletHead got logits of shape \(2, 3, 4\). Allowed: \(batch, classes\)"):
        DirichletHead()(np.zeros((2, 3, 4)))
    with pytest.raises(ShapeError, match=r"SoftmaxHead got logits of shape \(None, 1\)"):
        SoftmaxHead()(keras.Input((1,)))
    with pytest.raises(
        ShapeError, match=r"HydraHead got logits of shape \(2, 7\). .* a dense layer of heads · classes"
    ):
        HydraHead(3)(np.zeros((2, 7)))
    with pytest.raises(ShapeError, match=r"LogitGaussianHead got logits of shape \(2, 5\). .* two units a class"):
        LogitGaussianHead()(np.zeros((2, 5)))
    with pytest.raises(ConfigError, match=r"draws is 7. Allowed: an even number, or 0"):
        LogitGaussianHead(7)
    with pytest.raises(ConfigError, match=r"num_heads is 0. Allowed: at least 1"):
        HydraHead(0)
    with pytest.raises(AttributeError, match=r"end2_tf.heads has no 'HydraHeads'. Did you mean 'HydraHead'"):
        heads.HydraHeads  # noqa: B018


# Conformance: what a head says of its distribution, against 100,000 draws from it.

SAMPLES = 100_000


def drawn(head, outputs, rng):
    """Returns 100,000 predictions of one input, as logits (samples, classes), drawn from what the outputs describe."""
    if isinstance(head, DirichletHead):
        with np.errstate(divide="ignore"):  # an alpha far below 1 draws 0: a logit of -inf
            return np.log(rng.dirichlet(outputs["alphas"], SAMPLES))
    if isinstance(head, HydraHead):
        return outputs["logits"][rng.integers(0, head.num_heads, SAMPLES)]
    return outputs["logits"] + np.sqrt(outputs["logit_variance"]) * rng.standard_normal((SAMPLES, 4))


def sampled(logits):
    """Returns measures of drawn predictions, each with its standard error."""
    probs = softmax(logits, axis=1)
    mean = probs.mean(0)
    entropies = -np.sum(probs * np.log(np.maximum(probs, 1e-300)), axis=1)
    total = -np.sum(mean * np.log(mean))
    divergences = np.sum(probs * (np.log(np.maximum(probs, 1e-300)) - np.log(mean)), axis=1)
    values = {
        "total_uncertainty": (total, (probs @ np.log(mean)).std()),
        "data_uncertainty": (entropies.mean(), entropies.std()),
        "knowledge_uncertainty": (divergences.mean(), divergences.std()),
        "max_prob": (mean.max(), probs[:, mean.argmax()].std()),
    }
    return {name: (value, sd / np.sqrt(SAMPLES)) for name, (value, sd) in values.items()}


@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("head", [DirichletHead(), DirichletHead(0.5), HydraHead(7), LogitGaussianHead(20_000)])
def test_measures_agree_with_samples_of_the_distribution(head, scale, seed):
    rng = np.random.default_rng(seed)
    raw = scale * rng.normal(size=(1, head.num_outputs(4)))
    outputs = {
        name: np.asarray(value)[0] for name, value in type(head)(**_own(head)).parameters(tf.constant(raw)).items()
    }
    got = head.measures({name: value[None] for name, value in outputs.items()})
    expected = sampled(drawn(head, outputs, rng))
    for name, (value, error) in expected.items():
        if isinstance(head, LogitGaussianHead):  # draws of its own
            error *= np.sqrt(1 + SAMPLES / head.draws)
        assert abs(float(got[name][0]) - value) <= 4 * error + 1e-9, name
    probs = softmax(drawn(head, outputs, rng), axis=1).mean(0)
    assert_allclose(got["probs"][0], probs, atol=0.02)
    log_probs = head.log_probs({name: tf.constant(value[None]) for name, value in outputs.items()})
    assert_allclose(np.exp(log_probs[0]), got["probs"][0], rtol=1e-9)


def _own(head):
    return {k: v for k, v in head.get_config().items() if k in ("offset", "num_heads", "draws")} | {"dtype": "float64"}


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_default_draws_and_the_probit_approximation_are_near_the_truth(spread):
    """Over 200 inputs: 100 balanced draws beat as many plain ones, and probit is about as good for the mean."""
    rng = np.random.default_rng(0)
    mean = 2 * rng.normal(size=(200, 5))
    raw = np.concatenate([mean, np.full_like(mean, 2 * np.log(spread))], axis=1)
    fine, few, probit = (LogitGaussianHead(draws, dtype="float64")(tf.constant(raw)) for draws in (20_000, 100, 0))
    for name in ("total_uncertainty", "data_uncertainty", "knowledge_uncertainty"):
        assert np.mean(np.abs(few[name] - fine[name])) < 0.03 * spread, name
    assert np.abs(few["probs"] - fine["probs"]).mean() < 0.01 * spread
    assert np.abs(probit["probs"] - fine["probs"]).mean() < 0.015 * spread


def test_float32_arrays_are_measured_in_chunks_as_tensors_are(monkeypatch):
    rng = np.random.default_rng(0)
    outputs = {"logits": rng.normal(size=(50, 3)), "logit_variance": rng.uniform(0, 2, (50, 3))}
    head = LogitGaussianHead(10)
    whole = head.measures({name: tf.constant(value) for name, value in outputs.items()})
    monkeypatch.setattr("end2_tf.heads.logit_gaussian._CHUNK_ELEMENTS", 10 * 3 * 7)
    got = head.measures(outputs)
    assert got["probs"].shape == (50, 3)
    for name, value in whole.items():
        assert_allclose(got[name], value, rtol=1e-12)
    assert head.measures({name: value[:0] for name, value in outputs.items()})["probs"].shape == (0, 3)


@pytest.mark.parametrize(
    "head", [DirichletHead(), DirichletHead(0.5), SoftmaxHead(), HydraHead(7), LogitGaussianHead(4000)]
)
def test_the_distribution_is_the_one_that_is_measured(head):
    """Samples of TensorFlow Probability's object have the head's measures; a softmax has but one prediction."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    model = UncertaintyClassifier(keras.Model(inputs, keras.layers.Dense(head.num_outputs(4))(inputs)), head)
    x = rng.normal(size=(5, 3)).astype(np.float32)
    got = model.predict_measures(x)
    distribution = model.predict_distribution(x)
    assert tuple(distribution.batch_shape) == (5,)
    assert tuple(distribution.event_shape) == (4,)
    samples = distribution.sample(20_000, seed=1).numpy()
    probs = softmax(samples, axis=-1) if isinstance(head, LogitGaussianHead) else samples
    assert_allclose(probs.sum(-1), 1, rtol=1e-5)
    assert_allclose(probs.mean(0), got["probs"], atol=0.015)
    entropies = -np.sum(probs * np.log(np.maximum(probs, 1e-30)), axis=-1).mean(0)
    assert_allclose(entropies, got.get("data_uncertainty", got["total_uncertainty"]), atol=0.02)
