import numpy as np
import pytest

from end2_tf.data.streams import Stream
from end2_tf.errors import DataError
from end2_tf.reading import memory

VALUES = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


def _stream(most=7):
    asked = []

    def read(ids):
        asked.extend(ids.tolist())
        yield from (VALUES[ids[i : i + most]] for i in range(0, len(ids), most))

    return Stream(read, 50, (3,), np.float32, "x_train"), asked


@pytest.mark.parametrize("rows", [1, 4, 7, 20, 50, 99])
@pytest.mark.parametrize("first", [0, 13, 49])
def test_batches_are_the_rows_in_order_so_many_at_a_time(rows, first):
    stream, asked = _stream()
    parts = list(stream.batches(rows, first))
    np.testing.assert_array_equal(np.concatenate(parts), VALUES[first:])
    assert all(len(part) == rows for part in parts[:-1])
    assert 0 < len(parts[-1]) <= rows
    assert asked == list(range(first, 50))  # what was written already isn't read again


def test_choosing_and_changing_read_nothing():
    stream, asked = _stream()
    chosen = stream[np.arange(0, 50, 2)][np.array([3, 5, 8])].map(lambda part: part[:, :2] * 2, (2,))
    assert chosen.shape == (3, 2)
    assert (chosen.ndim, chosen.dtype, len(chosen)) == (2, np.float32, 3)
    assert not asked
    np.testing.assert_array_equal(chosen.array(), VALUES[[6, 10, 16], :2] * 2)
    assert asked == [6, 10, 16]
    assert list(stream[np.arange(0)].batches(3)) == []


def test_what_doesnt_fit_in_memory_is_said_before_it_is_read(monkeypatch):
    stream, asked = _stream()
    monkeypatch.setattr(memory, "available_bytes", lambda: 100)
    with pytest.raises(DataError, match=r"x_train \(50 examples\) needs .* Set data.max_test"):
        stream.array()
    assert not asked
