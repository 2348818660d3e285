"""Mean and standard deviation of inputs, in memory or in shards."""

from __future__ import annotations

import numpy as np

from end2_tf.data import images, shards
from end2_tf.data.shards import Rows, Shards


def of(inputs: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation, float64, per channel of images or per feature.

    Images count in pixel values, 0 to 255. A channel or feature that never changes has a deviation of 1.

    Args:
        inputs: (n, h, w, c) uint8 images or (n, d) float32 features.
    """
    if inputs.ndim == 4:
        return images.pixel_moments(shards.parts(inputs))
    mean, std = _of_features(inputs)
    low, high = (np.stack([edge(part, axis=0) for part in shards.parts(inputs)]) for edge in (np.min, np.max))
    return mean, np.where(high.max(0) > low.min(0), std, 1.0)


def deviation(features: Rows) -> np.ndarray:
    """Returns the standard deviation of features (n, d), float32 (d,)."""
    if isinstance(features, Shards):
        return _of_features(features)[1].astype(np.float32)
    return features.std(0)


def _of_features(features: Rows) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(features, Shards):
        return features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    num = len(features)
    mean = sum(part.sum(0, dtype=np.float64) for part in shards.parts(features)) / num
    squares = sum(((part - mean) ** 2).sum(0) for part in shards.parts(features))
    return mean, np.sqrt(squares / num)
