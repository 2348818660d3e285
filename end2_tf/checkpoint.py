"""The state of an unfinished training, in one file that is replaced atomically.

Keras' BackupAndRestore writes weights and epoch in two files, so a kill between the two resumes in the wrong epoch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from end2_tf import workdir
from end2_tf.errors import DataError
from end2_tf.reading import memory, npz

SECONDS_BETWEEN = float(os.environ.get("END2_TF_CHECKPOINT_SECONDS", "15"))
QUICK = 0.75  # seconds; a save that takes longer makes the next ones rarer


class Checkpoint:
    """Saves and restores a list of variables, and what else says how far a training is.

    Args:
        path: The file; None keeps nothing.
        variables: Anything with `shape` and `assign` that NumPy can read, in a fixed order.
        is_read_only: Whether another process is the one that writes.
    """

    def __init__(self, path: Path | None, variables: Sequence[Any], *, is_read_only: bool = False):
        self.path, self.variables, self.is_read_only = path, list(variables), is_read_only
        self._saved_at, self._took = time.monotonic(), 0.0
        self._began = self._saved_at

    def save(self, **arrays: np.ndarray) -> None:
        """Replaces the file by one of the variables' values, of `arrays`, and of the seconds spent so far."""
        started = time.monotonic()
        if self.path is not None and not self.is_read_only:
            values = {f"variable_{i}": np.asarray(v) for i, v in enumerate(self.variables)}
            workdir.write_npz(self.path, **values, **arrays, seconds=np.asarray(started - self._began))
        self._saved_at = time.monotonic()
        self._took = self._saved_at - started

    @property
    def is_due(self) -> bool:
        """Whether the last save was more than SECONDS_BETWEEN ago, or longer where saving takes long."""
        return time.monotonic() - self._saved_at >= SECONDS_BETWEEN * max(1.0, self._took / QUICK)

    def restore(self, *names: str) -> dict[str, np.ndarray] | None:
        """Assigns the variables and returns the arrays `names`; None, and nothing assigned, without a sound file."""
        if self.path is None or not self.path.is_file():
            return None
        numbered = [f"variable_{i}" for i in range(len(self.variables))]
        try:
            found = npz.read(self.path, [*numbered, *names, "seconds"])
        except memory.NoRoomError:
            raise  # nothing is wrong with it
        except DataError:
            return None  # not to be trusted: the training starts again
        if any(name not in found for name in (*numbered, *names)):
            return None
        values, arrays = [found[name] for name in numbered], {name: found[name] for name in names}
        if any(a.shape != tuple(v.shape) for a, v in zip(values, self.variables, strict=True)):
            return None
        for value, variable in zip(values, self.variables, strict=True):
            variable.assign(value)
        self._began -= float(found.get("seconds", math.nan))  # files of earlier versions don't say
        return arrays


def seconds_spent(path: Path) -> float | None:
    """Returns how long the training whose state is in a file took, over all processes; None where it isn't known."""
    try:
        seconds = float(npz.read(path, ["seconds"]).get("seconds", math.nan))
    except DataError:
        return None
    return seconds if math.isfinite(seconds) else None
