from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import ndimage

from end2_tf.data import corruptions
from end2_tf.data.corruptions import KINDS, corrupt
from end2_tf.errors import ConfigError, DataError, ShapeError

FORMS = [(28, 28, 1), (32, 32, 3), (20, 33, 3), (96, 64, 1)]


def smooth(num, height, width, channels, seed=0):
    """Images of blobs on a slope: neither flat nor noise, in full range."""
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(rng.normal(size=(num, height, width, channels)), (0, 1.5, 1.5, 0))
    low, high = values.min((1, 2, 3), keepdims=True), values.max((1, 2, 3), keepdims=True)
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)


def kinds_for(channels):
    return [kind for kind in KINDS if channels == 3 or kind != "saturate"]


def roughness(images):
    return np.abs(np.diff(images.astype(float), axis=2)).mean()


def distance(images, others):
    return np.abs(images.astype(float) - others).mean()


def flat(value, *shape):
    return np.full((1, *shape), value, np.uint8)


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_takes_every_form_and_leaves_the_input_alone(form):
    images = smooth(2, *form)
    before = images.copy()
    for kind in [*kinds_for(form[2]), "all"]:
        changed = corrupt(images, kind, 3, 0)
        assert changed.shape == images.shape
        assert changed.dtype == np.uint8
        assert (changed != images).any(), kind
    assert_array_equal(images, before)


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_what_happens_follows_from_seed_kind_severity_and_index(kind):
    images = np.repeat(smooth(1, 32, 32, 3), 6, axis=0)
    changed = corrupt(images, kind, 4, 5)
    assert_array_equal(corrupt(images, kind, 4, 5), changed)
    assert_array_equal(corrupt(images[:2], kind, 4, 5), changed[:2])
    is_random = kind.endswith("noise") or kind in ("motion_blur", "fog", "elastic", "all")
    assert (corrupt(images, kind, 4, 6) != changed).any() == is_random
    assert (changed[0] != changed[1:]).any() == is_random


@pytest.mark.parametrize("channels", [1, 3])
def test_each_severity_is_farther_from_the_image(channels):
    images = smooth(40, 32, 32, channels)
    for kind in kinds_for(channels):
        distances = [distance(corrupt(images, kind, severity, 1), images) for severity in range(1, 6)]
        assert distances[0] > 0, kind
        assert (np.diff(distances) > 0).all(), (kind, distances)


def test_all_draws_each_kind_and_does_what_the_kind_does():
    images = smooth(300, 16, 16, 3)
    drawn = corruptions.kinds_for_each(300, 2, 9, is_colour=True)
    assert set(drawn) == set(KINDS)
    assert drawn[:100] == corruptions.kinds_for_each(100, 2, 9, is_colour=True)
    changed = corrupt(images, "all", 2, 9)
    for kind in ("fog", "jpeg", "impulse_noise"):
        chosen = np.flatnonzero(np.array(drawn) == kind)
        assert_array_equal(changed[chosen], corrupt(images, kind, 2, 9)[chosen])
    assert set(corruptions.kinds_for_each(300, 2, 9, is_colour=False)) == set(KINDS) - {"saturate"}


# Noise, on grey 128


def test_gaussian_noise_has_its_deviation():
    noise = corrupt(flat(128, 200, 200, 1), "gaussian_noise", 5, 0) / 255 - 128 / 255
    assert_allclose((noise.mean(), noise.std()), (0, 0.10), atol=2e-3)


def test_shot_noise_grows_with_the_root_of_brightness():
    deviations = [corrupt(flat(value, 200, 200, 1), "shot_noise", 3, 0).std() / 255 for value in (25, 100)]
    assert_allclose(deviations, np.sqrt(np.array([25, 100]) / 255 / 100), rtol=0.03)
    assert (corrupt(flat(0, 8, 8, 1), "shot_noise", 3, 0) == 0).all()


def test_impulse_noise_is_black_or_white():
    changed = corrupt(flat(128, 200, 200, 3), "impulse_noise", 5, 0)
    shares = [(changed == value).mean() for value in (0, 255, 128)]
    assert_allclose(shares, (0.035, 0.035, 0.93), atol=2e-3)


# Blur


@pytest.mark.parametrize("kind", ["defocus_blur", "gaussian_blur", "motion_blur", "zoom_blur", "pixelate"])
def test_blur_keeps_flat_images_and_smooths_others(kind):
    assert_allclose(corrupt(flat(77, 32, 32, 3), kind, 5, 0), 77)
    images = smooth(20, 32, 32, 3)
    roughnesses = [roughness(corrupt(images, kind, severity, 0)) for severity in (1, 5)]
    assert roughnesses[1] < roughnesses[0] < roughness(images)


def spread(kind, axis, size=65):
    """Returns how far a blur moves an edge along an axis, and the variance that it gives it."""
    image = flat(0, size, size, 1)
    image[(slice(None), *[slice(None)] * axis, slice(33, None))] = 255
    profile = np.moveaxis(corrupt(image, kind, 5, 0)[0, ..., 0].astype(float), axis, 0)[:, 32]
    slope, place = np.diff(profile), np.arange(size - 1) - 32
    mean = np.average(place, weights=slope)
    return mean, np.average((place - mean) ** 2, weights=slope)


def test_edges_spread():
    for axis in (0, 1):
        shift, variance = spread("defocus_blur", axis)
        radius = 1.6 * 65 / 32  # a disk's variance along an axis is r²/4, a pixel's own 1/12
        assert shift == pytest.approx(0, abs=0.01)
        assert variance == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.05)
        shift, variance = spread("gaussian_blur", axis)
        assert shift == pytest.approx(0, abs=0.01)
        assert variance == pytest.approx((65 / 32) ** 2, rel=0.05)
    (down, across), (right, along) = spread("motion_blur", 0), spread("motion_blur", 1)
    assert right > 2  # a trail to one side
    assert np.hypot(down, right) == pytest.approx(2.5 * 65 / 32 * np.sqrt(2 / np.pi), rel=0.15)
    assert along > across


def test_zoom_blur_leaves_the_centre_and_draws_the_rest_outwards():
    image = flat(0, 33, 33, 1)
    image[0, 16, 16] = image[0, 16, 28] = 240
    changed = corrupt(image, "zoom_blur", 5, 0)[0, ..., 0].astype(int)
    assert changed[16, 16] > 150
    assert changed[16, 29:].sum() > 3 * changed[16, 20:28].sum()


# Light and colour


def test_brightness_adds_to_the_largest_channel_and_keeps_the_colour():
    image = np.array([[[[100, 50, 0], [0, 0, 0], [250, 125, 125]]]], np.uint8)
    changed = corrupt(image, "brightness", 5, 0)[0, 0]
    added = 0.3 * 255
    assert_allclose(changed[0], [100 + added, 50 + added / 2, 0], atol=1)
    assert_allclose(changed[1], added, atol=1)
    assert_allclose(changed[2], [255, 127.5, 127.5], atol=1)
    assert_allclose(corrupt(flat(60, 4, 4, 1), "brightness", 2, 0), 60 + 25.5, atol=1)


def test_contrast_keeps_the_mean():
    images = smooth(5, 32, 32, 3)
    changed = corrupt(images, "contrast", 5, 0)
    assert_allclose(changed.mean((1, 2)), images.mean((1, 2)), atol=0.5)
    spread = [(values - values.mean((1, 2), keepdims=True)).std() for values in (changed.astype(float), images)]
    assert spread[0] == pytest.approx(0.15 * spread[1], rel=0.2)


def test_saturate_keeps_the_largest_channel_and_grey():
    image = np.array([[[[200, 180, 160], [90, 90, 90], [0, 0, 0], [200, 100, 0]]]], np.uint8)
    changed = corrupt(image, "saturate", 2, 0)[0, 0]
    assert_array_equal(changed, [[200, 160, 120], [90, 90, 90], [0, 0, 0], [200, 100, 0]])


def test_fog_veils():
    images = smooth(30, 32, 32, 3)
    changed = corrupt(images, "fog", 5, 0)
    assert roughness(changed) < 0.7 * roughness(images)
    assert changed[images < 30].mean() > images[images < 30].mean() + 60
    assert (corrupt(flat(0, 8, 8, 1), "fog", 5, 0) == 0).all()


# Geometry and compression


def test_elastic_moves_pixels_and_keeps_the_palette():
    image = smooth(1, 32, 32, 1)
    changed = corrupt(image, "elastic", 5, 0)
    assert_allclose(changed.mean(), image.mean(), atol=15)
    assert changed.std() > 0.7 * image.std()
    assert (corrupt(flat(50, 16, 16, 3), "elastic", 5, 0) == 50).all()


def test_pixelate_is_a_mosaic_of_block_means():
    image = smooth(1, 30, 30, 1)
    changed = corrupt(image, "pixelate", 3, 0)[0, ..., 0]  # 25 blocks of 1.2 pixels a side
    small = np.asarray(Image.fromarray(image[0, ..., 0]).resize((25, 25), Image.Resampling.BOX))
    assert_allclose(changed, small[np.ix_(*2 * [((np.arange(30) + 0.5) / 1.2).astype(int)])], atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels):
    images = smooth(2, 32, 32, channels)
    buffer = io.BytesIO()
    Image.fromarray(images[1].squeeze()).save(buffer, "JPEG", quality=65)
    expected = np.asarray(Image.open(buffer)).reshape(32, 32, channels)
    assert_array_equal(corruptions.compress(images, 65)[1], expected)
    assert_array_equal(corrupt(images, "jpeg", 2, 0)[1], expected)
    assert distance(corruptions.compress(images, 10), images) > distance(corruptions.compress(images, 90), images)


# Faults


@pytest.mark.parametrize(
    ("images", "kind", "severity", "seed", "error", "message"),
    [
        (flat(0, 4, 4, 1), "fogg", 1, 0, ConfigError, "kind is 'fogg', .*Did you mean 'fog'"),
        (flat(0, 4, 4, 1), "fog", 6, 0, ConfigError, "severity is 6. Allowed: 1, 2"),
        (flat(0, 4, 4, 1), "fog", 1, -1, ConfigError, "seed is -1"),
        (flat(0, 4, 4, 1), "saturate", 1, 0, DataError, "no colour"),
        (flat(0, 4, 4, 2), "fog", 1, 0, ShapeError, r"uint8 of shape \(1, 4, 4, 2\)"),
        (np.zeros((1, 4, 4, 1)), "fog", 1, 0, ShapeError, "images are float64"),
    ],
)
def test_unusable_arguments(images, kind, severity, seed, error, message):
    with pytest.raises(error, match=message):
        corrupt(images, kind, severity, seed)


def test_quality_out_of_range():
    with pytest.raises(ConfigError, match="quality is 101"):
        corruptions.compress(flat(0, 4, 4, 1), 101)


def test_no_images():
    assert corrupt(np.zeros((0, 8, 8, 3), np.uint8), "all", 1, 0).shape == (0, 8, 8, 3)
