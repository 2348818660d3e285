"""Mean and precision: closed value and gradient, and the claim that both terms are least at one place."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from scipy.special import digamma, entr, log_softmax, logsumexp, softmax

from end2_tf.errors import ConfigError
from end2_tf.losses import DirichletNLL, MeanPrecision

RNG = np.random.default_rng(0)
MEMBERS = RNG.normal(size=(7, 5, 4)) * 2
LOGITS = RNG.normal(size=(7, 4))
MEAN = softmax(MEMBERS, axis=-1).mean(1)
KNOWLEDGE = (entr(MEAN).sum(-1) - entr(softmax(MEMBERS, axis=-1)).sum(-1).mean(1)).ravel()


def value_and_gradient(loss, targets, logits):
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(targets, variable)
    return value.numpy(), tape.gradient(value, variable).numpy()


@pytest.mark.parametrize("weight", [0.0, 0.05, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_closed_value_and_gradient(weight, temperature):
    loss = MeanPrecision("stirling", weight, "squared", temperature=temperature, reduction="sum")
    value, gradient = value_and_gradient(loss, MEMBERS, LOGITS)
    log_probs = log_softmax(MEMBERS / temperature, axis=-1)
    mean = np.exp(log_probs).mean(1)
    target = np.log(3 / (2 * (mean * (np.log(mean) - log_probs.mean(1))).sum(-1)))
    z = LOGITS / temperature
    log_alpha0 = logsumexp(z, axis=-1)
    want = -(mean * log_softmax(z, axis=-1)).sum() + weight * ((log_alpha0 - target) ** 2).sum()
    assert_allclose(value, want, rtol=1e-12)
    pull = 2 * weight * (log_alpha0 - target)[:, None] * softmax(z, axis=-1)
    assert_allclose(gradient, (softmax(z, axis=-1) - mean + pull) / temperature, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("offset", [0.0, 0.1])
@pytest.mark.parametrize("penalty", ["squared", "itakura_saito"])
def test_one_optimum_with_the_ensembles_mean_and_knowledge_uncertainty(offset, penalty):
    """At any weight; the least value is the entropy of the mean. The likelihood's optimum is elsewhere."""
    for weight in (0.01, 10.0):
        loss = MeanPrecision(weight=weight, penalty=penalty, offset=offset, reduction=None)
        log_precision = loss.reduce_members(MEMBERS, 1.0).numpy()[:, -1:]
        target = np.exp(log_precision) * MEAN
        reachable = (target > offset).all(axis=1)
        assert reachable.any()
        logits = np.log(np.maximum(target - offset, 1e-9))
        values, gradient = value_and_gradient(loss, MEMBERS, logits)
        assert_allclose(values[reachable], entr(MEAN).sum(-1)[reachable], rtol=1e-11)
        assert_allclose(gradient[reachable], 0, atol=1e-10)
    alpha0 = target.sum(-1)
    data = (MEAN * (digamma(alpha0 + 1)[:, None] - digamma(target + 1))).sum(-1)
    assert_allclose(entr(MEAN).sum(-1) - data, KNOWLEDGE, rtol=1e-10)
    _, of_likelihood = value_and_gradient(DirichletNLL(0.0, reduction="sum"), MEMBERS, np.log(target))
    assert np.abs(of_likelihood).max() > 0.1


def test_a_constant_on_all_logits_moves_the_precision_alone():
    mean_only = MeanPrecision(weight=0.0, reduction=None)
    assert_allclose(mean_only(MEMBERS, LOGITS + 3), mean_only(MEMBERS, LOGITS), rtol=1e-12)
    _, gradient = value_and_gradient(mean_only, MEMBERS, LOGITS)
    assert_allclose(gradient.sum(-1), 0, atol=1e-14)


def test_offset_is_part_of_mean_and_precision():
    loss = MeanPrecision("exact", 0.3, "squared", offset=1.0, targets="statistics", reduction=None)
    alphas = np.exp(LOGITS) + 1
    statistics = np.concatenate([MEAN, np.full((7, 1), 2.0)], axis=1)
    cross_entropy = -(MEAN * np.log(alphas / alphas.sum(-1, keepdims=True))).sum(-1)
    want = cross_entropy + 0.3 * (np.log(alphas.sum(-1)) - 2) ** 2
    assert_allclose(loss(statistics, LOGITS), want, rtol=1e-12)


def test_no_bound_on_logits():
    loss = MeanPrecision(penalty="squared", weight=0.05, reduction=None)
    distance = 1e4 + np.log(4) - loss.reduce_members(MEMBERS[:1], 1.0)[:, -1]
    value, gradient = value_and_gradient(loss, MEMBERS[:1], np.full((1, 4), 1e4))
    assert_allclose(value, np.log(4) + 0.05 * distance**2)
    assert (gradient > 0).all()  # comes back down
    loss = MeanPrecision(weight=0.05, reduction=None)
    value, gradient = value_and_gradient(loss, MEMBERS[:1], np.full((1, 4), 1e4))
    assert_allclose(value, np.log(4) + 0.05 * (np.exp(2) * (distance - 1) - distance - 1))
    assert gradient.sum() > 0


def _least(penalty, log_precisions):
    """Returns the alpha0 at which the mean penalty over several targets is least."""
    mean = np.full(4, 0.25)
    statistics = np.stack([[*mean, b] for b in log_precisions])
    loss = MeanPrecision(weight=1.0, penalty=penalty, targets="statistics", reduction=None)
    values = [
        float(tf.reduce_mean(loss(statistics, np.full((len(statistics), 4), z)))) for z in np.linspace(-1, 2, 1501)
    ]
    return 4 * np.exp(np.linspace(-1, 2, 1501)[int(np.argmin(values))])


def test_what_a_student_learns_of_inputs_it_cannot_tell_apart():
    precisions = np.array([2.0, 6.0, 9.0])
    assert _least("squared", np.log(precisions)) == pytest.approx(np.exp(np.log(precisions).mean()), rel=2e-3)
    assert _least("itakura_saito", np.log(precisions)) == pytest.approx(1 / (1 / precisions).mean(), rel=2e-3)


def test_itakura_saito_is_the_likelihoods_own_for_members_that_nearly_agree():
    """The likelihood's slope in ln alpha0 at a fixed mean, against (K-1)/2 times the penalty's from Stirling."""
    members = np.log([[[0.2, 0.3, 0.5]]]) + RNG.normal(size=(1, 2000, 3)) * 0.01
    mean = softmax(members, axis=-1).mean(1)
    likelihood = DirichletNLL(0.0, reduction="sum")
    penalty = MeanPrecision("stirling", 1.0, cap=1e9, reduction="sum")
    stirling = penalty.reduce_members(members, 1.0).numpy()[0, -1]
    for distance in (-1.0, 0.5, 1.5):
        logits = np.log(mean) + stirling + distance
        slope = value_and_gradient(likelihood, members, logits)[1].sum()
        assert slope == pytest.approx(value_and_gradient(penalty, members, logits)[1].sum(), rel=1e-2)


def test_unknown_penalty():
    with pytest.raises(ConfigError, match="Did you mean 'squared'"):
        MeanPrecision(penalty="square")


def test_wrong_weight():
    with pytest.raises(ConfigError, match=r"MeanPrecision's weight is -1.0. Allowed: at least 0"):
        MeanPrecision(weight=-1.0)
