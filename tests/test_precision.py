"""Precisions of proxies: golden values of 50 digits, and SciPy's digamma as the oracle of the roots."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import digamma, log_softmax, xlogy

from end2_tf import dirichlet, precision
from end2_tf.errors import ConfigError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "golden.json").read_text())
ENSEMBLES = {**GOLDEN["ensemble"], **GOLDEN["logit_ensemble"]}


def log_probs_of(golden):
    if "probs" in golden:
        return np.log(np.array(golden["probs"], np.float64))
    return log_softmax(np.array(golden["logits"], np.float64), axis=-1)


def mutual_information(alphas):
    """Of a Dirichlet, by the textbook formula."""
    alpha0 = alphas.sum(-1, keepdims=True)
    mean = alphas / alpha0
    return (-xlogy(mean, mean) + mean * (digamma(alphas + 1) - digamma(alpha0 + 1))).sum(-1)


def reverse_mutual_information(alphas):
    alpha0 = alphas.sum(-1, keepdims=True)
    mean = alphas / alpha0
    return (mean * (np.log(mean) - digamma(alphas) + digamma(alpha0))).sum(-1)


@pytest.mark.parametrize("key", ENSEMBLES)
@pytest.mark.parametrize(("kind", "field"), [("stirling", "stirling"), ("exact", "ml")])
def test_golden_values(key, kind, field):
    golden = ENSEMBLES[key]
    mean, got = precision.from_members(log_probs_of(golden), kind, cap=1e12)
    assert_allclose(got, float(golden[f"proxy_precision_{field}"]), rtol=1e-12)
    assert_allclose(mean, np.array(golden["mean"], np.float64), rtol=1e-13)


@pytest.mark.parametrize("key", ENSEMBLES)
def test_matched_dirichlet_has_the_ensembles_mutual_information(key):
    golden = ENSEMBLES[key]
    mean, got = precision.from_members(log_probs_of(golden), "mutual_information", cap=1e12)
    absolute = 1e-15 if key != "e3x3_close_logits" else 1e-14  # there the oracle cancels
    assert_allclose(
        mutual_information(got.numpy() * mean.numpy()), float(golden["knowledge"]), rtol=1e-10, atol=absolute
    )


@pytest.mark.parametrize(
    ("alphas", "stirling"),
    [((2, 3, 5), 9.29), ((20, 30, 50), 99.2), ((0.5, 0.3, 0.2), 0.674), ((900, *[0.1] * 999), 616)],
)
def test_true_dirichlets_are_recovered_but_by_stirling(alphas, stirling):
    alphas = np.array(alphas, np.float64)
    mean, mkl = alphas / alphas.sum(), reverse_mutual_information(alphas)
    assert_allclose(precision.exact(mean, mkl), alphas.sum(), rtol=1e-11)
    assert_allclose(precision.matched_mutual_information(mean, mutual_information(alphas)), alphas.sum(), rtol=1e-9)
    assert_allclose(precision.stirling(len(alphas), mkl), stirling, rtol=1e-3)


exact_precision = tf.function(precision.exact, reduce_retracing=True)
matched_precision = tf.function(precision.matched_mutual_information, reduce_retracing=True)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (8, 3, 5), elements=st.floats(-8, 8)))
def test_roots_hold_their_equations(members):
    log_probs = log_softmax(members, axis=-1)
    mean = np.exp(log_probs).mean(-2)
    mkl = (mean * (np.log(mean) - log_probs.mean(-2))).sum(-1)
    knowledge = (np.exp(log_probs) * (log_probs - np.log(mean)[:, None])).sum(-1).mean(-1)
    lower = precision.stirling(5, mkl, cap=1e12).numpy()
    exact = exact_precision(tf.constant(mean), tf.constant(mkl), cap=1e12).numpy()
    inside = lower < 1e11
    assert ((lower <= exact * (1 + 1e-12)) & (exact <= 2 * lower * (1 + 1e-12)))[inside].all()
    matched = matched_precision(tf.constant(mean), tf.constant(knowledge)).numpy()
    inside = (matched > 1.01 * precision.FLOOR) & (matched < 1e5)
    assert_allclose(mutual_information(matched[:, None] * mean)[inside], knowledge[inside], rtol=1e-8, atol=1e-13)
    inside = exact < 1e5
    assert_allclose(reverse_mutual_information(exact[:, None] * mean)[inside], mkl[inside], rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("num_classes", [2, 10_000])
def test_root_over_the_whole_range(num_classes):
    """Where the textbook formula in 64 bits is exact enough to say which precision it was."""
    mean = np.random.default_rng(0).dirichlet(np.full(num_classes, 0.5))
    precisions = np.logspace(-2, 4, 7)
    knowledge = mutual_information(precisions[:, None] * mean)
    got = precision.matched_mutual_information(np.broadcast_to(mean, (7, num_classes)), knowledge)
    assert_allclose(got, precisions, rtol=1e-8)


def test_root_where_members_disagree_as_much_as_they_can():
    """Knowledge uncertainty is flat there, so Newton's steps must not be cut short."""
    rng = np.random.default_rng(0)
    mean = 10.0 ** rng.uniform(-8, -3, (300, 4))
    mean /= mean.sum(-1, keepdims=True)
    precisions = rng.uniform(1, 2, 300) * precision.FLOOR
    knowledge = dirichlet.mutual_information(precisions[:, None] * mean)
    assert_allclose(matched_precision(tf.constant(mean), knowledge), precisions, rtol=2e-9)


@pytest.mark.parametrize("kind", precision.KINDS)
@pytest.mark.parametrize("cap", [1e2, 1e6])
def test_members_that_agree_hit_the_cap(kind, cap):
    agreeing = log_softmax(np.array([[[3.0, 1, 0], [3.0, 1, 0]], [[900.0, 0, 0], [900.0, 0, 0]]]), axis=-1)
    _, got = precision.from_members(agreeing, kind, cap)
    assert_allclose(got, [cap, cap])
    _, got = precision.from_members(agreeing[:, :1], kind, cap)  # one member agrees with itself
    assert_allclose(got, [cap, cap])


def test_members_that_are_one_hot_and_disagree_hit_the_floor():
    disagreeing = np.maximum(log_softmax(np.eye(3) * 1e4, axis=-1), -700)
    for kind in precision.KINDS[:2]:
        assert precision.from_members(disagreeing, kind)[1] < 0.01
    assert_allclose(precision.from_members(disagreeing, "mutual_information")[1], precision.FLOOR)


def test_measures_out_of_range():
    mean = [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    assert_allclose(precision.matched_mutual_information(mean, [-1e-9, 0, np.log(2), 0.9]), [1e6, 1e6, 1e-3, 1e-3])
    assert_allclose(precision.stirling(3, [0.0, 1e-3, 1e9]), [1e6, 1e3, 1e-3])
    assert_allclose(precision.exact(mean, [0, 0, 1e9, 1e9]), [1e6, 1e6, 1e-3, 1e-3])


def test_classes_of_probability_zero():
    knowledge = [0.05]
    assert_allclose(
        precision.matched_mutual_information([[0.2, 0.8, 0.0]], knowledge),
        precision.matched_mutual_information([[0.2, 0.8]], knowledge),
    )
    assert_allclose(
        precision.exact([[0.2, 0.8, 0.0]], [0.05]), precision.exact([[0.2, 0.8 - 1e-14, 1e-14]], [0.05]), rtol=1e-9
    )
    assert_allclose(precision.exact([[1.0, 0.0, 0.0]], [0.5]), [4.0])  # S = 0: (K-1)/RMI
    assert np.isfinite(precision.matched_mutual_information([[1.0, 0.0]], [1e-3])).all()


def test_leading_axes_and_empty_batches():
    members = np.random.default_rng(0).normal(size=(3, 4, 6, 5))
    log_probs = log_softmax(members, axis=-1)
    for kind in precision.KINDS:
        mean, whole = precision.from_members(log_probs, kind)
        assert (mean.shape, whole.shape) == ((3, 4, 5), (3, 4))
        assert_array_equal(whole[1], precision.from_members(log_probs[1], kind)[1])
        assert precision.from_members(log_probs[:0], kind)[1].shape == (0, 4)


@pytest.mark.parametrize("kind", ["exact"])  # the others run in every way in the losses' own test
def test_eager_is_graph_is_xla(kind):
    log_probs = log_softmax(np.random.default_rng(0).normal(size=(8, 6, 5)) * 3, axis=-1)
    eager = precision.from_members(log_probs, kind)[1]
    signature = [tf.TensorSpec((None, None, 5), tf.float64)]
    graph = tf.function(lambda x: precision.from_members(x, kind)[1], input_signature=signature)
    xla = tf.function(lambda x: precision.from_members(x, kind)[1], jit_compile=True)
    assert_allclose(graph(log_probs), eager, rtol=1e-12)
    assert_allclose(xla(tf.constant(log_probs)), eager, rtol=1e-12)


def test_docstring_examples():
    results = doctest.testmod(precision, extraglobs={"np": np}, optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0


def test_unknown_kind():
    with pytest.raises(
        ConfigError, match=r"precision is 'exakt', which isn't a kind of precision. Did you mean 'exact'"
    ):
        precision.from_members(np.log([[0.5, 0.5]]), "exakt")


def test_members_that_exclude_what_others_predict_have_the_lowest_precision():
    mean, everywhere = [[0.5, 0.5]], [np.inf]
    assert_allclose(precision.exact(mean, everywhere), [precision.FLOOR])
    assert_allclose(precision.matched_mutual_information(mean, everywhere), [precision.FLOOR])
    assert_allclose(precision.stirling(2, everywhere), [precision.FLOOR])
