"""Reverse KL to the proxy: golden divergences, SciPy's formula, the published decomposition, many classes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from scipy.special import digamma, gammaln, log_softmax, softmax
from scipy.stats import dirichlet

from end2_tf.errors import ConfigError
from end2_tf.losses import ProxyReverseKL

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden.json").read_text())
RNG = np.random.default_rng(0)
MEMBERS = RNG.normal(size=(7, 5, 4)) * 2
LOGITS = RNG.normal(size=(7, 4))


def statistics_of(concentrations, offset=0.0):
    """Statistics whose proxy has these concentrations."""
    raw = np.array(concentrations, np.float64) - offset
    return np.append(raw / raw.sum(), np.log(raw.sum()))[None]


@pytest.mark.parametrize("case", GOLDEN["kl"], ids=lambda c: f"{c['beta']}-{c['alpha']}")
def test_golden_divergences(case):
    student, proxy = (np.array(case[key], np.float64) for key in ("beta", "alpha"))
    got = ProxyReverseKL(targets="statistics")(statistics_of(proxy), np.log(student)[None])
    assert_allclose(float(got) * proxy.sum(), float(case["kl_beta_alpha"]), rtol=1e-11, atol=1e-14)


def test_published_decomposition():
    """E - H/b + const, with E the expected cross-entropy and H the differential entropy (SciPy's)."""
    loss = ProxyReverseKL(offset=1.0, reduction=None)
    probs = softmax(MEMBERS, axis=-1)
    mean = probs.mean(1)
    b = 3 / (2 * (mean * (np.log(mean) - log_softmax(MEMBERS, axis=-1).mean(1))).sum(-1))  # Stirling
    alphas, beta = np.exp(LOGITS) + 1, b[:, None] * mean + 1
    expected = -(mean * (digamma(alphas) - digamma(alphas.sum(-1, keepdims=True)))).sum(-1)
    entropy = np.array([dirichlet(a).entropy() for a in alphas])
    constant = (gammaln(beta).sum(-1) - gammaln(beta.sum(-1))) / b
    assert_allclose(loss(MEMBERS, LOGITS), expected - entropy / b + constant, rtol=1e-11)


def test_zero_at_the_proxy_and_positive_elsewhere():
    loss = ProxyReverseKL(offset=1.0, precision="exact", reduction=None)
    statistics = loss.reduce_members(MEMBERS, 1.0).numpy()
    at_proxy = np.log(statistics[:, :-1]) + statistics[:, -1:]
    variable = tf.Variable(at_proxy)
    with tf.GradientTape() as tape:
        values = loss(MEMBERS, variable)
    assert_allclose(values, 0, atol=1e-13)
    assert_allclose(tape.gradient(values, variable), 0, atol=1e-13)
    assert (loss(MEMBERS, at_proxy + RNG.normal(size=at_proxy.shape)).numpy() > 1e-3).all()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_gradient_against_50_digits(scale):
    """d/d ln alpha of E[ln Dir(alphas) - ln Dir(proxy)], by mpmath's digamma and log-gamma alone."""
    alphas, proxy = scale * np.array([0.3, 2.0, 11.0]), scale * np.array([0.5, 1.0, 9.0])
    with mpmath.workdps(50):

        def divergence(*logits):
            a, b = [mpmath.exp(z) for z in logits], [mpmath.mpf(value) for value in proxy]
            log_norms = [
                mpmath.loggamma(mpmath.fsum(each)) - mpmath.fsum(map(mpmath.loggamma, each)) for each in (a, b)
            ]
            mean_logs = [mpmath.digamma(value) - mpmath.digamma(mpmath.fsum(a)) for value in a]
            return (
                log_norms[0] - log_norms[1] + mpmath.fsum((x - y) * m for x, y, m in zip(a, b, mean_logs, strict=True))
            )

        places = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
        point = [mpmath.log(mpmath.mpf(value)) for value in alphas]
        expected = [float(mpmath.diff(divergence, tuple(point), place) / proxy.sum()) for place in places]
    logits = tf.Variable(np.log(alphas)[None])
    with tf.GradientTape() as tape:
        value = ProxyReverseKL(targets="statistics")(statistics_of(proxy), logits)
    assert_allclose(tape.gradient(value, logits)[0], expected, rtol=1e-8)


def test_many_classes_leave_the_top_class_its_weight():
    """Reference values: -0.58 on the top class, +0.44 summed over 999 others, at all logits 0."""
    mean = np.append(0.9, np.full(999, 0.1 / 999))
    loss = ProxyReverseKL(offset=1.0, targets="statistics")
    logits = tf.Variable(np.zeros((1, 1000)))
    with tf.GradientTape() as tape:
        value = loss(np.append(mean, np.log(1e5))[None], logits)
    gradient = tape.gradient(value, logits).numpy()[0]
    assert_allclose([gradient[0], gradient[1:].sum()], [-0.58, 0.44], atol=0.006)


def test_members_that_agree_use_the_cap():
    agreeing = np.repeat(MEMBERS[:, :1], 5, axis=1)
    loss = ProxyReverseKL(cap=1e4, offset=1.0)
    assert_allclose(loss.reduce_members(agreeing, 1.0)[:, -1], np.log(1e4))
    with pytest.raises(ConfigError, match=r"ProxyReverseKL's cap is 1e\+20. Allowed: at most 1e13"):
        ProxyReverseKL(cap=1e20)
    assert ProxyReverseKL(cap=math.exp(30)).cap == math.exp(30)
