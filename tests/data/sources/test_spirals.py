from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate

from end2_tf.data.sources import spirals


def density(point, k, noise):
    """The class's density by adaptive quadrature of another kind, in another variable, piece by piece."""

    def integrand(u):
        t = 6 * np.pi * np.sqrt(u)
        angle = t + 2 * np.pi * k / 3
        squared = (point[0] + np.cos(angle) * t**2) ** 2 + (point[1] - np.sin(angle) * t**2) ** 2
        variance = noise**2 * t**3
        return np.exp(-squared / (2 * variance)) / (2 * np.pi * variance)

    edges = np.linspace(1e-6, 1, 60)
    return sum(integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-9)[0] for a, b in itertools.pairwise(edges))


def test_points_are_the_authors():
    points = spirals.load(noise=0.1, generator_seed=100).train
    expected = [[-46.6856, 181.5188], [-71.8451, -57.8666], [327.8928, -34.5490]]  # REFERENCE 5.1, rows 0, n and 2n
    assert_allclose(points.inputs[[0, 1000, 2000]], expected, atol=5e-5)
    assert points.inputs.dtype == np.float32
    assert points.labels[[0, 999, 1000, 2999]].tolist() == [0, 0, 1, 2]


def test_splits_use_consecutive_seeds():
    splits = spirals.load(
        num_per_class=5,
        num_validation_per_class=6,
        num_test_per_class=7,
        num_calibration_per_class=8,
        generator_seed=3,
    )
    assert [len(splits.train), len(splits.validation), len(splits.test), len(splits.calibration)] == [15, 18, 21, 24]
    assert_allclose(splits.test.inputs, spirals.generate(7, 0.4, 5).inputs)
    assert_allclose(splits.calibration.inputs, spirals.generate(8, 0.4, 6).inputs)
    assert splits.class_names == ("arm 1", "arm 2", "arm 3")


@pytest.mark.parametrize("noise", [0.1, 0.25, 0.4])
def test_posterior_is_the_integral(noise):
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(size=(4, 2)) * 120, rng.normal(size=(1, 2)), [[300.0, -200.0]]])
    exact = np.array([[density(point, k, noise) for k in range(3)] for point in points])
    assert_allclose(spirals.posterior(points, noise=noise), exact / exact.sum(1, keepdims=True), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("noise", "error"), [(0.1, 0.0), (0.25, 0.022), (0.35, 0.08), (0.4, 0.117)])
def test_bayes_error(noise, error):
    test = spirals.load(noise=noise, num_test_per_class=10000 if error else 1000).test
    probs = spirals.posterior(test.inputs, noise=noise)
    wrong = probs.argmax(1) != test.labels
    assert abs(wrong.mean() - error) < 4 * np.sqrt(max(error, 1e-4) / 6000)  # the reference is from 6000 points
    assert abs(wrong.mean() - (1 - probs.max(1)).mean()) < 4 * np.sqrt(max(error, 1e-4) / 30000)  # calibrated


def test_posterior_at_extremes():
    points = np.array([[0.0, 0.0], [1e-6, 0.0], [800.0, 0.0], [1e5, -1e5]])
    probs = spirals.posterior(points, noise=0.25)
    assert np.isfinite(probs).all()
    assert_allclose(probs.sum(1), 1, atol=1e-12)
    assert_allclose(probs[0], 1 / 3, atol=1e-12)  # the arms start there, by symmetry none is likelier


def test_no_posterior_without_noise():
    assert spirals.load(noise=0.0, num_test_per_class=10).posterior is None


def test_fingerprint_follows_options():
    options = {"noise": 0.4, "generator_seed": 100}
    assert spirals.fingerprint(**options) == spirals.fingerprint(**options)
    assert spirals.fingerprint(**options) != spirals.fingerprint(**options | {"noise": 0.35})
