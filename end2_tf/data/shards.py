"""Arrays on disk in files of so many rows each, a few of which are in memory at a time.

An array of one shard is one file, `<name>.npy`; of several it is a folder, `<name>/00000.npy` and so on.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from end2_tf import workdir
from end2_tf.reading import npz

SHARD_BYTES = 16_000_000
WINDOW = 8  # shards in memory at a time, and among which a training shuffles


def rows_of(row_bytes: int) -> int:
    """Returns how many rows of so many bytes make a shard."""
    return max(1, SHARD_BYTES // max(1, row_bytes))


def spans(num: int, rows: int) -> list[tuple[int, int]]:
    """Returns the shards of an array of `num` rows, as [start, stop)."""
    return [(start, min(start + rows, num)) for start in range(0, num, rows)]


class Parts:
    """An array in parts of so many rows, of which the last few that were asked for are in memory.

    Args:
        num: Rows it has.
        rows: Rows a part has; the last one may have fewer.
        load: Gives a part by its number.
    """

    def __init__(self, num: int, rows: int, load: Callable[[int], np.ndarray]):
        self.num, self.rows, self.load = num, rows, load
        self._kept: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()  # a pipeline asks from a thread of its own

    def __len__(self) -> int:
        return self.num

    @property
    def spans(self) -> list[tuple[int, int]]:
        return spans(self.num, self.rows)

    def read(self, part: int) -> np.ndarray:
        """Returns a part; the last few are kept in memory."""
        with self._lock:
            if part not in self._kept:
                while len(self._kept) >= WINDOW:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[part] = self.load(part)
            return self._kept[part]

    def __getitem__(self, ids: np.ndarray | slice) -> np.ndarray:
        """Returns rows by their numbers."""
        if self.num <= self.rows:
            return self.read(0)[ids]
        if isinstance(ids, slice):
            ids = np.arange(*ids.indices(self.num))
        numbers = ids // self.rows
        result: np.ndarray | None = None
        for number in np.unique(numbers):
            mine = numbers == number
            part = self.read(int(number))
            if result is None:
                result = np.empty((len(ids), *part.shape[1:]), part.dtype)
            result[mine] = part[ids[mine] - number * self.rows]
        return self.read(0)[:0] if result is None else result


class Shards(Parts):
    """An array on disk, a file a part.

    Args:
        base: The array's path without its suffix.
        num: Rows it has.
        rows: Rows a shard has; the last one may have fewer.
        make: Makes a shard that isn't there, by its number; it is written, for the next time.
    """

    def __init__(self, base: Path, num: int, rows: int, make: Callable[[int], np.ndarray] | None = None):
        super().__init__(num, rows, self._open)
        self.base, self._make = base, make

    @functools.cached_property
    def _like(self) -> np.ndarray:
        return npz.mapped(self.path(0))[:0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.num, *self._like.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self._like.dtype

    @property
    def ndim(self) -> int:
        return self._like.ndim

    @property
    def num_shards(self) -> int:
        return -(-self.num // self.rows)

    def path(self, shard: int) -> Path:
        """Returns where a shard is kept."""
        if self.num_shards == 1:
            return self.base.with_name(f"{self.base.name}.npy")
        return self.base / f"{shard:05d}.npy"

    def missing(self) -> Iterator[tuple[int, int, int]]:
        """Yields the shards that aren't there, as (number, start, stop)."""
        for shard, (start, stop) in enumerate(self.spans):
            if not self.path(shard).is_file():
                yield shard, start, stop

    @property
    def is_there(self) -> bool:
        return next(self.missing(), None) is None

    def write(self, shard: int, values: np.ndarray) -> None:
        """Writes a shard, all or nothing."""
        workdir.write_atomically(self.path(shard), lambda temporary: np.save(temporary, values))

    def _open(self, shard: int) -> np.ndarray:
        path = self.path(shard)
        if path.is_file() or self._make is None:
            return npz.array(path)
        values = self._make(shard)
        self.write(shard, values)
        return values


Rows = np.ndarray | Shards
"""Inputs in memory or on disk, with shape and dtype, which give rows by their numbers."""


def rows_in(inputs: Rows) -> int | None:
    """Returns how many rows a shard has; None for an array in memory."""
    return inputs.rows if isinstance(inputs, Shards) else None


def parts(inputs: Rows) -> Iterator[np.ndarray]:
    """Yields all rows, as many at a time as are in memory; a few, if they are in shards."""
    if isinstance(inputs, Shards):
        yield from (inputs.load(shard) for shard in range(inputs.num_shards))
    else:
        yield inputs
