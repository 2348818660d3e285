"""`.npz` and `.npy` files."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np

from end2_tf.errors import DataError
from end2_tf.reading import npz

INSTRUMENT = ["end2_tf.reading", "numpy.lib._format_impl", "numpy.lib.format", "zipfile", "ast"]


def _saved(save, **arrays) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


_ARRAYS = {"x": np.arange(6.0).reshape(2, 3), "y": np.arange(2), "names": np.array(["a", "b"])}
SEEDS = [
    _saved(np.savez, **_ARRAYS),
    _saved(np.savez_compressed, **_ARRAYS),
    _saved(np.save, arr=np.ones((2, 2), np.float32)),
    _saved(np.save, arr=np.array([None, {}], object)),
]


def read(content: bytes, folder: Path) -> None:
    path = folder / "a.npz"
    path.write_bytes(content)
    for each in (npz.mapped, npz.fingerprint):
        with contextlib.suppress(DataError):
            each(path)
    for name, header in npz.headers(path, npz.names(path)).items():
        if header.shape and header.shape[0] > 1:
            list(npz.rows(path, name, np.array([0, 1]), 1))
    npz.read(path, npz.names(path))
