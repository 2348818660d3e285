"""Random changes of inputs, drawn as tables: row i of view v's table is what that view does to example i.

A table depends on its key alone, (seed, view) or (seed, view, shard), and its first rows don't depend on how many
follow. So view v of example i is one image, whoever asks for it, in whatever order and however often training was
interrupted.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from end2_tf.config import Augmentation

Key = tuple[int, ...]

_IMAGES, _FEATURES, _SCALES, _MIXTURES, _CHANGED = (
    1,
    2,
    3,
    4,
    5,
)  # keep the kinds of table apart where seed and view agree
NUM_CHANGES = 7  # columns of an image's change
_CHUNK = 4096  # images resampled at a time


def draws(augmentation: Augmentation, key: Key, num_examples: int) -> np.ndarray:
    """Draws one view's changes of images.

    Args:
        augmentation: What may change.
        key: Seed of the experiment, number of the view and, where examples are in shards, of the shard; none below 0.
        num_examples: Rows wanted.

    Returns:
        (num_examples, 7) float32: flipped (0 or 1), shift down and shift right in pixels, rotation in radians
        (positive turns right towards down, clockwise as seen), ln of the enlargement of height and of width, inverted
        (0 or 1). Each column has draws of its own, so that switching one change on or off leaves the others as they
        were.
    """
    uniform = np.random.default_rng([*key, _IMAGES]).random((num_examples, 4))
    scales = np.random.default_rng([*key, _SCALES]).random((num_examples, 3))
    table = np.zeros((num_examples, NUM_CHANGES), np.float32)
    if augmentation.flip:
        table[:, 0] = uniform[:, 0] < 0.5
    shift = augmentation.shift
    if float(shift).is_integer():
        table[:, 1:3] = np.floor(uniform[:, 1:3] * (2 * shift + 1)) - shift
    else:
        table[:, 1:3] = shift * (2 * uniform[:, 1:3] - 1)
    table[:, 3] = np.deg2rad(augmentation.rotation) * (2 * uniform[:, 3] - 1)
    table[:, 4:6] = augmentation.scale * (2 * scales[:, :2] - 1)
    table[:, 6] = scales[:, 2] < augmentation.invert
    return table


def jitter_table(key: Key, num_examples: int, num_features: int) -> np.ndarray:
    """Draws one view's changes of features: (num_examples, num_features) float32 from N(0, 1), to be scaled."""
    rng = np.random.default_rng([*key, _FEATURES])
    return rng.standard_normal((num_examples, num_features), np.float32)


def mixtures(share: float, key: Key, num_examples: int, num_partners: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws which examples are mixed up in a view, with whom and how much.

    Args:
        share: Of examples that are mixed, in [0, 1].
        key: As for `draws`.
        num_examples: Rows wanted.
        num_partners: Examples to choose partners from.

    Returns:
        Partners (num_examples,) int64, and the weight of an example itself (num_examples,) float32: 1 where it isn't
        mixed, else uniform in [0, 1] (mixup with Beta(1, 1); Zhang et al., 2018, arXiv:1710.09412).
    """
    uniform = np.random.default_rng([*key, _MIXTURES]).random((num_examples, 3))
    weights = np.where(uniform[:, 0] < share, uniform[:, 1], 1.0).astype(np.float32)
    return np.minimum((uniform[:, 2] * num_partners).astype(np.int64), num_partners - 1), weights


def changed(share: float, key: Key, num_examples: int) -> np.ndarray:
    """Draws which examples a view changes: (num_examples,) bool, of which about `share` are true."""
    return np.random.default_rng([*key, _CHANGED]).random(num_examples) < share


def change_images(images: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Changes many images as `apply_images` does; flips and whole shifts by indexing, which is ten times as fast.

    Args:
        images: (n, height, width, channels), uint8 or floating point; of the latter none is inverted.
        table: (n, 7), rows of `draws`.

    Returns:
        Images of the same shape and dtype.
    """
    if table[:, 3:6].any() or (table[:, 1:3] % 1).any():
        chunks = range(0, len(images), _CHUNK)
        return np.concatenate([apply_images(images[i : i + _CHUNK], table[i : i + _CHUNK]).numpy() for i in chunks])
    height, width = images.shape[1:3]
    flipped, down, right = (table[:, column].astype(np.int64)[:, None] for column in range(3))
    rows = _mirrored(np.arange(height) - down, height)
    columns = _mirrored(np.arange(width) - right, width)
    columns = np.where(flipped == 1, width - 1 - columns, columns)
    changed = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        number = np.arange(len(images[part]))[:, None, None]
        changed[part] = images[part][number, rows[part, :, None], columns[part, None, :]]
    inverted = table[:, 6] == 1
    changed[inverted] = 255 - changed[inverted]
    return changed


def _mirrored(places: np.ndarray, size: int) -> np.ndarray:
    """Returns places on a line of `size` pixels continued by mirroring, the edge pixels twice."""
    folded = places % (2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def apply_images(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Flips, shifts, rotates and enlarges each image about its centre, in one resampling; then inverts pixel values.

    Bilinear, and exact where nothing rotates or is enlarged and shifts are whole. Beyond the border the image is
    mirrored, its edge pixels twice (`np.pad(mode="symmetric")`).

    Args:
        images: (batch, height, width, channels), uint8 or floating point; of the latter none is inverted.
        draws: (batch, 7), rows of `draws`.

    Returns:
        Images of the same shape and dtype.
    """
    images = tf.convert_to_tensor(images)
    flip, down, right, angle, taller, wider, inverted = tf.unstack(tf.cast(draws, tf.float32), axis=1)
    size = tf.shape(images)[1:3]
    centre_y, centre_x = tf.unstack((tf.cast(size, tf.float32) - 1) / 2)
    # The op wants each output pixel's place in the input: shrink back, turn back, shift back, mirror back.
    along_x, along_y = tf.exp(-wider), tf.exp(-taller)
    xx, xy = tf.cos(angle) * along_x, tf.sin(angle) * along_y
    yx, yy = -tf.sin(angle) * along_x, tf.cos(angle) * along_y
    from_x = centre_x - xx * centre_x - xy * centre_y - right
    from_y = centre_y - yx * centre_x - yy * centre_y - down
    sign = 1 - 2 * flip
    offset = flip * 2 * centre_x
    zero = tf.zeros_like(angle)
    transforms = tf.stack([sign * xx, sign * xy, sign * from_x + offset, yx, yy, from_y, zero, zero], axis=1)
    changed = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),  # on uint8 the op cuts fractions off, which darkens by half a level
        transforms=transforms,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    changed.set_shape(images.shape)  # the op forgets it in graphs
    if images.dtype != tf.uint8:
        return tf.cast(changed, images.dtype)
    inverted = inverted[:, None, None, None]
    return tf.cast(tf.round(inverted * 255 + (1 - 2 * inverted) * changed), tf.uint8)
