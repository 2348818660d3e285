from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from end2_tf.data.images import adapt_images, pixel_moments, resize
from end2_tf.errors import DataError


@pytest.fixture
def colour():
    return np.random.default_rng(0).integers(0, 256, (5, 12, 10, 3), np.uint8)


def test_what_fits_is_not_copied(colour):
    assert adapt_images(colour, (12, 10, 3)) is colour


def test_grey_becomes_colour_by_repeating(colour):
    grey = colour[..., :1]
    adapted = adapt_images(grey, (12, 10, 3))
    assert adapted.dtype == np.uint8
    for channel in range(3):
        assert_array_equal(adapted[..., channel], grey[..., 0])


def test_colour_becomes_grey_by_luma(colour):
    adapted = adapt_images(colour, (12, 10, 1))
    assert adapted.shape == (5, 12, 10, 1)
    assert_allclose(adapted[..., 0], colour @ np.array([0.299, 0.587, 0.114]), atol=0.51)
    white = np.full((1, 2, 2, 3), 255, np.uint8)
    assert (adapt_images(white, (2, 2, 1)) == 255).all()


def test_halving_averages_instead_of_skipping():
    stripes = np.zeros((1, 16, 16, 1), np.uint8)
    stripes[:, :, ::2] = 200
    small = resize(stripes, 8, 8)
    assert_allclose(small, 100, atol=26)  # without antialiasing, 0 or 200 throughout, or an alias
    assert_allclose(small[:, :, 1:-1], 100, atol=1)


def test_size_and_channels_together(colour):
    assert adapt_images(colour, (32, 28, 1)).shape == (5, 32, 28, 1)
    assert adapt_images(colour[..., :1], (6, 5, 3)).shape == (5, 6, 5, 3)
    flat = np.full((2, 9, 7, 1), 37, np.uint8)
    assert (adapt_images(flat, (32, 32, 3)) == 37).all()


def test_several_channels_keep_their_order():
    planes = np.broadcast_to(np.array([10, 20, 30, 40], np.uint8), (2, 6, 6, 4))
    assert_array_equal(resize(planes, 3, 3)[0, 1, 1], [10, 20, 30, 40])


def test_other_channels_dont_convert(colour):
    with pytest.raises(DataError, match=r"images have 3 channels where 4 are needed\. Only grey"):
        adapt_images(colour, (12, 10, 4))


def test_pixel_moments_are_numpys(colour):
    mean, std = pixel_moments([colour])
    assert_allclose(mean, colour.astype(float).mean((0, 1, 2)), rtol=1e-12)
    assert_allclose(std, colour.astype(float).std((0, 1, 2)), rtol=1e-12)
    constant = colour.copy()
    constant[..., 1] = 9
    assert pixel_moments([constant])[1][1] == 1
