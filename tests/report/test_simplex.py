"""The Dirichlet's density on the triangle, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from scipy.stats import dirichlet

from end2_tf.report import simplex


@pytest.mark.parametrize("alphas", [[1, 1, 1], [0.1, 0.1, 0.1], [2, 3, 5], [0.05, 40, 3], [1e5, 2e5, 3e4]])
def test_density_is_the_dirichlets_over_the_flat_one(alphas: list[float]):
    points = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    expected = dirichlet(alphas).logpdf(points.T) - dirichlet([1, 1, 1]).logpdf(points.T)
    assert_allclose(simplex.density(np.array(alphas), np.log(points)), expected, rtol=1e-9, atol=1e-9)


def _drawn(alphas: list[float]) -> np.ndarray:
    image = simplex._draw_density(Figure().subplots(), np.array(alphas))
    return np.ma.filled(image.get_array(), np.nan)


@pytest.mark.parametrize("alphas", [[0.1, 0.1, 0.1], [3e4, 6e4, 1e4], [1e5, 0.1, 0.1], [1e3, 1e3, 0.1], [1e-3, 1, 1e6]])
def test_picture_is_finite_inside_the_triangle(alphas: list[float]):
    image = _drawn(alphas)
    inside = np.isfinite(image)
    assert inside.mean() == pytest.approx(0.5, abs=0.02)  # the triangle's share of its box
    assert np.all(image[inside] > 0)


def test_a_narrow_peak_is_visible_and_at_the_mean():
    alphas = np.array([3e4, 6e4, 1e4])
    image = _drawn(list(alphas))
    dense = np.argwhere(image > 10.0)
    assert 4 <= len(dense) <= 60
    rows, columns = image.shape
    x, y = alphas / alphas.sum() @ simplex.CORNERS
    centre = dense.mean(axis=0) + 0.5
    assert_allclose(centre / [rows, columns], [y / simplex.CORNERS[2, 1], x], atol=0.01)


def test_flat_dirichlet_is_one_everywhere():
    image = _drawn([1, 1, 1])
    assert_allclose(image[np.isfinite(image)], 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.596, "0.596"),
        (62.14, "62.1"),
        (123.4, "123"),
        (16123.0, "16,100"),
        (1.73e6, "1.7 × 10⁶"),
        (2.04e12, "2.0 × 10¹²"),
    ],
)
def test_rounded(value: float, text: str):
    assert simplex._rounded(value) == text


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_any_channels_are_drawn(channels: int, dtype: type):
    value = np.random.default_rng(0).integers(0, 256, (4, 6, channels)).astype(dtype)
    ax = Figure().subplots()
    simplex._draw_input(ax, None, value)
    (image,) = ax.get_images()
    assert image.get_array().shape == ((4, 6) if channels < 3 else (4, 6, 3))
