"""Oracles: the 50-digit values of golden.json, SciPy, mpmath, Monte Carlo."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy import special

from end2_tf import dirichlet

GOLDEN = json.loads((Path(__file__).parent / "golden" / "golden.json").read_text())
QUANTITIES = {
    "total": dirichlet.entropy,
    "knowledge": dirichlet.mutual_information,
    "total, few operations": lambda alphas: dirichlet.uncertainties(alphas)[0],
    "data, few operations": lambda alphas: dirichlet.uncertainties(alphas)[1],
    "knowledge, few operations": lambda alphas: dirichlet.uncertainties(alphas)[2],
    "rmi": dirichlet.reverse_mutual_information,
    "epkl": dirichlet.expected_pairwise_kl,
    "dentropy": dirichlet.differential_entropy,
    "expected_log": dirichlet.expected_log_probs,
}
DTYPES = ["float32", "float64"]
SPREAD = st.floats(-6, 8).map(lambda exponent: 10.0**exponent)


def numbers(texts, dtype="float64"):
    return np.array(texts, dtype=np.float64).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", GOLDEN["dirichlet"])
def test_golden_values(name, quantity, dtype):
    entry = GOLDEN["dirichlet"][name]
    got = QUANTITIES[quantity](numbers(entry["alphas"], dtype))
    rtol, atol = (1e-11, 1e-13) if dtype == "float64" else (5e-6, 1e-6)
    atol = atol if quantity in ("dentropy", "expected_log") else 0  # those two cross 0
    atol = 1e-14 if quantity.startswith("data") else atol  # a difference, where alpha0 is tiny
    assert got.dtype == dtype
    assert_allclose(got, numbers(entry[quantity.split(",")[0]]), rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", range(len(GOLDEN["kl"])))
def test_golden_kl(case, dtype):
    entry = GOLDEN["kl"][case]
    got = dirichlet.kl_divergence(numbers(entry["beta"], dtype), numbers(entry["alpha"], dtype))
    assert_allclose(got, float(entry["kl_beta_alpha"]), rtol=1e-11 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize(("dtype", "u_rtol", "w_atol"), [("float32", 2e-6, 1e-6), ("float64", 1e-14, 5e-15)])
def test_u_and_w_against_mpmath(dtype, u_rtol, w_atol):
    x = np.concatenate([np.logspace(-30, 12, 211), np.linspace(0.05, 20, 200)]).astype(dtype)
    with mpmath.workdps(50):
        exact = [mpmath.mpf(float(value)) for value in x]
        u = [float(v * (mpmath.digamma(v + 1) - mpmath.log(v))) for v in exact]
        stirling = [(v - 0.5) * mpmath.log(v) - v + mpmath.log(2 * mpmath.pi) / 2 for v in exact]
        w = [float(mpmath.loggamma(v) - s) for v, s in zip(exact, stirling, strict=True)]
    assert_allclose(dirichlet.u(x), u, rtol=u_rtol)
    assert_allclose(dirichlet.w(x), w, rtol=u_rtol, atol=w_atol)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 5e-15)])
def test_digamma_and_log_gamma_follow_from_u_and_w(dtype, tolerance):
    x = np.logspace(-6, 8, 2001).astype(dtype).astype(np.float64)
    u, w = dirichlet.u(x.astype(dtype)).numpy(), dirichlet.w(x.astype(dtype)).numpy()
    digamma, log_gamma = special.digamma(x), special.gammaln(x)
    assert np.max(np.abs(np.log(x) - (1 - u) / x - digamma) / np.maximum(1, np.abs(digamma))) < tolerance
    stirling = (x - 0.5) * np.log(x) - x + 0.5 * np.log(2 * np.pi)
    assert np.max(np.abs(stirling + w - log_gamma) / np.maximum(1, np.abs(log_gamma))) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 2e-15)])
def test_trigamma_against_mpmath(dtype, tolerance):
    x = np.concatenate([np.logspace(-13, 13, 105), np.linspace(0.05, 20, 100)]).astype(dtype).reshape(5, 41)
    with mpmath.workdps(50):
        exact = np.array([float(mpmath.psi(1, mpmath.mpf(float(value)))) for value in x.flat]).reshape(x.shape)
    got = dirichlet.trigamma(x)
    assert got.dtype == dtype
    assert_allclose(got, exact, rtol=tolerance)


def test_slopes_of_u_and_w_against_scipy():
    x = tf.constant(np.logspace(-20, 8, 1001))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        u, w = dirichlet.u(x), dirichlet.w(x)
    xs = x.numpy()
    small = xs < 1e3  # beyond, SciPy's own difference has lost its digits
    slope = special.digamma(xs + 1) - np.log(xs) + xs * special.polygamma(1, xs + 1) - 1
    assert_allclose(tape.gradient(u, x).numpy()[small], slope[small], rtol=1e-9, atol=1e-12)
    assert_allclose(tape.gradient(u, x).numpy()[~small], 1 / (12 * xs[~small] ** 2), rtol=1e-6)
    slope = special.digamma(xs) - np.log(xs) + 0.5 / xs
    assert_allclose(tape.gradient(w, x).numpy()[small], slope[small], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("x", [0.0, 1e-45, 1e-38, 1e-30, 1.0, 4.0, 8.0, 1e30, 3e38])
def test_u_and_w_and_their_slopes_are_finite(x, dtype):
    value = tf.constant([x], dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(value)
        results = [dirichlet.u(value), dirichlet.w(value)]
    assert np.isfinite(results).all()
    assert 0 <= results[0] <= 0.5
    assert np.isfinite([tape.gradient(result, value) for result in results]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "alphas", [(3.0, 1e-7), (0.66, 8.7e-8), (2.6, 8.5e-8), (40.0, 1e-3, 1e-6), (3e5, 2.0, 1e-4), (0.1, 2.9e-4)]
)
def test_confident_predictions_keep_their_knowledge_uncertainty(alphas, dtype):
    alphas = np.array(alphas, dtype)
    with mpmath.workdps(50):
        exact = [mpmath.mpf(float(a)) for a in alphas]
        alpha0 = mpmath.fsum(exact)
        total = -mpmath.fsum(a / alpha0 * mpmath.log(a / alpha0) for a in exact)
        data = mpmath.digamma(alpha0 + 1) - mpmath.fsum(a / alpha0 * mpmath.digamma(a + 1) for a in exact)
    assert_allclose(
        dirichlet.mutual_information(alphas), float(total - data), rtol=5e-6 if dtype == "float32" else 2e-13
    )
    assert_allclose(dirichlet.entropy(alphas), float(total), rtol=1e-6 if dtype == "float32" else 1e-14)
    if dtype == "float32":
        assert_allclose(dirichlet.uncertainties(alphas), [float(v) for v in (total, data, total - data)], rtol=2e-7)


@pytest.mark.parametrize("alphas", [(0.3, 0.4), (2.0, 3.0, 5.0), (0.9, 30.0, 4.0, 1.1), (50.0,) * 20])
def test_differential_entropy_against_scipy(alphas):
    assert_allclose(dirichlet.differential_entropy(np.array(alphas)), scipy.stats.dirichlet.entropy(alphas), rtol=1e-12)


def test_differential_entropy_of_the_flat_dirichlet_is_the_largest():
    for num_classes in (2, 3, 10, 1000):
        flat = dirichlet.differential_entropy(np.ones(num_classes))
        assert_allclose(flat, -special.gammaln(num_classes), rtol=1e-12, atol=1e-12)
        assert dirichlet.differential_entropy(np.full(num_classes, 1.1)) < flat
        assert dirichlet.differential_entropy(np.full(num_classes, 0.9)) < flat


@pytest.mark.parametrize("alphas", [(2.0, 3.0, 5.0), (0.4, 0.4, 3.0, 6.0)])
def test_closed_forms_against_monte_carlo(alphas):
    rng = np.random.default_rng(0)
    draws, other = rng.dirichlet(alphas, (2, 200_000))
    mean = np.array(alphas) / np.sum(alphas)
    log_draws = np.log(draws)
    samples = {
        dirichlet.mutual_information: np.sum(draws * (log_draws - np.log(mean)), -1),  # KL(π ‖ mean)
        dirichlet.reverse_mutual_information: np.sum(mean * (np.log(mean) - log_draws), -1),
        dirichlet.expected_pairwise_kl: np.sum(other * (np.log(other) - log_draws), -1),
        dirichlet.differential_entropy: -scipy.stats.dirichlet.logpdf(draws.T, alphas),
    }
    for quantity, values in samples.items():
        standard_error = values.std() / np.sqrt(len(values))
        assert abs(float(quantity(np.array(alphas))) - values.mean()) < 4 * standard_error, quantity.__name__
    assert_allclose(dirichlet.expected_log_probs(np.array(alphas)), log_draws.mean(0), atol=0.05)


@given(arrays(np.float64, (3, 4), elements=SPREAD))
@settings(deadline=None, max_examples=40)
def test_s_is_between_its_limits(alphas):
    s = dirichlet.s_sum(alphas).numpy()
    assert np.all(s > 0)
    assert np.all(s < 1.5)


@given(arrays(np.float64, (2, 5), elements=SPREAD), st.floats(-12, 3))
@settings(deadline=None, max_examples=40)
def test_kl_divergence_is_zero_only_between_equals(alphas, log_step):
    # The error of float64 is that of w, of the size of a few 1e-15 per class.
    assert_allclose(dirichlet.kl_divergence(alphas, alphas), 0, atol=1e-14)
    beta = alphas * np.array([1 + 10**log_step, 1, 1, 1, 1])
    assert np.all(dirichlet.kl_divergence(beta, alphas) > -1e-13)
    if log_step > -4 and np.all(alphas > 1e-2):
        assert np.all(dirichlet.kl_divergence(beta, alphas) > 0)


@given(arrays(np.float64, (2, 3), elements=st.floats(0.05, 300)))
@settings(deadline=None, max_examples=40)
def test_kl_divergence_against_the_textbook_formula(pair):
    beta, alphas = pair
    expected_log = special.digamma(beta) - special.digamma(beta.sum())
    log_norm = special.gammaln(alphas).sum() - special.gammaln(alphas.sum())
    negative_log_norm = special.gammaln(beta.sum()) - special.gammaln(beta).sum()
    want = log_norm + negative_log_norm + np.sum((beta - alphas) * expected_log)
    assert_allclose(dirichlet.kl_divergence(beta, alphas), want, rtol=1e-9, atol=1e-10)


PAIRS = [
    ([101.0, 1, 1], [1.0, 1, 1]),  # a student whose logits start at 0, and the target of a prior network
    ([1.0, 1, 1], [101.0, 1, 1]),
    ([2.0, 3, 5], [2.0, 3, 5]),
    ([1e-3, 5, 1], [1e-3, 4, 9]),
]


@pytest.mark.parametrize(("beta", "alphas"), PAIRS)
def test_gradients_of_the_kl_divergence_are_the_closed_ones(beta, alphas):
    pair = [tf.constant(values, tf.float64) for values in (beta, alphas)]
    with tf.GradientTape() as tape:
        tape.watch(pair)
        divergence = dirichlet.kl_divergence(*pair)
    b, a = np.array(beta), np.array(alphas)
    expected_logs = [special.digamma(values) - special.digamma(values.sum()) for values in (b, a)]
    slopes = (b - a) * special.polygamma(1, b) - (b.sum() - a.sum()) * special.polygamma(1, b.sum())
    for got, want in zip(tape.gradient(divergence, pair), (slopes, expected_logs[1] - expected_logs[0]), strict=True):
        assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(2, 12)), elements=st.floats(-60, 60, width=32)))
def test_uncertainties_in_few_operations_are_those_of_float64(log_alphas):
    alphas = np.exp(log_alphas)
    wanted = [values.numpy() for values in dirichlet.uncertainties(alphas.astype(np.float64))]
    bounds = [2e-7 * want + 1e-37 for want in wanted]
    bounds[1] += 1e-8 * wanted[0]  # data uncertainty is a difference
    for got, want, bound in zip(dirichlet.uncertainties(alphas), wanted, bounds, strict=True):
        assert got.dtype == tf.float32
        assert np.all(np.abs(got - want) <= bound)


def test_uncertainties_have_few_operations_unless_all_must_be_float32():
    spec = tf.TensorSpec((None, 10), tf.float32)

    def trace():
        graph = tf.function(dirichlet.uncertainties, [spec], autograph=False).get_concrete_function().graph
        return [op for op in graph.get_operations() if op.type != "Const"]

    few = trace()
    with dirichlet.single_precision():
        single = trace()
    assert len(few) < 90 < len(single)
    assert any(output.dtype == tf.float64 for op in few for output in op.outputs)
    assert not any(output.dtype == tf.float64 for op in single for output in op.outputs)
    assert len(trace()) == len(few)


def test_gradients_of_uncertainties_are_those_of_float64():
    alphas = np.array([[2.0, 3.0, 5.0], [0.2, 12.0, 0.7], [30.0, 0.01, 0.02], [5.0, 5.0, 5.0], [1e4, 0.5, 0.1]])
    gradients = []
    for dtype in DTYPES:
        x = tf.constant(alphas, dtype)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            found = dirichlet.uncertainties(x)
        gradients.append([tape.gradient(values, x).numpy() for values in found])
    for got, want in zip(*gradients, strict=True):
        assert_allclose(got, want, rtol=1e-5, atol=1e-7 * np.abs(want).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_eager_graph_and_xla_agree(dtype):
    rng = np.random.default_rng(1)
    alphas = tf.constant(10 ** rng.uniform(-6, 8, (20, 5)), dtype)
    beta = tf.constant(10 ** rng.uniform(-3, 5, (20, 5)), dtype)
    rtol = 1e-5 if dtype == "float32" else 1e-12

    def compute(alphas):
        # The other quantities are compiled in tests/test_uncertainty.py.
        return [dirichlet.expected_log_probs(alphas), dirichlet.kl_divergence(beta, alphas)]

    eager = compute(alphas)
    for function in (tf.function(compute, autograph=False), tf.function(compute, autograph=False, jit_compile=True)):
        for got, want in zip(function(alphas), eager, strict=True):
            assert_allclose(got, want, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_finite(dtype):
    alphas = tf.constant([[1e-8, 1e8], [1e-8, 1e-8], [1e8, 1e8], [3.0, 1e-7], [4.0, 8.0], [1.0, 1.0]], dtype)
    quantities = [*QUANTITIES.values(), lambda a: dirichlet.kl_divergence(a, a[::-1]), dirichlet.s_sum]
    for quantity in quantities:
        with tf.GradientTape() as tape:
            tape.watch(alphas)
            result = quantity(alphas)
        gradient = tape.gradient(result, alphas)
        assert np.isfinite(result).all()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("quantity", ["knowledge", "rmi", "total", "dentropy"])
def test_gradients_against_finite_differences(quantity):
    function = QUANTITIES[quantity]
    alphas = np.array([[2.0, 3.0, 5.0], [0.2, 12.0, 0.7], [30.0, 0.01, 0.02], [5.0, 5.0, 5.0], [1e4, 0.5, 0.1]])
    x = tf.constant(alphas)
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = function(x)
    gradient = tape.gradient(result, x).numpy()
    for index in range(3):
        step = np.zeros_like(alphas)
        step[:, index] = 1e-4 * alphas[:, index]
        difference = (function(alphas + step) - function(alphas - step)).numpy() / (2 * step[:, index])
        assert_allclose(gradient[:, index], difference, rtol=1e-6, atol=1e-9)
