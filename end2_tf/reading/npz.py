"""NumPy's files that others made, read without trusting what they say about themselves."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np

from end2_tf.errors import DataError, End2Error
from end2_tf.reading import archives, memory, texts

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_SUFFIX = ".npy"
_MAX_HEADER = 65_536  # bytes; NumPy reads up to 10,000 of them
_MAX_DIMENSIONS = 64  # NumPy's own limit
_MAX_ITEM = 100_000  # bytes of one value: names are the longest
_ADVICE = "Write it anew with np.savez_compressed."


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
        found = {name: _header(archive, name, path) for name in chosen}
        total = sum(each.dtype.itemsize * math.prod(each.shape) for each in found.values())
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


def mapped(path: Path) -> np.ndarray:
    """Returns the array of a .npy file, on disk; raises DataError as `read` does."""
    try:
        if not path.is_file():
            raise DataError(f"{path} is {'no plain file' if path.exists() else 'missing'}. Give a file of np.save.")
        with open(path, "rb") as file:
            header, start = _parsed(file, path.stat().st_size, str(path))
        if math.prod(header.shape) == 0:  # an empty file can't be mapped
            return np.empty(header.shape, header.dtype)
        order: Literal["F", "C"] = "F" if header.in_fortran_order else "C"
        return np.memmap(path, header.dtype, "r", start, header.shape, order)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}. Check that it is a file and readable.") from None


def array(path: Path) -> np.ndarray:
    """Returns the array of a .npy file, in memory; raises DataError as `read` does."""
    found = mapped(path)
    memory.check_fits(found.nbytes, f"{path}", "Use fewer or smaller examples, or a machine with more.")
    return np.array(found)


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
        except archives.FAULTS as error:
            raise _damaged(path, name, error) from None


def fingerprint(path: Path) -> str:
    """Returns a digest of the arrays' names, sizes and checksums, which the archive lists: cheap at any size."""
    with _opened(path) as archive:
        entries = sorted((entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def _opened(path: Path) -> contextlib.AbstractContextManager[zipfile.ZipFile]:
    return archives.opened(path, DataError, "an .npz file", _ADVICE)


def _header(archive: zipfile.ZipFile, name: str, path: Path) -> Header:
    """Returns one array's header if it and the contents agree."""
    where = f"{path}: {texts.listed([name])}"
    try:
        entry = archive.getinfo(name + _SUFFIX)
        with archive.open(entry) as file:
            return _parsed(file, entry.file_size, where)[0]
    except End2Error:
        raise
    except archives.FAULTS:
        raise DataError(f"{where} has no readable header. {_ADVICE}") from None


def _parsed(file: IO[bytes], num_bytes: int, where: str) -> tuple[Header, int]:
    """Returns the header at the start of a file of so many bytes, and where the values begin."""
    try:
        version = np.lib.format.read_magic(file)
        prefix = file.read(2 if version == (1, 0) else 4)
        if (length := int.from_bytes(prefix, "little")) > _MAX_HEADER:
            raise ValueError(f"a header of {length} bytes")  # NumPy would unpack it first
        shape, in_fortran_order, dtype = _HEADERS[version](io.BytesIO(prefix + file.read(length)))
        start = file.tell()
    except (
        Exception
    ):  # NumPy reads it as a Python literal, and twice: it has no one error for what can be wrong with it
        raise DataError(f"{where} has no readable header. {_ADVICE}") from None
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which can run code when read. Save plain numbers.")
    if dtype.names is not None or dtype.subdtype is not None or not 0 < dtype.itemsize <= _MAX_ITEM:
        raise DataError(f"{where} has values of {texts.listed([str(dtype)])}. Allowed: plain numbers and short texts.")
    size = dtype.itemsize
    for dimension in shape:
        size *= dimension  # Python's integers don't overflow
    if len(shape) > _MAX_DIMENSIONS or min(shape, default=1) < 0 or size != num_bytes - start:
        raise DataError(
            f"{where} says it has shape {texts.listed([str(shape)])} of {dtype}, but {num_bytes - start} bytes follow. "
            "The file is damaged; write it anew."
        )
    return Header(shape, dtype, in_fortran_order), start


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    try:
        with archive.open(name + _SUFFIX) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except archives.FAULTS as error:
        raise _damaged(path, name, error) from None


def _damaged(path: Path, name: str, error: BaseException) -> DataError:
    return DataError(f"{path}: {texts.listed([name])} is damaged ({error}). Copy the file again or write it anew.")
