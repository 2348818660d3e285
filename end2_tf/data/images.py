"""Images of one set in the shape of another's: channels, then size."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

from end2_tf.errors import DataError

_LUMA = np.array([19595, 38470, 7471], np.uint32)  # .299, .587, .114 (ITU-R BT.601) in 1/65536
_CHUNK = 4096  # images; bounds the 32-bit temporaries


def adapt_images(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns images with the height, width and channels that a model expects.

    Grey becomes colour by repeating, colour becomes grey by luma, and the size changes by antialiased bilinear
    resampling without keeping the aspect ratio. Images that fit already are returned as they are, not copied.

    Args:
        images: (n, h, w, c) uint8.
        shape: Height, width and channels wanted.

    Returns:
        (n, *shape) uint8.

    Raises:
        DataError: the channels differ and are not 1 and 3.
    """
    height, width, channels = shape
    if channels != images.shape[3] and {channels, images.shape[3]} != {1, 3}:
        raise DataError(
            f"images have {images.shape[3]} channels where {channels} are needed. Only grey (1) and colour (3) convert."
        )
    if channels < images.shape[3]:
        images = to_grey(images)
    images = resize(images, height, width)
    if channels > images.shape[3]:
        images = np.repeat(images, channels, axis=3)
    return images


def to_grey(images: np.ndarray) -> np.ndarray:
    """Returns the rounded luma of (n, h, w, 3) uint8 images as (n, h, w, 1) uint8."""
    grey = np.empty((*images.shape[:3], 1), np.uint8)
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        grey[part, ..., 0] = (images[part].astype(np.uint32) @ _LUMA + 0x8000) >> 16
    return grey


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns (n, h, w, c) uint8 images at another size; the same array if the size is right already.

    Bilinear; when shrinking, the triangle filter widens with the factor, so that fine patterns average out instead of
    turning into coarse ones that no camera would see.
    """
    if images.shape[1:3] == (height, width):
        return images
    resized = np.empty((len(images), height, width, images.shape[3]), np.uint8)
    for image, out in zip(images, resized, strict=True):
        if images.shape[3] == 3:
            out[:] = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        else:
            for channel in range(images.shape[3]):
                plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
                out[..., channel] = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
    return resized


def pixel_moments(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns each channel's mean and standard deviation over uint8 images, float64, in pixel values.

    From the counts of the 256 values, so exact for any number of images. A channel of one value has a deviation of 1.

    Args:
        parts: The images, some at a time, (n, h, w, c) each.
    """
    counts: np.ndarray | None = None
    for images in parts:
        channels = images.shape[3]
        counts = np.zeros((channels, 256), np.int64) if counts is None else counts
        for start in range(0, len(images), _CHUNK):
            part = images[start : start + _CHUNK]
            for channel in range(channels):
                counts[channel] += np.bincount(part[..., channel].ravel(), minlength=256)
    if counts is None:
        raise ValueError("no images")
    values, total = np.arange(256.0), counts.sum(1)
    mean = counts @ values / total
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / total)
    return mean, np.where((counts > 0).sum(1) > 1, std, 1.0)
