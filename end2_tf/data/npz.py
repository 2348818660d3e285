"""Reads .npz files that others made, without trusting what they say about themselves."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from end2_tf.data import memory
from end2_tf.errors import DataError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_SUFFIX = ".npy"


def names(path: Path) -> list[str]:
    """Returns the names of a file's arrays."""
    with _opened(path) as archive:
        return [name.removesuffix(_SUFFIX) for name in archive.namelist() if name.endswith(_SUFFIX)]


def read(path: Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns those of the wanted arrays that are there.

    Headers are read first: an array that would not fit in memory, or claims another size than its bytes have, is
    refused before anything is allocated. Pickled objects are never loaded.

    Raises:
        DataError: the file is no .npz, is damaged, holds objects, or is larger than the memory that is left.
    """
    with _opened(path) as archive:
        there = set(archive.namelist())
        chosen = [name for name in wanted if name + _SUFFIX in there]
        total = sum(_checked_size(archive, name, path) for name in chosen)
        memory.check_fits(total, f"{path}", "Use fewer or smaller examples, or a machine with more.")
        return {name: _array(archive, name, path) for name in chosen}


def fingerprint(path: Path) -> str:
    """Returns a digest of the arrays' names, sizes and checksums, which the archive lists: cheap at any size."""
    with _opened(path) as archive:
        entries = sorted((entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise DataError(f"{path} is no .npz, or only part of one. Write it with np.savez_compressed.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}. Check that it is a file and readable.") from None


def _checked_size(archive: zipfile.ZipFile, name: str, path: Path) -> int:
    """Returns the bytes of one array, from its header, if header and contents agree."""
    entry = archive.getinfo(name + _SUFFIX)
    try:
        with archive.open(entry) as file:
            shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
            start = file.tell()
    except (
        KeyError,
        ValueError,
        SyntaxError,
        EOFError,
        OSError,
        zlib.error,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
    ):
        raise DataError(
            f"{path}: {name} has no readable header. Write the file anew with np.savez_compressed."
        ) from None
    if dtype.hasobject:
        raise DataError(f"{path}: {name} holds Python objects, which can run code when read. Save plain numbers.")
    size = dtype.itemsize
    for dimension in shape:
        size *= dimension  # Python's integers don't overflow
    if min(shape, default=1) < 0 or size != entry.file_size - start:
        raise DataError(
            f"{path}: {name} says it has shape {shape} of {dtype}, but {entry.file_size - start} bytes follow. "
            "The file is damaged; write it anew."
        )
    return size


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    try:
        with archive.open(name + _SUFFIX) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {name} is damaged ({error}). Copy the file again or write it anew.") from None
