"""The `.keras` file of an entry: written small and always with the same bytes, opened without running its code."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from end2_tf.errors import ZooError
from end2_tf.reading import keras_files

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # that a ZIP archive can hold


@dataclass(frozen=True)
class Precision:
    """How float32 weights are kept: as which type, and with how many bits of mantissa."""

    dtype: str
    mantissa_bits: int

    def stored(self, values: np.ndarray) -> np.ndarray:
        if values.dtype != np.float32:
            return values
        rounded = _rounded(values, self.mantissa_bits)
        if self.dtype == "float16":
            with np.errstate(over="ignore"):
                half = rounded.astype(np.float16)
            return half if np.isfinite(half).all() else values
        return rounded


# From small to exact: compressed, 12 to 14, 15 to 18 and 27 bits a weight.
PRECISIONS = (
    *(Precision("float16", bits) for bits in (8, 9, 10)),
    *(Precision("float32", bits) for bits in (11, 12, 13, 14, 23)),
)


def _rounded(values: np.ndarray, mantissa_bits: int) -> np.ndarray:
    """Returns float32 values whose last bits are 0, which compresses."""
    spare = 23 - mantissa_bits
    if spare == 0:
        return values
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + np.uint32(1 << (spare - 1))) >> np.uint32(spare)) << np.uint32(spare)
    result = rounded.view(np.float32)
    return np.where(np.isfinite(result), result, values)


def rewrite(source: Path, target: Path, precision: Precision, date: str) -> None:
    """Copies a `.keras` file so that its bytes depend on the model alone.

    Weights are rounded and compressed; plain Keras casts them back to the variables' float32 when it loads them. Dates
    are replaced, and the addresses in memory by which Keras marks shared objects are numbered.

    Args:
        source: As Keras saved it.
        target: Where to write.
        precision: Of the weights.
        date: What the file says of when it was saved.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in sorted(old.namelist()):
            content = old.read(name)
            if name == keras_files.CONFIG:
                content = json.dumps(_numbered(json.loads(content), {})).encode()
            elif name == keras_files.DATES:
                content = json.dumps({**json.loads(content), "date_saved": date}).encode()
            elif name == keras_files.WEIGHTS:
                content = _compressed(content, precision)
            entry = zipfile.ZipInfo(name, _FIRST_DATE)
            entry.create_system = 3  # Unix, whatever this is written on
            entry.compress_type = zipfile.ZIP_STORED if name == keras_files.WEIGHTS else zipfile.ZIP_DEFLATED
            new.writestr(entry, content)


def _numbered(value: Any, numbers: dict[int, int]) -> Any:
    if isinstance(value, dict):
        return {
            key: numbers.setdefault(item, len(numbers)) if key == "shared_object_id" else _numbered(item, numbers)
            for key, item in value.items()
        }
    return [_numbered(item, numbers) for item in value] if isinstance(value, list) else value


def _compressed(content: bytes, precision: Precision) -> bytes:
    import h5py

    target = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as old, h5py.File(target, "w") as new:
        _copy_group(old, new, precision)
    return target.getvalue()


def _copy_group(old: Any, new: Any, precision: Precision) -> None:
    import h5py

    for key, value in old.attrs.items():
        new.attrs[key] = value
    for name, item in old.items():
        if isinstance(item, h5py.Group):
            _copy_group(item, new.create_group(name), precision)
            continue
        values = precision.stored(item[()]) if item.shape else item[()]
        how: dict[str, Any] = {}
        if item.size and item.shape:  # in one piece: in HDF5's own small ones it is a sixth larger, and their index
            how = {"compression": "gzip", "compression_opts": 9, "shuffle": True, "chunks": item.shape}
        copy = new.create_dataset(name, data=values, **how)
        for key, value in item.attrs.items():
            copy.attrs[key] = value


def open_model(path: Path, name: str) -> Any:
    """Opens the `.keras` file of an entry; see `keras_files.load`.

    Raises:
        ZooError: it would need code from the file (a lambda) or a class that isn't registered, or Keras can't read it.
    """
    import end2_tf.losses
    import end2_tf.models  # noqa: F401 - registers our classes, whoever imported Keras first

    advice = "Upgrade end2_tf and Keras, or publish the entry again."
    return keras_files.load(path, what=f"the entry {name}", error=ZooError, advice=advice)
