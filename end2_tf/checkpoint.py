"""The state of an unfinished training, in one file that is replaced atomically.

Keras' BackupAndRestore writes weights and epoch in two files, so a kill between the two resumes in the wrong epoch.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from end2_tf import workdir

SECONDS_BETWEEN = 15.0


class Checkpoint:
    """Saves and restores a list of variables and the history that led to them.

    Args:
        path: The file; None keeps nothing.
        variables: Anything with `shape` and `assign` that NumPy can read, in a fixed order.
    """

    def __init__(self, path: Path | None, variables: Sequence[Any]):
        self.path, self.variables = path, list(variables)
        self._saved_at = time.monotonic()

    def save(self, history: np.ndarray) -> None:
        if self.path is not None:
            arrays = {f"variable_{i}": np.asarray(v) for i, v in enumerate(self.variables)}
            workdir.write_npz(self.path, history=history, **arrays)
        self._saved_at = time.monotonic()

    def save_now_and_then(self, history: np.ndarray) -> None:
        """Saves if the last save was more than SECONDS_BETWEEN ago."""
        if time.monotonic() - self._saved_at >= SECONDS_BETWEEN:
            self.save(history)

    def restore(self) -> np.ndarray | None:
        """Assigns the variables and returns the history; None, and nothing assigned, if there is no sound file."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = [file[f"variable_{i}"] for i in range(len(self.variables))]
                history = file["history"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # not to be trusted: the training starts again
        if any(a.shape != tuple(v.shape) for a, v in zip(arrays, self.variables, strict=True)):
            return None
        for array, variable in zip(arrays, self.variables, strict=True):
            variable.assign(array)
        return history

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
