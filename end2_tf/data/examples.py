"""Inputs with their labels, and the splits that a source delivers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from end2_tf.errors import DataError


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs, and their labels where there are any.

    Attributes:
        inputs: uint8 images, (n, height, width, channels), or float32 features, (n, features): an array, `Shards`, or,
            while a source is read, a `Stream`.
        labels: Class numbers from 0, (n,) int64; None for auxiliary and unlabelled inputs.
    """

    inputs: Any
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, num: int, seed: int) -> Examples:
        """Returns `num` examples drawn by `seed`, in their original order; all of them if there are no more."""
        if num >= len(self):
            return self
        return self.select(np.sort(np.random.default_rng([seed, len(self)]).choice(len(self), num, replace=False)))

    def select(self, ids: np.ndarray) -> Examples:
        """Returns the examples with these numbers."""
        return Examples(self.inputs[ids], None if self.labels is None else self.labels[ids])


@dataclass(frozen=True, eq=False)
class Splits:
    """What a source delivers; a split that it doesn't have is None.

    Attributes:
        train: For training; auxiliary inputs are taken from here.
        validation: Made from train by `load` where it is None.
        test: For evaluation; OOD inputs are taken from here.
        class_names: In the order of the labels; may be empty, then the classes are called by their numbers.
        posterior: The true class probabilities where they are known: (n, features) → (n, classes).
        calibration: For thresholds, which are set when all else is done.
    """

    train: Examples | None = None
    validation: Examples | None = None
    test: Examples | None = None
    class_names: tuple[str, ...] = ()
    posterior: Callable[[np.ndarray], np.ndarray] | None = None
    calibration: Examples | None = None

    def named(self) -> dict[str, Examples]:
        """Returns the splits that there are."""
        splits = {
            "train": self.train,
            "validation": self.validation,
            "calibration": self.calibration,
            "test": self.test,
        }
        return {name: examples for name, examples in splits.items() if examples is not None}


def hold_out(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Splits labelled examples at random, each class in the same proportion.

    Args:
        examples: With labels.
        fraction: Share to hold out, in (0, 1). Every class keeps at least one example.
        seed: Of the draw.

    Returns:
        The rest and the held-out examples, both in the original order.

    Raises:
        DataError: the share comes to no example.
    """
    labels = examples.labels
    if labels is None:
        raise DataError("examples without labels can't be split class by class. Give labelled ones.")
    counts = np.bincount(labels)
    quota = fraction * counts
    taken = np.floor(quota).astype(int)
    missing = round(fraction * len(examples)) - taken.sum()
    # Rounding down loses up to one example a class; those with the largest remainders get theirs back.
    order = [c for c in np.argsort(taken - quota, kind="stable") if taken[c] < counts[c] - 1]
    taken[order[: max(missing, 0)]] += 1
    if taken.sum() == 0:
        raise DataError(
            f"a share of {fraction:g} of {len(examples)} examples holds out none. Give more data or a larger share."
        )
    rng = np.random.default_rng([seed, len(examples)])
    chosen = np.zeros(len(examples), bool)
    for label, num in enumerate(taken):
        if num:
            chosen[rng.choice(np.flatnonzero(labels == label), num, replace=False)] = True
    return examples.select(np.flatnonzero(~chosen)), examples.select(np.flatnonzero(chosen))
