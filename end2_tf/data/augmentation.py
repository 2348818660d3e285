"""Random changes of inputs, drawn as tables: row i of view v's table is what that view does to example i.

A table depends on (seed, view) alone, and its first rows don't depend on how many follow. So view v of example i is one
image, whoever asks for it, in whatever order and however often training was interrupted.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from end2_tf.config import Augmentation

_IMAGES, _FEATURES = 1, 2  # keep the two kinds of table apart where seed and view agree


def draws(augmentation: Augmentation, seed: int, view: int, num_examples: int) -> np.ndarray:
    """Draws one view's changes of images.

    Args:
        augmentation: What may change.
        seed: Of the experiment, at least 0.
        view: Number of the view, at least 0.
        num_examples: Rows wanted.

    Returns:
        (num_examples, 4) float32: flipped (0 or 1), shift down and shift right in whole pixels, rotation in radians
        (positive turns right towards down, clockwise as seen). Each column has draws of its own, so that switching one
        change on or off leaves the others as they were.
    """
    uniform = np.random.default_rng([seed, view, _IMAGES]).random((num_examples, 4))
    table = np.zeros((num_examples, 4), np.float32)
    if augmentation.flip:
        table[:, 0] = uniform[:, 0] < 0.5
    table[:, 1:3] = np.floor(uniform[:, 1:3] * (2 * augmentation.shift + 1)) - augmentation.shift
    table[:, 3] = np.deg2rad(augmentation.rotation) * (2 * uniform[:, 3] - 1)
    return table


def jitter_table(seed: int, view: int, num_examples: int, num_features: int) -> np.ndarray:
    """Draws one view's changes of features: (num_examples, num_features) float32 from N(0, 1), to be scaled."""
    rng = np.random.default_rng([seed, view, _FEATURES])
    return rng.standard_normal((num_examples, num_features), np.float32)


def apply_images(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Flips, then shifts, then rotates each image about its centre, in one resampling.

    Bilinear, and exact where nothing rotates. Beyond the border the image is mirrored, its edge pixels twice
    (`np.pad(mode="symmetric")`).

    Args:
        images: (batch, height, width, channels) uint8.
        draws: (batch, 4), rows of `draws`.

    Returns:
        uint8 images of the same shape.
    """
    images = tf.convert_to_tensor(images)
    flip, down, right, angle = tf.unstack(tf.cast(draws, tf.float32), axis=1)
    size = tf.shape(images)[1:3]
    centre_y, centre_x = tf.unstack((tf.cast(size, tf.float32) - 1) / 2)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The op wants each output pixel's place in the input: turn back, shift back, mirror back.
    from_x = centre_x - cos * centre_x - sin * centre_y - right
    from_y = centre_y + sin * centre_x - cos * centre_y - down
    sign = 1 - 2 * flip
    offset = flip * 2 * centre_x
    zero = tf.zeros_like(angle)
    transforms = tf.stack([sign * cos, sign * sin, sign * from_x + offset, -sin, cos, from_y, zero, zero], axis=1)
    changed = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),  # on uint8 the op cuts fractions off, which darkens by half a level
        transforms=transforms,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    changed.set_shape(images.shape)  # the op forgets it in graphs
    return tf.cast(tf.round(changed), tf.uint8)
