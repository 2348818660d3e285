"""EnD²: golden values of 50 digits, SciPy's density, the closed gradient, the optimum, variants, smoothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import digamma, gammaln, softmax
from scipy.stats import dirichlet

from end2_tf.errors import ConfigError
from end2_tf.losses import DirichletNLL
from end2_tf.losses.dirichlet_nll import VARIANTS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden.json").read_text())
MEMBERS = np.array([[[4.0, 1, 0, -3], [1, 3, -0.5, -2]]])
LOGITS = np.array([[2.5, 2, -0.25, -1.5]])


def numbers(values):
    return np.array(values, np.float64)


def value_and_gradient(loss, targets, logits):
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(targets, variable)
    return value.numpy(), tape.gradient(value, variable).numpy()


@pytest.mark.parametrize(
    "case", GOLDEN["end2"], ids=lambda c: f"{c['ensemble']}-T{c['T']}-gamma{c['gamma']}-{c['mode']}"
)
def test_golden_values(case):
    members = numbers(GOLDEN["logit_ensemble"][case["ensemble"]]["logits"])[None]
    temperature = float(case["T"])
    options = {"smoothing": float(case["gamma"]), "variant": case["mode"], "temperature": temperature}
    plain = DirichletNLL(scale_by_temperature=False, **options)
    value, gradient = value_and_gradient(plain, members, numbers(case["student_logits"])[None])
    assert_allclose(value, float(case["loss"]), rtol=1e-12)
    assert_allclose(gradient[0], numbers(case["grad_logits"]), rtol=1e-10)
    assert_allclose(plain.reduce_members(members, temperature)[0], numbers(case["stat"]), rtol=1e-13)
    factor = {"both": temperature**2, "teacher": 1, "student": temperature**2}[case["mode"]]
    scaled = DirichletNLL(**options)(members, numbers(case["student_logits"])[None])
    assert_allclose(scaled, float(case["loss"]) * factor, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, (3, 4), elements=st.floats(-4, 4)), arrays(np.float64, (4,), elements=st.floats(-3, 5)))
def test_is_scipys_density(members, logits):
    density = [dirichlet.logpdf(probs, np.exp(logits)) for probs in softmax(members, axis=-1)]
    assert_allclose(DirichletNLL(smoothing=0.0)(members[None], logits[None]), -np.mean(density), rtol=1e-11, atol=1e-11)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, (4,), elements=st.floats(-20, 12)), st.sampled_from([0.0, 1.0]), st.sampled_from([1.0, 2.5]))
def test_closed_gradient(logits, offset, temperature):
    loss = DirichletNLL(targets="statistics", offset=offset, temperature=temperature, scale_by_temperature=False)
    s = loss.reduce_members(MEMBERS, temperature).numpy()
    _, gradient = value_and_gradient(loss, s, logits[None])
    alphas = np.exp(logits / temperature) + offset
    want = (digamma(alphas) - digamma(alphas.sum()) - s) * (alphas - offset) / temperature
    assert_allclose(gradient, want, rtol=1e-9, atol=1e-11 * alphas.max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_says_whether_alphas_are_tempered(variant):
    loss = DirichletNLL(variant=variant, scale_by_temperature=False)
    statistics = loss.reduce_members(MEMBERS, 1.0)
    one, two = (loss.from_statistics(statistics, tf.constant(LOGITS), temperature) for temperature in (1.0, 2.0))
    assert loss.tempers_alphas == bool(one != two)


def test_gradient_at_alphas_of_exactly_one():
    """Logits of 0, as from a layer that starts at zeros; an xlogy(alpha - 1, ·) would drop s from the gradient."""
    loss = DirichletNLL(targets="statistics")
    s = loss.reduce_members(MEMBERS, 1.0).numpy()
    _, gradient = value_and_gradient(loss, s, np.zeros((1, 4)))
    assert_allclose(gradient, digamma(1) - digamma(4) - s, rtol=1e-12)


def test_gradient_of_tiny_alphas_is_minus_one():
    _, gradient = value_and_gradient(DirichletNLL(), MEMBERS, np.full((1, 4), -500.0))
    assert_allclose(gradient, np.full((1, 4), -1 + 1 / 4), atol=1e-9)  # alpha0 is tiny too: + alpha_c/alpha0


def test_kl_identity():
    """With s of a Dirichlet, the loss is its KL divergence to the student plus its differential entropy."""
    for case in GOLDEN["kl"]:
        beta, alpha = numbers(case["beta"]), numbers(case["alpha"])
        s = digamma(beta) - digamma(beta.sum())
        beta_entropy = gammaln(beta).sum() - gammaln(beta.sum()) - ((beta - 1) * s).sum()
        value = DirichletNLL(targets="statistics")(s[None], np.log(alpha)[None])
        assert_allclose(
            value - beta_entropy, float(case["kl_beta_alpha"]), rtol=1e-12, atol=1e-7 if alpha.sum() > 1e6 else 0
        )


@pytest.mark.parametrize("key", [*GOLDEN["ensemble"], *GOLDEN["logit_ensemble"]])
def test_golden_optimum(key):
    golden = (GOLDEN["ensemble"] | GOLDEN["logit_ensemble"])[key]
    members = numbers(golden["logits"]) if "logits" in golden else np.log(numbers(golden["probs"]))
    alphas = numbers(golden["end2_optimum_alphas"])
    loss = DirichletNLL(smoothing=0.0)
    value, gradient = value_and_gradient(loss, members[None], np.log(alphas)[None])
    assert_allclose(value, float(golden["end2_optimum_loss"]), rtol=1e-7 if alphas.sum() > 1e6 else 1e-12)
    assert np.abs(gradient).max() < 1e-12 * max(1e4, alphas.sum())
    rng = np.random.default_rng(0)
    elsewhere = np.log(alphas) + rng.normal(size=(100, len(alphas)))
    others = DirichletNLL(smoothing=0.0, reduction=None)(np.repeat(members[None], 100, axis=0), elsewhere)
    assert (others.numpy() > value).all()


def test_optimum_recovers_the_dirichlet_that_members_come_from():
    alphas = np.array([3.0, 0.7, 12.0])
    members = np.log(np.random.default_rng(0).dirichlet(alphas, size=10_000))
    loss = DirichletNLL(smoothing=0.0, targets="statistics")
    s = loss.reduce_members(members, 1.0)[None]

    def both(logits):
        value, gradient = value_and_gradient(loss, s, logits[None])
        return value, gradient[0]

    found = minimize(both, np.zeros(3), jac=True)
    assert_allclose(np.exp(found.x), alphas, rtol=0.05)


def test_variants_agree_at_temperature_one():
    values = [
        float(DirichletNLL(variant=variant)(MEMBERS, LOGITS)) for variant in ("both", "teacher", "student", "reverse")
    ]
    assert_allclose(values, values[0], rtol=1e-14)


def test_reverse_variant():
    temperature = 1.5
    density = [
        dirichlet.logpdf(p / p.sum(), np.exp(LOGITS[0] * temperature)) for p in softmax(MEMBERS[0] / 1.5, axis=-1)
    ]
    loss = DirichletNLL(smoothing=0.0, variant="reverse", temperature=temperature)
    assert_allclose(loss(MEMBERS, LOGITS), -np.mean(density) / temperature**2, rtol=1e-12)


def test_smoothing():
    uniform = DirichletNLL(smoothing=1.0).reduce_members(MEMBERS, 2.0)
    assert_allclose(uniform, -np.log(4), rtol=1e-14)
    one_member = MEMBERS[:, :1] * 1e4
    smoothed = np.exp(DirichletNLL(smoothing=0.01).reduce_members(one_member, 1.0))
    assert_allclose(smoothed, [[0.9925, 0.0025, 0.0025, 0.0025]], rtol=1e-12)
    assert_allclose(DirichletNLL(smoothing=0.0).reduce_members(one_member, 1.0), [[0.0, -700, -700, -700]])


def test_members_that_agree_drive_alphas_to_the_bound():
    loss = DirichletNLL(smoothing=0.0)
    agreeing = np.tile([[1.0, 0.5, -1.0]], (5, 1))[None]
    values = [float(loss(agreeing, agreeing[:, 0] + shift)) for shift in (0, 5, 10, 20, 28)]
    assert (np.diff(values) < 0).all()
    assert_allclose(np.diff(values)[1:] / np.diff([5, 10, 20, 28]), -1, rtol=3e-3)  # -(classes - 1)/2 per ln alpha0
    logits = tf.Variable(agreeing[:, 0] + 40)  # beyond the bound nothing is gained
    with tf.GradientTape() as tape:
        value = loss(agreeing, logits)
    assert_allclose(np.sum(tape.gradient(value, logits)), 0.0, atol=0.1)
    assert np.isfinite(value)


def test_wrong_arguments():
    with pytest.raises(
        ConfigError, match=r"DirichletNLL's variant is 'booth', which isn't a variant. Did you mean 'both'"
    ):
        DirichletNLL(variant="booth")
    with pytest.raises(ConfigError, match=r"DirichletNLL's smoothing is 1.5. Allowed: from 0 to 1"):
        DirichletNLL(smoothing=1.5)
    with pytest.raises(ConfigError, match=r"smoothing is -0.1"):
        DirichletNLL(smoothing=-0.1)
