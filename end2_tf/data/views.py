"""Views: numbered draws of the random augmentation.

View v of example i is a function of (seed, v, i) alone, whoever asks for it, in whatever order. So members' predictions
recorded on view v belong to exactly the input that a student is shown later.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from end2_tf.config import Augmentation
from end2_tf.data import augmentation as augment
from end2_tf.data.shards import Shards
from end2_tf.errors import ConfigError

CLEAN = -1  # the view without augmentation


class Views:
    """The views of one array of inputs.

    Args:
        augmentation: What may change.
        inputs: All examples, (n, h, w, c) uint8 images or (n, d) float32 features.
        seed: Of the draws.
        partners: Inputs to mix with, (m, ...). By default an example's partners are the others, each in the same view.
        folder: Where views may be kept, see `kept`; those that are there are read instead of made.
        rows: Examples in a shard of those.
        name: The config field of the augmentation, for messages.

    Raises:
        ConfigError: the augmentation is one for images and the inputs are features, or the other way round.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        inputs: np.ndarray,
        seed: int,
        *,
        partners: np.ndarray | None = None,
        folder: Path | None = None,
        rows: int | None = None,
        name: str = "augmentation",
    ):
        self.augmentation, self.inputs, self.seed = augmentation, inputs, seed
        self.partners, self.folder, self.name = partners, folder, name
        self.rows = rows or max(1, len(inputs))
        self.is_identity = augmentation.is_identity
        is_image = inputs.ndim == 4
        if is_image and augmentation.jitter:
            raise ConfigError(f"{name}.jitter is {augmentation.jitter}, but the inputs are images. Set it to 0.")
        if not is_image and augmentation.changes_images:
            raise ConfigError(
                f"{name} has flip, shift, rotation, scale or invert set, but the inputs aren't images. Set jitter "
                "instead."
            )
        self.feature_scale = None if is_image else inputs.std(0) * np.float32(augmentation.jitter)
        self._lock = threading.RLock()  # pipelines may ask from several threads
        self._latest: tuple[int, np.ndarray | Shards] | None = None
        self._latest_mixture: tuple[int, tuple[np.ndarray, np.ndarray]] | None = None

    def rows_at(self, view: int, ids: np.ndarray) -> np.ndarray:
        """Returns some inputs, by their numbers, as they look in a view: the inputs' own dtype. Keeps the latest view.

        A view that is kept on disk is read from there, else it is made, whole.
        """
        if view == CLEAN or self.is_identity:
            return self.inputs[ids]
        with self._lock:
            if self._latest is None or self._latest[0] != view:
                kept = self.kept(view)
                self._latest = (view, kept if kept is not None and kept.is_there else self._make(view))
            latest = self._latest[1]
        return latest[ids]

    def array(self, view: int) -> np.ndarray:
        """Returns all inputs as they look in a view."""
        if view == CLEAN or self.is_identity:
            return self.inputs
        return self.rows_at(view, np.arange(len(self.inputs)))

    def kept(self, view: int) -> Shards | None:
        """Returns where a view is kept, or would be."""
        return None if self.folder is None else Shards(self.folder / f"inputs_{view:03d}", len(self.inputs), self.rows)

    def mixture(self, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns each example's partner (n,) int64 and its own weight (n,) float32, 1 where it isn't mixed up."""
        with self._lock:
            if self._latest_mixture is None or self._latest_mixture[0] != view:
                num_partners = len(self.inputs if self.partners is None else self.partners)
                share = self.augmentation.mixup
                partners, weights = augment.mixtures(share, self.seed, view, len(self.inputs), num_partners)
                self._latest_mixture = (view, (partners, np.where(self._is_changed(view), weights, np.float32(1))))
            return self._latest_mixture[1]

    def _make(self, view: int) -> np.ndarray:
        changed = self._change(view)
        if not self.augmentation.mixup:
            return changed
        partners, weights = self.mixture(view)
        rows = np.flatnonzero(weights < 1)
        pool = changed if self.partners is None else self.partners
        own = weights[rows].reshape(-1, *[1] * (changed.ndim - 1))
        mixed = own * changed[rows] + (1 - own) * pool[partners[rows]]
        result = changed.copy()
        result[rows] = np.rint(mixed) if changed.dtype == np.uint8 else mixed
        return result

    def _is_changed(self, view: int) -> np.ndarray:
        return augment.changed(self.augmentation.share, self.seed, view, len(self.inputs))

    def _change(self, view: int) -> np.ndarray:
        changed = self._change_all(view)
        if self.augmentation.share == 1 or changed is self.inputs:
            return changed
        kept = ~self._is_changed(view)
        result = changed.copy()
        result[kept] = self.inputs[kept]
        return result

    def _change_all(self, view: int) -> np.ndarray:
        num = len(self.inputs)
        if self.feature_scale is None:
            if not self.augmentation.changes_images:
                return self.inputs
            return augment.change_images(self.inputs, augment.draws(self.augmentation, self.seed, view, num))
        if not self.augmentation.jitter:
            return self.inputs
        noise = augment.jitter_table(self.seed, view, num, self.inputs.shape[1])
        return (self.inputs + noise * self.feature_scale).astype(self.inputs.dtype)
