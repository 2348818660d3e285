"""Every loss, head, measure and metric, found by listing, on inputs of any size: finite or refused, identities kept."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import softmax

from end2_tf import dirichlet, heads, losses, metrics, registry, uncertainty
from end2_tf.errors import DataError, End2Error

# The same examples every time, so that a failure is the code's and not the day's.
few = settings(derandomize=True, database=None, deadline=None, max_examples=12)

# Numbers at which something changes: the bounds of losses and heads, what exp and float16 can hold, ties.
EDGES = [0.0, 1.0, -1.0, 1e-8, 11.0, 30.0, -30.0, 60.0, 88.8, -104.0, 709.9, -745.2, 1e4, -1e4]
any_logit = st.one_of(st.sampled_from(EDGES), st.floats(-1e4, 1e4))
any_alpha = st.one_of(st.sampled_from([1e-8, 1e-3, 1.0, 4.0, 8.0, 1e8]), st.floats(-8, 8).map(lambda x: 10.0**x))
BATCH, MEMBERS, CLASSES = 4, 3, 3
LOSSES, HEADS = registry.names("loss"), registry.names("head")
HALF = [tf.float16, tf.bfloat16]


def of(cls, **options):
    """Builds a loss or a head that may ask for the number of members."""
    parameters = inspect.signature(cls).parameters
    sizes = {name: MEMBERS for name in ("num_members", "num_heads") if name in parameters}
    needed = {name: size for name, size in sizes.items() if parameters[name].default is inspect.Parameter.empty}
    return cls(**needed, **options)


def loss_of(name):
    return of(getattr(losses, registry.class_name(name)), reduction=None)


def head_of(name, **options):
    return of(getattr(heads, f"{registry.class_name(name)}Head"), **options)


def student_shape(loss, num_classes=CLASSES):
    """Returns the shape of one example's outputs in training."""
    if hasattr(loss, "training_network"):
        network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(num_classes)])
        return loss.training_network(network).output_shape[1:]
    return (loss.make_head().num_outputs(num_classes) if hasattr(loss, "make_head") else num_classes,)


def targets_of(name, batch=BATCH, members=MEMBERS, num_classes=CLASSES):
    """Returns a strategy for what a loss compares with."""
    if registry.is_on_labels(name):
        return arrays(np.int64, batch, elements=st.integers(-1 if registry.knows_outside(name) else 0, num_classes - 1))
    return arrays(np.float64, (batch, members, num_classes), elements=any_logit)


def value_and_gradient(loss, targets, outputs):
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        value = loss(targets, outputs)
    return value, tape.gradient(value, outputs)


# Losses

# What a loss says of its smallest value, of targets (batch, members, classes); those that aren't here have none.
LEAST = {
    "hydra": lambda members: 0.0,
    "proxy_forward_kl": lambda members: 0.0,
    "proxy_reverse_kl": lambda members: 0.0,
    "prior_network": lambda labels: 0.0,
    "cross_entropy": lambda labels: 0.0,
    "self_distribution": lambda labels: 0.0,
    "ensemble_distillation": lambda members: stats.entropy(softmax(members, -1).mean(1), axis=-1),
    "mean_precision": lambda members: stats.entropy(softmax(members, -1).mean(1), axis=-1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_any_finite_logits_are_finite(name):
    loss = loss_of(name)
    compiled = tf.function(lambda targets, outputs: value_and_gradient(loss, targets, outputs))

    @few
    @given(targets_of(name), arrays(np.float64, (BATCH, *student_shape(loss)), elements=any_logit))
    def check(targets, outputs):
        value, gradient = compiled(tf.constant(targets), tf.constant(outputs))
        assert value.shape == (BATCH,)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
        if name in LEAST:
            # A divergence of alphas up to exp(30) over a precision from 1e-3 on is exact to rounding of its summands.
            least = LEAST[name](targets)
            assert (value.numpy() - least >= -1e-9 * np.maximum(1, np.abs(value))).all()

    check()


@pytest.mark.parametrize("dtype", [*HALF, tf.float32, tf.float64], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_every_dtype_are_finite(name, dtype):
    loss = loss_of(name)
    rng = np.random.default_rng(0)
    outputs = rng.choice(EDGES, (16, *student_shape(loss)))
    targets = rng.integers(0, CLASSES, 16) if registry.is_on_labels(name) else rng.choice(EDGES, (16, MEMBERS, CLASSES))
    value, gradient = value_and_gradient(loss, tf.constant(targets), tf.cast(tf.constant(outputs), dtype))
    assert np.isfinite(tf.cast(value, tf.float64)).all()
    gradient = tf.cast(gradient, tf.float64).numpy()
    # Gradients of alphas up to exp(30) are beyond float16's 65,504; its loss scaling leaves such a step out.
    assert not np.isnan(gradient).any()
    assert np.isfinite(gradient).all() or dtype == tf.float16


@pytest.mark.parametrize("name", [name for name in LOSSES if not registry.is_on_labels(name)])
def test_statistics_of_a_thousand_members(name):
    """A thousand members that are ten, a hundred times each, say what the ten say."""
    loss = loss_of(name)
    if "num_members" in inspect.signature(type(loss)).parameters:
        pytest.skip("keeps each member apart, so a thousand aren't ten")
    ten = np.random.default_rng(0).normal(0, 4, (2, 10, 3))
    assert_allclose(
        loss.reduce_members(np.repeat(ten, 100, axis=1), 1.0), loss.reduce_members(ten, 1.0), rtol=1e-11, atol=1e-13
    )


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_empty_batches_are_empty(name):
    loss = loss_of(name)
    shape = (0,) if registry.is_on_labels(name) else (0, MEMBERS, CLASSES)
    value = loss(np.zeros(shape, np.int64 if len(shape) == 1 else np.float64), np.zeros((0, *student_shape(loss))))
    assert value.shape == (0,)


# Heads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", HEADS)
def test_heads_of_any_finite_logits_keep_their_identities(name, dtype):
    head = head_of(name, dtype=dtype)
    noise = 1e-5 if dtype == "float32" else 1e-12

    @tf.function
    def compiled(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            got = head(logits)
            total = tf.add_n([tf.reduce_sum(got[key]) for key in ("probs", *head.measure_names)])
        return got, tape.gradient(total, logits)

    @few
    @given(arrays(np.float64, (BATCH, head.num_outputs(CLASSES)), elements=any_logit))
    def check(logits):
        got, gradient = compiled(tf.constant(logits, dtype))
        for key in ("probs", *head.measure_names):
            assert np.isfinite(got[key]).all(), key
        assert np.isfinite(gradient).all()
        assert_allclose(tf.reduce_sum(got["probs"], -1), 1, rtol=noise)
        total = got["total_uncertainty"].numpy()
        assert ((total >= 0) & (total <= np.log(CLASSES) + noise)).all()
        if "knowledge_uncertainty" in got:
            data, knowledge = got["data_uncertainty"].numpy(), got["knowledge_uncertainty"].numpy()
            assert ((data >= 0) & (knowledge >= 0)).all()
            assert_allclose(data + knowledge, total, atol=noise)

    check()


@pytest.mark.parametrize("dtype", HALF, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("name", HEADS)
def test_heads_take_half_precisions_and_empty_batches(name, dtype):
    head = head_of(name)
    logits = np.random.default_rng(0).choice(EDGES, (16, head.num_outputs(CLASSES)))
    for rows in (16, 0):
        got = head(tf.cast(tf.constant(logits[:rows]), dtype))
        for key in ("probs", *head.measure_names):
            assert got[key].dtype == tf.float32
            assert len(got[key]) == rows
            assert np.isfinite(got[key]).all(), key


# Measures


@pytest.mark.parametrize(("dtype", "num_classes"), [("float32", 7), ("float64", 2)])
def test_measures_of_any_alphas(dtype, num_classes):
    noise = 1e-6 if dtype == "float32" else 1e-13

    @tf.function
    def gradient(alphas):
        with tf.GradientTape() as tape:
            tape.watch(alphas)
            total = tf.add_n([tf.reduce_sum(value) for value in uncertainty.from_alphas(alphas).values()])
        return tape.gradient(total, alphas)

    @few
    @given(arrays(np.float64, (BATCH, num_classes), elements=any_alpha))
    def check(alphas):
        alphas = alphas.astype(dtype)
        got = uncertainty.from_alphas(alphas)
        assert all(np.isfinite(value).all() for value in got.values())
        total, knowledge = got["total_uncertainty"], got["knowledge_uncertainty"]
        assert_allclose(got["data_uncertainty"] + knowledge, total, atol=noise)
        assert_allclose(got["epkl"], knowledge + got["mkl"], rtol=10 * noise)
        assert (knowledge > 0).all()
        assert (knowledge <= got["mkl"] * (1 + noise)).all()
        assert (total <= np.log(num_classes) + noise).all()
        assert np.isfinite(gradient(tf.constant(alphas))).all()

    check()


@few
@given(arrays(np.float64, (2, MEMBERS, CLASSES), elements=st.one_of(any_logit, st.just(-np.inf))))
def test_measures_of_any_members(logits):
    excluded = np.isneginf(logits).all(axis=-1).any()
    if excluded:
        with pytest.raises(DataError, match="largest of logits"):
            uncertainty.from_members(logits)
        return
    got = uncertainty.from_members(logits)
    total, data, knowledge = (got[f"{kind}_uncertainty"] for kind in ("total", "data", "knowledge"))
    assert not any(np.isnan(value).any() for value in got.values())
    assert np.isfinite([total, data, knowledge]).all()
    assert_allclose(data + knowledge, total, atol=1e-12)
    assert ((knowledge >= 0) & (knowledge <= np.minimum(total, np.log(MEMBERS)) + 1e-12)).all()
    assert (got["mkl"] >= 0).all()
    finite = np.isfinite(got["mkl"])
    assert_allclose(got["epkl"][finite], (knowledge + got["mkl"])[finite], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, tf.bfloat16.as_numpy_dtype])
def test_measures_of_half_precisions_are_finite_or_refused(dtype):
    alphas = np.array([[1e-8, 1e-8], [1e-3, 5.0], [1e8, 1.0], [6e4, 6e4]]).astype(dtype)
    for row in alphas:
        if dtype == np.float16 and not np.all((row > 0) & np.isfinite(row)):  # 1e-8 rounds to 0, 1e8 to inf
            with pytest.raises(DataError, match=r"alphas\[\d\] is (0.0|inf)\. Allowed: above 0 and finite"):
                uncertainty.from_alphas(row)
            continue
        assert all(np.isfinite(value).all() for value in uncertainty.from_alphas(row).values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_thousand_members_and_ten_thousand_classes(dtype):
    rng = np.random.default_rng(0)
    ten = rng.normal(0, 3, (1, 10, 20)).astype(dtype)
    few_members, copies = uncertainty.from_members(ten), uncertainty.from_members(np.repeat(ten, 100, axis=1))
    for key, value in few_members.items():
        assert_allclose(copies[key], value, rtol=1e-4 if dtype == np.float32 else 1e-11, err_msg=key)
    for num_members, num_classes in ((1000, 1000), (3, 10_000)):
        one_hot = np.where(np.eye(num_members, num_classes, dtype=bool), 0.0, -np.inf).astype(dtype)[None]
        got = uncertainty.from_members(one_hot)
        assert_allclose(got["knowledge_uncertainty"], np.log(num_members), rtol=1e-5)
        assert got["data_uncertainty"][0] == 0


# Independent implementations


@few
@given(arrays(np.float64, (2, CLASSES), elements=st.floats(-2, 3).map(lambda x: 10.0**x)))
def test_dirichlets_are_those_of_tensorflow_probability(pair):
    first, second = (tfp.distributions.Dirichlet(alphas) for alphas in pair)
    scale = pair.sum()
    want = tfp.distributions.kl_divergence(first, second)
    assert_allclose(dirichlet.kl_divergence(*pair), want, rtol=1e-9, atol=1e-13 * scale)
    assert_allclose(dirichlet.differential_entropy(pair[0]), first.entropy(), rtol=1e-10, atol=1e-13 * scale)
    assert_allclose(dirichlet.mean(pair[0]), first.mean(), rtol=1e-14)
    probs = np.array([0.7, 0.2, 0.1])
    loss = losses.DirichletNLL(smoothing=0.0)
    want = -first.log_prob(probs)
    assert_allclose(loss(np.log(probs)[None, None], np.log(pair[:1])), want, rtol=1e-10, atol=1e-12 * scale)


@few
@given(arrays(np.float64, CLASSES, elements=st.floats(-2, 3).map(lambda x: 10.0**x)))
def test_dirichlets_are_those_of_scipy(alphas):
    other = stats.dirichlet(alphas)
    scale = 1 / alphas.min() + alphas.max()
    assert_allclose(dirichlet.differential_entropy(alphas), other.entropy(), rtol=1e-10, atol=1e-13 * scale)
    assert_allclose(dirichlet.mean(alphas), other.mean(), rtol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_is_that_of_tensorflow_probability(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (400, CLASSES)).astype(np.float32)  # which is all it takes
    labels, probs = rng.integers(0, CLASSES, 400), softmax(logits, -1)
    expected = tfp.stats.expected_calibration_error(10, logits=logits, labels_true=tf.constant(labels))
    assert_allclose(metrics.expected_calibration_error(probs, labels, 10), expected, rtol=1e-5)
    brier = tfp.stats.brier_score(labels, logits)  # without the constant 1
    assert_allclose(metrics.brier_score(probs, labels), np.mean(brier) + 1, rtol=1e-5)


# Metrics

FUNCTIONS = {name: getattr(metrics, name) for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))}


def arguments_of(function, draw, size):
    """Draws what a metric asks for, by its parameters' names: rows of probabilities, labels, flags, or scores."""
    probs = arrays(np.float64, (size, CLASSES), elements=any_logit).map(lambda logits: softmax(logits, -1))
    scores = arrays(np.float64, size, elements=st.sampled_from([0.0, 1.0, 1e-8, 1e8, -1e4]))
    kinds = {
        **dict.fromkeys(("probs", "reference"), probs),
        "labels": arrays(np.int64, size, elements=st.integers(0, CLASSES - 1)),
        **dict.fromkeys(("errors", "positive"), arrays(np.bool_, size)),
        **dict.fromkeys(("in_scores", "out_scores"), scores.map(lambda values: {"mkl": values, "max_prob": values})),
    }
    parameters = inspect.signature(function).parameters.values()
    needed = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    options = {"num_resamples": 5} if "num_resamples" in inspect.signature(function).parameters else {}
    return {name: draw(kinds.get(name, scores)) for name in needed} | options


def numbers_in(result):
    """Returns all numbers of a float, a named tuple of floats or arrays, or a dictionary."""
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, tuple) else [result]
    return np.concatenate([np.ravel(part).astype(float) for part in parts])


# A label of probability 0.
MAY_BE_INFINITE = {"negative_log_likelihood", "classification"}


@pytest.mark.parametrize("size", [2, 9])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_metrics_of_any_predictions_have_a_value(name, size):
    function = FUNCTIONS[name]

    @few
    @given(st.data())
    def check(data):
        arguments = arguments_of(function, data.draw, size)
        values = numbers_in(function(**arguments))
        assert name in MAY_BE_INFINITE or not np.isinf(values).any()
        flags = arguments.get("errors", arguments.get("positive"))
        if flags is not None and 0 < flags.sum() < size:  # else there is nothing to tell apart: NaN
            assert np.isfinite(values).all()

    check()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_metrics_refuse_empty_batches(name):
    function = FUNCTIONS[name]
    empty = {"probs": np.zeros((0, 3)), "reference": np.zeros((0, 3)), "labels": np.zeros(0, int)}
    empty |= {key: {"mkl": np.zeros(0)} for key in ("in_scores", "out_scores")}
    parameters = inspect.signature(function).parameters.values()
    needed = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    with pytest.raises(End2Error, match="Allowed"):
        function(**{key: empty.get(key, np.zeros(0)) for key in needed})


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong(right, dtype):
    probs = softmax(np.random.default_rng(0).normal(size=(20, 4)), -1).astype(dtype)
    labels = (probs.argmax(-1) + (0 if right else 1)) % 4
    got = metrics.classification(probs, labels)
    assert got["error"] == (0 if right else 1)
    confidence = probs.max(-1).astype(np.float64).mean()
    assert got["ece"] == pytest.approx(
        1 - confidence if right else confidence, rel=1e-6 if dtype != np.float16 else 1e-3
    )
    assert np.isnan([got["prr"], got["misclassification_auroc"], got["misclassification_aupr"]]).all()
