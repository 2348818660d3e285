"""Reads .npz files that others made, without trusting what they say about themselves."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
        total = sum(each.dtype.itemsize * math.prod(each.shape) for each in headers(path, chosen).values())
        memory.check_fits(total, f"{path}", "Use fewer or smaller examples, or a machine with more.")
        return {name: _array(archive, name, path) for name in chosen}


@dataclass(frozen=True)
class Header:
    """What an array's header says, which agrees with its bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    in_fortran_order: bool


def headers(path: Path, wanted: Iterable[str]) -> dict[str, Header]:
    """Returns the headers of those of the wanted arrays that are there; raises DataError as `read` does."""
    with _opened(path) as archive:
        there = set(archive.namelist())
        return {name: _header(archive, name, path) for name in wanted if name + _SUFFIX in there}


def rows(path: Path, name: str, ids: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Yields rows of an array in C order, by their ascending numbers, at most so many at a time; reads on as it goes.

    Raises:
        DataError: the file is damaged, or isn't what it was.
    """
    with _opened(path) as archive:
        header = _header(archive, name, path)
        row = header.shape[1:]
        row_bytes = header.dtype.itemsize * math.prod(row)
        try:
            with archive.open(name + _SUFFIX) as file:
                _HEADERS[np.lib.format.read_magic(file)](file)
                first = file.tell()
                for start in range(0, len(ids), most):
                    chosen = ids[start : start + most]
                    out = np.empty((len(chosen), *row), header.dtype)
                    place = 0
                    for run in np.split(chosen, np.flatnonzero(np.diff(chosen) != 1) + 1):
                        file.seek(first + int(run[0]) * row_bytes)
                        part = file.read(len(run) * row_bytes)
                        out[place : place + len(run)] = np.frombuffer(part, header.dtype).reshape(-1, *row)
                        place += len(run)
                    yield out
        except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
            raise _damaged(path, name, error) from None


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


def _header(archive: zipfile.ZipFile, name: str, path: Path) -> Header:
    """Returns one array's header if it and the contents agree."""
    entry = archive.getinfo(name + _SUFFIX)
    try:
        with archive.open(entry) as file:
            shape, in_fortran_order, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
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
    return Header(shape, dtype, in_fortran_order)


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    try:
        with archive.open(name + _SUFFIX) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise _damaged(path, name, error) from None


def _damaged(path: Path, name: str, error: BaseException) -> DataError:
    return DataError(f"{path}: {name} is damaged ({error}). Copy the file again or write it anew.")
