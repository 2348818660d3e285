"""Forward KL to the proxy: golden divergences, its closed gradient, many classes."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from scipy.special import digamma

from end2_tf.losses import DirichletNLL, ProxyForwardKL

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden.json").read_text())
RNG = np.random.default_rng(0)
MEMBERS = RNG.normal(size=(7, 5, 4)) * 2
LOGITS = RNG.normal(size=(7, 4))


def gradient_of(loss, targets, logits):
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(targets, variable)
    return tape.gradient(value, variable).numpy()


@pytest.mark.parametrize("case", GOLDEN["kl"], ids=lambda c: f"{c['beta']}-{c['alpha']}")
def test_golden_divergences(case):
    proxy, student = (np.array(case[key], np.float64) for key in ("beta", "alpha"))
    statistics = np.append(proxy / proxy.sum(), np.log(proxy.sum()))[None]
    got = ProxyForwardKL(targets="statistics")(statistics, np.log(student)[None])
    assert_allclose(got, float(case["kl_beta_alpha"]), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("precision", ["stirling", "exact", "mutual_information"])
def test_closed_gradient_and_zero_at_the_proxy(precision):
    loss = ProxyForwardKL(precision, offset=1.0, reduction="sum")
    statistics = loss.reduce_members(MEMBERS, 1.0).numpy()
    raw = np.exp(statistics[:, -1:]) * statistics[:, :-1]
    beta, alphas = raw + 1, np.exp(LOGITS) + 1
    want = (
        digamma(alphas) - digamma(alphas.sum(-1, keepdims=True)) - digamma(beta) + digamma(beta.sum(-1, keepdims=True))
    )
    assert_allclose(gradient_of(loss, MEMBERS, LOGITS), want * (alphas - 1), rtol=1e-9, atol=1e-12)
    assert_allclose(loss(MEMBERS, np.log(raw)), 0, atol=1e-11)
    assert loss(MEMBERS, LOGITS) > 0


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1.0, 1e6, 1e10])
def test_gradient_against_50_digits(scale):
    alphas, proxy = scale * np.array([0.3, 2.0, 11.0]), scale * np.array([0.5, 1.0, 9.0])
    with mpmath.workdps(50):
        a, b = (list(map(mpmath.mpf, values)) for values in (alphas, proxy))
        whole = mpmath.digamma(mpmath.fsum(b)) - mpmath.digamma(mpmath.fsum(a))
        expected = [float(x * (mpmath.digamma(x) - mpmath.digamma(y) + whole)) for x, y in zip(a, b, strict=True)]
    statistics = np.append(proxy / proxy.sum(), np.log(proxy.sum()))[None]
    gradient = gradient_of(ProxyForwardKL(targets="statistics", cap=1e13), statistics, np.log(alphas)[None])[0]
    assert_allclose(gradient, expected, rtol=1e-8)


def test_is_the_likelihood_of_members_drawn_from_the_proxy():
    proxy = np.array([2.0, 3.0, 5.0])
    members = np.log(np.random.default_rng(0).dirichlet(proxy, size=100_000))[None]
    statistics = np.append(proxy / 10, np.log(10))[None]
    a, b = np.zeros((1, 3)), np.array([[1.0, 0.5, 2.0]])
    forward = ProxyForwardKL(targets="statistics")
    nll = DirichletNLL(smoothing=0.0)
    assert_allclose(nll(members, a) - nll(members, b), forward(statistics, a) - forward(statistics, b), atol=0.05)


def test_many_classes_drown_the_top_class():
    """Reference values: -7.1 on the top class, +1990 summed over 999 others, at all logits 0."""
    statistics = np.append(0.9, np.full(999, 0.1 / 999))
    loss = ProxyForwardKL(offset=1.0, targets="statistics")
    gradient = gradient_of(loss, np.append(statistics, np.log(1e5))[None], np.zeros((1, 1000)))[0]
    assert_allclose([gradient[0], gradient[1:].sum()], [-7.1, 1990], rtol=0.01)
