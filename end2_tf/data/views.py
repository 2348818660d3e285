"""Views: numbered draws of the random augmentation.

View v of example i is a function of (seed, v, i) alone, whoever asks for it, in whatever order. So members' predictions
recorded on view v belong to exactly the input that a student is shown later. Where inputs are in shards a view is made
a shard at a time: its draws, and whom an example is mixed up with, are those of its shard.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from end2_tf.config import Augmentation
from end2_tf.data import augmentation as augment
from end2_tf.data import moments, shards
from end2_tf.data.shards import Parts, Rows, Shards
from end2_tf.errors import ConfigError

CLEAN = -1  # the view without augmentation


class Views:
    """The views of one array of inputs, in memory or in shards.

    Args:
        augmentation: What may change.
        inputs: All examples, (n, h, w, c) uint8 or float32 images or (n, d) float32 features.
        seed: Of the draws.
        partners: Inputs to mix with, (m, ...). By default an example's partners are the others, each in the same view.
        folder: Where views may be kept, see `kept`; those that are there are read instead of made.
        rows: Examples in a shard of those; that of the inputs, where they are in shards themselves.
        name: The config field of the augmentation, for messages.

    Raises:
        ConfigError: the augmentation is one for images and the inputs are features, or the other way round.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        inputs: Rows,
        seed: int,
        *,
        partners: Rows | None = None,
        folder: Path | None = None,
        rows: int | None = None,
        name: str = "augmentation",
    ):
        self.augmentation, self.inputs, self.seed = augmentation, inputs, seed
        self.partners, self.folder, self.name = partners, folder, name
        self._part_rows = shards.rows_in(inputs) or max(1, len(inputs))
        self._spans = shards.spans(len(inputs), self._part_rows)
        self.rows = shards.rows_in(inputs) or rows or self._part_rows
        self.is_identity = augmentation.is_identity
        is_image = inputs.ndim == 4
        if is_image and augmentation.jitter:
            raise ConfigError(f"{name}.jitter is {augmentation.jitter}, but the inputs are images. Set it to 0.")
        if is_image and augmentation.invert and inputs.dtype != np.uint8:
            raise ConfigError(
                f"{name}.invert is {augmentation.invert}, but the images are {inputs.dtype}, of which it isn't known "
                "what white is. Set it to 0, or give uint8 images."
            )
        if not is_image and augmentation.changes_images:
            raise ConfigError(
                f"{name} has flip, shift, rotation, scale or invert set, but the inputs aren't images. Set jitter "
                "instead."
            )
        self.feature_scale = None if is_image else moments.deviation(inputs) * np.float32(augmentation.jitter)
        self._lock = threading.RLock()  # pipelines may ask from several threads
        self._latest: tuple[int, Parts] | None = None
        self._latest_mixture: tuple[int, tuple[np.ndarray, np.ndarray]] | None = None

    def rows_at(self, view: int, ids: np.ndarray | slice) -> np.ndarray:
        """Returns some inputs, by their numbers, as they look in a view: the inputs' own dtype. Keeps the latest view.

        A view that is kept on disk is read from there, else it is made: whole, or the shards that are asked for.
        """
        if view == CLEAN or self.is_identity:
            return self.inputs[ids]
        with self._lock:
            if self._latest is None or self._latest[0] != view:
                kept = self.kept(view)
                made = Parts(len(self.inputs), self._part_rows, lambda part: self._make(view, part))
                self._latest = (view, kept if kept is not None and kept.is_there else made)
            latest = self._latest[1]
        return latest[ids]

    def array(self, view: int) -> np.ndarray:
        """Returns all inputs as they look in a view."""
        return self.rows_at(view, slice(None))

    def kept(self, view: int) -> Shards | None:
        """Returns where a view is kept, or would be."""
        return None if self.folder is None else Shards(self.folder / f"inputs_{view:03d}", len(self.inputs), self.rows)

    def mixture(self, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns each example's partner (n,) int64 and its own weight (n,) float32, 1 where it isn't mixed up."""
        with self._lock:
            if self._latest_mixture is None or self._latest_mixture[0] != view:
                parts = [self._mixture(view, part) for part in range(len(self._spans))]
                partners, weights = (np.concatenate(tables) for tables in zip(*parts, strict=True))
                self._latest_mixture = (view, (partners, weights))
            return self._latest_mixture[1]

    def _key(self, view: int, part: int) -> tuple[int, ...]:
        """Returns what a part's draws depend on."""
        return (self.seed, view) if shards.rows_in(self.inputs) is None else (self.seed, view, part)

    def _mixture(self, view: int, part: int) -> tuple[np.ndarray, np.ndarray]:
        start, stop = self._spans[part]
        first, last = self._pool(part)
        share, key = self.augmentation.mixup, self._key(view, part)
        partners, weights = augment.mixtures(share, key, stop - start, last - first)
        return first + partners, np.where(self._is_changed(view, part), weights, np.float32(1))

    def _pool(self, part: int) -> tuple[int, int]:
        """Returns whom a part's examples may be mixed up with, as [start, stop): one shard, where there are several."""
        if self.partners is None:
            return self._spans[part]
        rows = shards.rows_in(self.partners) or len(self.partners)
        spans = shards.spans(len(self.partners), rows)
        return spans[part % len(spans)]

    def _make(self, view: int, part: int) -> np.ndarray:
        start, stop = self._spans[part]
        inputs = self.inputs.load(part) if isinstance(self.inputs, Shards) else self.inputs
        changed = self._change(inputs, view, part)
        if not self.augmentation.mixup:
            return changed
        partners, weights = (table[start:stop] for table in self.mixture(view))
        rows, first = np.flatnonzero(weights < 1), self._pool(part)[0]
        pool = changed
        if isinstance(self.partners, Shards):
            pool = self.partners.read(first // self.partners.rows)
        elif self.partners is not None:
            pool, first = self.partners, 0
        own = weights[rows].reshape(-1, *[1] * (changed.ndim - 1))
        mixed = own * changed[rows] + (1 - own) * pool[partners[rows] - first]
        result = changed.copy()
        result[rows] = np.rint(mixed) if changed.dtype == np.uint8 else mixed
        return result

    def _is_changed(self, view: int, part: int) -> np.ndarray:
        start, stop = self._spans[part]
        return augment.changed(self.augmentation.share, self._key(view, part), stop - start)

    def _change(self, inputs: np.ndarray, view: int, part: int) -> np.ndarray:
        changed = self._change_all(inputs, self._key(view, part))
        if self.augmentation.share == 1 or changed is inputs:
            return changed
        kept = ~self._is_changed(view, part)
        result = changed.copy()
        result[kept] = inputs[kept]
        return result

    def _change_all(self, inputs: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        if self.feature_scale is None:
            if not self.augmentation.changes_images:
                return inputs
            return augment.change_images(inputs, augment.draws(self.augmentation, key, len(inputs)))
        if not self.augmentation.jitter:
            return inputs
        noise = augment.jitter_table(key, len(inputs), inputs.shape[1])
        return (inputs + noise * self.feature_scale).astype(inputs.dtype)
