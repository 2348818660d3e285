"""Views: numbered draws of the random augmentation.

View v of example i is a function of (seed, v, i) alone, whoever asks for it, in whatever order. So members' predictions
recorded on view v belong to exactly the input that a student is shown later.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from end2_tf.config import Augmentation
from end2_tf.data import augmentation as augment
from end2_tf.errors import ConfigError

CLEAN = -1  # the view without augmentation


class Views:
    """The views of one array of inputs.

    Args:
        augmentation: What may change.
        inputs: All examples, (n, h, w, c) uint8 images or (n, d) float32 features.
        seed: Of the draws.

    Raises:
        ConfigError: the augmentation is one for images and the inputs are features, or the other way round.
    """

    def __init__(self, augmentation: Augmentation, inputs: np.ndarray, seed: int):
        self.augmentation, self.seed = augmentation, seed
        self.num_examples = len(inputs)
        self.is_image = inputs.ndim == 4
        self.is_identity = augmentation.is_identity
        if self.is_image and augmentation.jitter:
            raise ConfigError(f"augmentation.jitter is {augmentation.jitter}, but the inputs are images. Set it to 0.")
        if not self.is_image and (augmentation.flip or augmentation.shift or augmentation.rotation):
            raise ConfigError(
                "augmentation.flip, shift or rotation is set, but the inputs aren't images. Set jitter instead."
            )
        self.shape = (4,) if self.is_image else inputs.shape[1:]
        self.feature_scale = inputs.std(0) * np.float32(augmentation.jitter) if not self.is_image else None
        self._table: tuple[int, np.ndarray] | None = None

    def of(self, view: int, ids: np.ndarray) -> np.ndarray:
        """Returns what view `view` does to examples `ids`: (len(ids), *self.shape) float32; zeros for CLEAN."""
        if view == CLEAN or self.is_identity:
            return np.zeros((len(ids), *self.shape), np.float32)
        kept = self._table
        if kept is None or kept[0] != view:
            kept = self._table = (view, self._draw(view))
        return kept[1][ids]

    def _draw(self, view: int) -> np.ndarray:
        if self.is_image:
            return augment.draws(self.augmentation, self.seed, view, self.num_examples)
        noise = augment.jitter_table(self.seed, view, self.num_examples, self.shape[0])
        return (noise * self.feature_scale).astype(np.float32)

    def apply(self, inputs: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
        """Changes a batch of raw inputs by rows of `of`; keeps the dtype."""
        if self.is_identity:
            return inputs
        if self.is_image:
            return augment.apply_images(inputs, changes)
        return inputs + tf.cast(changes, inputs.dtype)
