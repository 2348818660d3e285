"""Inputs that an entry was tried on when it was published, and what its file predicted for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from end2_tf.data.dataset import DataSet
from end2_tf.errors import ZooError
from end2_tf.reading import npz

NUM_INPUTS = 32
REPRODUCED = 1e-4  # absolute up to 1, relative above: alphas go to 1e5
KEPT = 1e-3  # by how much rounding of weights may change a probability, or an uncertainty in nats


def inputs(data: DataSet, seed: int = 0) -> np.ndarray:
    """Returns 32 raw inputs: 16 from the test set, and 16 from outside.

    Outside are the OOD sets' own features. OOD images aren't ours to publish: inverted test images and noise stand for
    them.
    """
    test, half = data.test.inputs, NUM_INPUTS // 2
    inside = test[_spread(len(test), half)]
    rng = np.random.default_rng(seed)
    if test.ndim == 4:
        inverted = 255 - test[_spread(len(test), half // 2)]
        noise = rng.integers(0, 256, (half - len(inverted), *test.shape[1:]), dtype=np.uint8)
        return np.concatenate([inside, inverted, noise])
    if not data.ood:
        low, high = test.min(0), test.max(0)
        wide = rng.uniform(low - (high - low), high + (high - low), (half, *test.shape[1:]))
        return np.concatenate([inside, wide.astype(test.dtype)])
    shares = np.array_split(np.arange(half), len(data.ood))
    outside = [e.inputs[_spread(len(e), len(s))] for e, s in zip(data.ood.values(), shares, strict=True)]
    return np.concatenate([inside, *outside])


def _spread(num: int, count: int) -> np.ndarray:
    """Returns `count` places, evenly over `num` examples, which may be sorted by class."""
    return np.linspace(0, num - 1, count).round().astype(int)


def outputs(model: Any, batch: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what a published model predicts, by name; an ensemble's one output is `logits`."""
    found = model.predict(batch, batch_size=len(batch), verbose=0)
    named = found if isinstance(found, dict) else {"logits": found}
    return {name: np.asarray(values, np.float32) for name, values in named.items()}


def predictions(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the probabilities and uncertainties (nats) in or behind a model's outputs.

    Logits and alphas count by what they come to: of an ensemble, its mean prediction and its measures.
    """
    if set(found) == {"logits"}:
        from end2_tf import uncertainty

        found = uncertainty.from_members(found["logits"])
    return {name: v for name, v in found.items() if name == "probs" or name.endswith("_uncertainty")}


def largest_change(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """Returns by how much predictions differ at most; NaN if one is no number."""
    ours, theirs = predictions(found), predictions(wanted)
    return float(np.max([np.max(np.abs(ours[name] - theirs[name])) for name in theirs]))


def check(model: Any, path: Path) -> None:
    """Raises ZooError unless a model reproduces the outputs in a golden.npz."""
    stored = npz.read(path, npz.names(path))
    found = outputs(model, stored.pop("inputs"))
    if set(found) != set(stored):
        raise ZooError(f"{path} has outputs {sorted(stored)}, but the model gives {sorted(found)}. Publish it again.")
    for name, wanted in stored.items():
        error = np.max(np.abs(found[name] - wanted) / np.maximum(1, np.abs(wanted)))
        if not error <= REPRODUCED:
            raise ZooError(
                f"the model predicts {name} with a deviation of {error:.2g} from {path}. Allowed: {REPRODUCED:g}. "
                "Use the versions in metadata.json, or publish the entry again."
            )
