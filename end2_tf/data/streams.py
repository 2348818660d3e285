"""Inputs that a source reads when they are asked for, some at a time, so that there may be more than memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from end2_tf.data import shards
from end2_tf.reading import memory

Read = Callable[[np.ndarray], Iterator[np.ndarray]]
"""Row numbers (m,) int64 → arrays that hold these rows, one after the other, in this order."""


class Stream:
    """An array that isn't in memory: what has been chosen of a source's rows, and how they are made.

    Args:
        read: Reads rows; their numbers ascend, unless they may come `in_any_order`.
        num: Rows the source has.
        row_shape, dtype: Of each.
        name: What to call it in messages.
        in_any_order: Whether rows are read as fast in any order, as from single files.
    """

    def __init__(
        self,
        read: Read,
        num: int,
        row_shape: tuple[int, ...],
        dtype: np.dtype,
        name: str,
        *,
        in_any_order: bool = False,
        ids: np.ndarray | None = None,
    ):
        self._read, self._num, self._row_shape = read, num, row_shape
        self.dtype, self.name, self.in_any_order = np.dtype(dtype), name, in_any_order
        self._ids = np.arange(num) if ids is None else ids

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self._ids), *self._row_shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self._row_shape))

    def __getitem__(self, ids: np.ndarray) -> Stream:
        """Returns the stream of some rows, by their numbers in this one."""
        return self._with(self._read, self._row_shape, self._ids[ids])

    def map(self, function: Callable[[np.ndarray], np.ndarray], row_shape: tuple[int, ...]) -> Stream:
        """Returns the stream of what a function makes of some rows at a time."""
        return self._with(lambda ids: map(function, self._read(ids)), row_shape, self._ids)

    def _with(self, read: Read, row_shape: tuple[int, ...], ids: np.ndarray) -> Stream:
        return Stream(read, self._num, row_shape, self.dtype, self.name, in_any_order=self.in_any_order, ids=ids)

    def batches(self, rows: int, first: int = 0) -> Iterator[np.ndarray]:
        """Yields the rows from number `first` on, so many at a time; fewer at the end."""
        kept, num = [np.empty((0, *self._row_shape), self.dtype)], 0
        for part in self._read(self._ids[first:]):
            kept.append(part)
            num += len(part)
            if num >= rows:
                together = np.concatenate(kept)
                whole = num - num % rows
                yield from (together[start : start + rows] for start in range(0, whole, rows))
                kept, num = [together[whole:]], num - whole
        if num:
            yield np.concatenate(kept)

    def array(self) -> np.ndarray:
        """Returns all rows in memory.

        Raises:
            DataError: they don't fit.
        """
        memory.check_fits(len(self) * self.row_bytes, f"{self.name} ({len(self):,} examples)", "Set data.max_test.")
        array = np.empty(self.shape, self.dtype)
        filled = 0
        for part in self.batches(shards.rows_of(self.row_bytes)):
            array[filled : filled + len(part)] = part
            filled += len(part)
        return array
