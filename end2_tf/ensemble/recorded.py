"""An ensemble that is known by what it said: predictions of networks of any framework, as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf.ensemble.ensemble import Ensemble
from end2_tf.errors import DataError, ModelError, suggestion
from end2_tf.reading import memory, npz, texts

INPUTS, DIGESTS, LOGITS, PROBS = "inputs", "digests", "logits", "probs"
ARRAYS = (INPUTS, DIGESTS, LOGITS, PROBS)

_SUM_TOLERANCE = 1e-2  # how far a float16 softmax of thousands of classes may sum from 1
_ROWS = 4096  # looked at at a time


def digests(inputs: np.ndarray) -> np.ndarray:
    """Returns a digest of each input, uint64 (n,): equal for equal values, whatever their dtype.

    Args:
        inputs: (n, ...) of numbers that float32 holds.
    """
    found = np.empty(len(inputs), np.uint64)
    for start in range(0, len(inputs), _ROWS):
        rows = np.ascontiguousarray(inputs[start : start + _ROWS], np.float32) + 0.0  # -0 is 0
        for offset, row in enumerate(rows):
            found[start + offset] = int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little")
    return found


class RecordedEnsemble(Ensemble):
    """Looks up what members said of an input, by the input itself; so the order of examples doesn't matter.

    Args:
        keys: A digest of each input, uint64 (n,), see `digests`.
        predictions: (n, members, classes), in memory or memory-mapped.
        are_probabilities: Whether they are probabilities, else logits.
        input_shape: Of one input.
        name: What it was read from, for messages.
    """

    def __init__(
        self,
        keys: np.ndarray,
        predictions: np.ndarray,
        *,
        are_probabilities: bool,
        input_shape: tuple[int, ...],
        name: str,
    ):
        self._order = np.argsort(keys, kind="stable")
        self._keys, self._predictions = keys[self._order], predictions
        self._are_logits, self._shape, self._name = not are_probabilities, input_shape, name
        self.closes_unseen = False

    @property
    def num_members(self) -> int:
        return int(self._predictions.shape[1])

    @property
    def num_classes(self) -> int:
        return int(self._predictions.shape[2])

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def returns_logits(self) -> bool:
        return self._are_logits

    def recognise_probabilities(self, inputs: np.ndarray) -> None:
        """Nothing to recognise: the array's name says what it holds, and opening it checked that."""

    def knows(self, inputs: np.ndarray) -> np.ndarray:
        """Returns of which inputs there are predictions, bool (n,)."""
        return self._places(inputs)[1]

    def _places(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wanted = digests(np.asarray(inputs))
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return self._order[places], self._keys[places] == wanted

    def predict_logits(self, inputs: np.ndarray, batch_size: int = 1000) -> np.ndarray:
        """Returns members' logits (n, members, classes) float32.

        Raises:
            DataError: of some inputs there are no predictions.
        """
        self.check_inputs(inputs)
        places, is_known = self._places(inputs)
        if not is_known.all():
            raise DataError(
                f"{self._name} has no predictions for {np.sum(~is_known):,} of {len(is_known):,} inputs, the first of "
                f"them number {int(np.argmin(is_known))}. Predict on all that the experiment looks at: "
                "--write_inputs=inputs.npz writes them."
            )
        values = np.asarray(self._predictions[places], np.float32)
        return values if self._are_logits else np.log(np.maximum(values, np.finfo(np.float32).tiny))

    def first(self, num_members: int) -> Ensemble:
        if num_members > self.num_members:
            return super().first(num_members)  # which says so
        keys = np.empty_like(self._keys)
        keys[self._order] = self._keys
        return RecordedEnsemble(
            keys,
            self._predictions[:, :num_members],
            are_probabilities=not self._are_logits,
            input_shape=self._shape,
            name=self._name,
        )

    def member(self, index: int) -> keras.Model:
        raise ModelError(
            f"{self._name} holds members' predictions, not the members, so there is no network of them to use. Leave "
            "'single' and 'ensemble' out; students can be exported."
        )

    def logits(self, inputs: Any) -> tf.Tensor:
        return self.member(0)

    def as_model(self) -> keras.Model:
        return self.member(0)


def load(path: str, input_shape: tuple[int, ...]) -> RecordedEnsemble:
    """Opens predictions: an .npz file, or a folder of .npy files, which are memory-mapped.

    Either holds `logits` or `probs`, (n, members, classes), and `inputs` (n, ...), or `digests` (n,) of them.

    Args:
        path: The file or folder.
        input_shape: Of one of the data's inputs.

    Raises:
        DataError: it can't be read, an array is missing or has the wrong shape, or values can't be what they are
            called; names the file, the array and the place.
    """
    arrays = _read(Path(path))
    kinds = [kind for kind in (LOGITS, PROBS) if kind in arrays]
    if len(kinds) != 1:
        raise DataError(
            f"{path} has {_named(Path(path))}. Allowed: one of 'logits' and 'probs', (n, members, classes)."
        )
    (kind,) = kinds
    predictions = arrays[kind]
    if predictions.ndim != 3 or predictions.dtype.kind != "f" or 0 in predictions.shape or predictions.shape[2] < 2:
        raise DataError(
            f"{path}: {kind} is {predictions.dtype} {predictions.shape}. Allowed: floating point (n, members, classes) "
            "with 2 classes or more. Stack the members' predictions on the second axis."
        )
    if (INPUTS in arrays) == (DIGESTS in arrays):
        raise DataError(
            f"{path} has {_named(Path(path))}. It must have one of 'inputs', what {kind} are of, and 'digests', as "
            "--write_inputs gives them."
        )
    keys = _keys(path, arrays, len(predictions), kind, input_shape)
    _check_values(path, predictions, kind)
    return RecordedEnsemble(keys, predictions, are_probabilities=kind == PROBS, input_shape=input_shape, name=str(path))


def _read(path: Path) -> Mapping[str, np.ndarray]:
    try:
        if path.is_dir():
            return {p.stem: npz.mapped(p) for p in sorted(path.glob("*.npy")) if p.stem in ARRAYS}
        return npz.read(path, ARRAYS)
    except memory.NoRoomError:
        raise
    except DataError as error:
        raise DataError(
            f"ensemble.predictions is {str(path)!r}, which can't be read ({error}). Give an .npz file, or a folder of "
            ".npy files: logits or probs, and inputs or digests."
        ) from error


def _there(path: Path) -> list[str]:
    return [p.stem for p in sorted(path.glob("*.npy"))] if path.is_dir() else npz.names(path)


def _named(path: Path) -> str:
    arrays = _there(path)
    names = texts.listed([repr(name) for name in arrays])
    wrong = [name for name in arrays if name not in ARRAYS]
    return f"the arrays {names}" + (f" ({suggestion(wrong[0], ARRAYS).strip()})" if wrong else "")


def _keys(path: str, arrays: Mapping[str, np.ndarray], num: int, kind: str, input_shape: tuple[int, ...]) -> np.ndarray:
    if DIGESTS in arrays:
        keys = arrays[DIGESTS]
        if keys.shape != (num,) or keys.dtype != np.uint64:
            raise DataError(
                f"{path}: digests is {keys.dtype} {keys.shape}, but {kind} has {num} examples. Allowed: uint64 "
                f"({num},), as --write_inputs gives them."
            )
        return np.asarray(keys)
    inputs = arrays[INPUTS]
    if inputs.shape != (num, *input_shape):
        raise DataError(
            f"{path}: inputs has shape {inputs.shape}, but {kind} has {num} examples and the data's inputs are "
            f"{input_shape}. Give {(num, *input_shape)}: the raw inputs that were predicted on, in the same order."
        )
    return digests(inputs)


def _check_values(path: str, predictions: np.ndarray, kind: str) -> None:
    looks_like_probabilities = True
    for start in range(0, len(predictions), _ROWS):
        rows = np.asarray(predictions[start : start + _ROWS], np.float64)
        is_bad = ~np.isfinite(rows) | ((rows < 0) if kind == PROBS else False)
        if is_bad.any():
            place = tuple(int(i) for i in np.argwhere(is_bad)[0])
            raise DataError(
                f"{path}: {kind}[{start + place[0]}, {place[1]}, {place[2]}] is {rows[place]}. Allowed: "
                f"{'0 to 1' if kind == PROBS else 'finite numbers'}. Check member {place[1]}."
            )
        off = np.abs(rows.sum(2) - 1)
        if kind == PROBS and (off > _SUM_TOLERANCE).any():
            place = tuple(int(i) for i in np.argwhere(off > _SUM_TOLERANCE)[0])
            raise DataError(
                f"{path}: probs[{start + place[0]}, {place[1]}] sum to {rows[place].sum():.4g}, not 1. If they are "
                "logits, call the array logits."
            )
        looks_like_probabilities &= bool((rows >= 0).all() and (off < _SUM_TOLERANCE).all())
    if kind == LOGITS and looks_like_probabilities:
        raise DataError(
            f"{path}: logits are all at least 0 and sum to 1 over classes, so they are probabilities. Call the array "
            "probs."
        )
