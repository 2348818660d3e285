from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from end2_tf.config import Augmentation
from end2_tf.data.augmentation import apply_images, change_images, draws, jitter_table, mixtures
from end2_tf.data.views import Views
from end2_tf.errors import ConfigError

ALL = Augmentation(flip=True, shift=4, rotation=15.0, scale=0.2, invert=0.5)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), np.uint8)


def changed(images, *row):
    table = np.tile(np.array([*row, 0, 0, 0][:7], np.float32), (len(images), 1))
    result = apply_images(images, table).numpy()
    assert_array_equal(change_images(images, table), result)  # by indexing where nothing is resampled
    return result


def shifted(images, down, right, reach=12):
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    height, width = images.shape[1:3]
    return padded[:, reach - down : reach - down + height, reach - right : reach - right + width]


def test_nothing_drawn_changes_nothing(images):
    result = changed(images, 0, 0, 0, 0)
    assert result.dtype == np.uint8
    assert_array_equal(result, images)


def test_flip_is_numpys(images):
    assert_array_equal(changed(images, 1, 0, 0, 0), np.flip(images, axis=2))
    odd = images[:, :, :11]
    assert_array_equal(changed(odd, 1, 0, 0, 0), np.flip(odd, axis=2))


@pytest.mark.parametrize(("down", "right"), [(3, 0), (-2, 0), (0, 4), (0, -1), (4, -4), (-11, 12)])
def test_shift_is_a_mirrored_border(images, down, right):
    assert_array_equal(changed(images, 0, down, right, 0), shifted(images, down, right))


def test_a_shift_that_is_not_whole_is_any_within_it():
    table = draws(Augmentation(shift=1.5), (0, 0), 2000)
    assert np.abs(table[:, 1:3]).max() <= 1.5
    assert (table[:, 1:3] % 1 > 0).all()
    assert_allclose(table[:, 1:3].std(0), 1.5 / np.sqrt(3), rtol=0.05)
    assert set(np.unique(draws(Augmentation(shift=1.0), (0, 0), 2000)[:, 1:3])) == {-1.0, 0.0, 1.0}


def test_half_a_pixel_is_between_two(images):
    down = changed(images, 0, 0.5, 0, 0).astype(float)
    assert_allclose(down, (shifted(images, 0, 0).astype(float) + shifted(images, 1, 0)) / 2, atol=0.51)


def test_flip_comes_before_shift(images):
    assert_array_equal(changed(images, 1, 2, -3, 0), shifted(np.flip(images, axis=2), 2, -3))


def test_a_quarter_turn_is_clockwise_and_last(images):
    turned = changed(images, 1, 2, -3, np.pi / 2)
    assert_array_equal(turned, np.rot90(shifted(np.flip(images, axis=2), 2, -3), k=-1, axes=(1, 2)))


@pytest.mark.parametrize("angle", [0.26, -0.1])
def test_rotation_agrees_with_scipy(images, angle):
    cos, sin = np.cos(angle), np.sin(angle)
    back = np.array([[cos, -sin], [sin, cos]])  # (row, column) of the output → of the input
    centre = np.array([5.5, 5.5])
    for image, result in zip(images, changed(images, 0, 0, 0, angle), strict=True):
        for channel in range(3):
            plane = image[..., channel].astype(float)
            expected = ndimage.affine_transform(plane, back, centre - back @ centre, order=1, mode="reflect")
            assert_allclose(result[..., channel], expected, atol=0.51)  # rounded, not cut off


def test_each_image_has_its_own_change(images):
    rows = np.zeros((3, 7), np.float32)
    rows[1, 0] = rows[2, 1] = 1
    result = apply_images(images, rows).numpy()
    assert_array_equal(result[0], images[0])
    assert_array_equal(result[1], np.flip(images[1], axis=1))
    assert_array_equal(result[2], shifted(images[2:], 1, 0)[0])


def test_graph_is_eager(images):
    table = draws(ALL, (0, 0), 3)
    assert_array_equal(tf.function(apply_images)(images, table), apply_images(images, table))


def test_graph_knows_the_shape():
    signature = tf.TensorSpec((None, 12, 10, 3), tf.uint8), tf.TensorSpec((None, 7), tf.float32)
    assert tf.function(apply_images).get_concrete_function(*signature).output_shapes == (None, 12, 10, 3)


def test_empty_batch(images):
    assert apply_images(images[:0], np.zeros((0, 7), np.float32)).shape == (0, 12, 12, 3)


def test_a_view_is_a_function_of_seed_view_and_example():
    table = draws(ALL, (5, 2), 100)
    assert_array_equal(draws(ALL, (5, 2), 100), table)
    assert_array_equal(draws(ALL, (5, 2), 30), table[:30])  # however many examples follow
    assert (draws(ALL, (5, 3), 100) != table).any()
    assert (draws(ALL, (6, 2), 100) != table).any()
    assert (draws(ALL, (2, 5), 100) != table).any()


def test_changes_are_drawn_independently():
    table = draws(ALL, (0, 0), 50)
    assert_array_equal(draws(Augmentation(flip=True), (0, 0), 50)[:, 0], table[:, 0])
    assert_array_equal(draws(Augmentation(rotation=15.0), (0, 0), 50)[:, 3], table[:, 3])
    assert not draws(Augmentation(), (0, 0), 50).any()


def test_draws_are_uniform():
    table = draws(ALL, (1, 0), 90000)
    assert table.dtype == np.float32
    assert abs(table[:, 0].mean() - 0.5) < 0.01
    for column in (1, 2):
        values, counts = np.unique(table[:, column], return_counts=True)
        assert_array_equal(values, np.arange(-4, 5))
        assert_allclose(counts, 10000, rtol=0.05)
    reach = np.deg2rad(15)
    assert_allclose([table[:, 3].min(), table[:, 3].max()], [-reach, reach], rtol=1e-3)
    assert abs(np.corrcoef(table.T) - np.eye(7)).max() < 0.02


def test_jitter_is_standard_normal_and_numbered():
    table = jitter_table((3, 1), 20000, 4)
    assert table.dtype == np.float32
    assert_allclose(table.mean(0), 0, atol=0.03)
    assert_allclose(table.std(0), 1, atol=0.03)
    assert_array_equal(jitter_table((3, 1), 500, 4), table[:500])
    assert (jitter_table((3, 2), 500, 4) != table[:500]).all(1).all()


@pytest.mark.parametrize(("taller", "wider"), [(0.4, 0.0), (0.0, -0.3), (0.2, 0.2)])
def test_enlargement_agrees_with_scipy(images, taller, wider):
    back = np.diag([np.exp(-taller), np.exp(-wider)])  # (row, column) of the output → of the input
    centre = np.array([5.5, 5.5])
    for image, result in zip(images, changed(images, 0, 0, 0, 0, taller, wider, 0), strict=True):
        plane = image[..., 0].astype(float)
        expected = ndimage.affine_transform(plane, back, centre - back @ centre, order=1, mode="reflect")
        assert_allclose(result[..., 0], expected, atol=0.51)


def test_inversion_comes_last(images):
    assert_array_equal(changed(images, 1, 2, 0, 0, 0, 0, 1), 255 - changed(images, 1, 2, 0, 0))


def test_many_images_change_as_few_do():
    many = np.random.default_rng(1).integers(0, 256, (5000, 6, 6, 1), np.uint8)
    for augmentation in (Augmentation(flip=True, shift=2, invert=0.3), ALL):
        table = draws(augmentation, (3, 1), 5000)
        assert_array_equal(change_images(many, table)[4990:], apply_images(many[4990:], table[4990:]))


@pytest.mark.parametrize("share", [0.0, 0.5])  # of examples left as they are: of mixed-up ones
def test_floating_point_images_keep_their_values(share):
    images = np.random.default_rng(0).random((20, 8, 8, 3), np.float32)
    changes = {"rotation": 10.0, "scale": 0.1, "shift": 0.5}
    table = draws(Augmentation(**changes), (0, 0), 20)
    changed = change_images(images, table)
    assert changed.dtype == np.float32
    wide = change_images(np.rint(255 * images).astype(np.uint8), table)
    assert_allclose(255 * changed, wide, atol=1.01)
    views = Views(Augmentation(share=1 - share, mixup=share, **changes), images, 0)
    assert views.array(0).dtype == np.float32
    assert len(np.unique(views.array(0))) > 1000
    with pytest.raises(ConfigError, match=r"augmentation.invert is 0.5, but the images are float32"):
        Views(Augmentation(invert=0.5), images, 0)


def test_mixtures_have_their_share_and_spread():
    partners, weights = mixtures(0.5, (0, 3), 40000, 17)
    mixed = weights < 1
    assert mixed.mean() == pytest.approx(0.5, abs=0.01)
    assert weights[mixed].mean() == pytest.approx(0.5, abs=0.01)
    assert weights[mixed].std() == pytest.approx(12**-0.5, abs=0.01)
    assert set(partners) == set(range(17))
    again = mixtures(0.5, (0, 3), 100, 17)
    assert_array_equal(again[0], partners[:100])
    assert (mixtures(0.0, (0, 3), 100, 17)[1] == 1).all()
