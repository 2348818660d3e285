import numpy as np
import pytest

from end2_tf.data import shards
from end2_tf.data.pipeline import Order
from end2_tf.data.shards import Shards

VALUES = np.random.default_rng(0).normal(size=(23, 2))


def _written(folder, rows):
    array = Shards(folder / "x", len(VALUES), rows)
    for shard, start, stop in list(array.missing()):
        array.write(shard, VALUES[start:stop])
    return array


@pytest.mark.parametrize(("rows", "files"), [(23, 1), (100, 1), (22, 2), (5, 5), (1, 23)])
def test_rows_are_those_that_were_written(tmp_path, rows, files):
    array = _written(tmp_path, rows)
    assert array.is_there
    assert len(list(tmp_path.rglob("*.npy"))) == array.num_shards == files
    for ids in np.arange(23), np.asarray([22, 0, 0, 7, 21]), np.arange(0):
        np.testing.assert_array_equal(array[ids], VALUES[ids])
    assert len(array) == 23
    array.path(0).unlink()
    assert [each[0] for each in array.missing()] == [0]


def test_few_are_in_memory_and_what_isnt_there_is_made_once(tmp_path):
    made = []

    def make(shard):
        made.append(shard)
        return np.full((1, 2), shard)

    array = Shards(tmp_path / "x", 30, 1, make)
    for _ in range(2):
        np.testing.assert_array_equal(array[np.arange(30)][:, 0], np.arange(30))
    assert made == list(range(30))
    assert len(array._kept) == shards.WINDOW


@pytest.mark.parametrize(("num", "rows"), [(1000, 10), (1003, 10), (81, 10), (80, 10), (7, 1), (5, None)])
def test_an_epoch_of_shards_shows_every_example_once_from_few_shards_at_a_time(num, rows):
    order = Order(num, 6, seed=1, num_auxiliary=num, auxiliary_share=0.5, rows=rows, auxiliary_rows=rows)
    epochs = [[order.batch(e * order.steps_per_epoch + i) for i in range(order.steps_per_epoch)] for e in range(2)]
    shown = [np.concatenate([ids[ids < num] for ids in epoch]) for epoch in epochs]
    for each in shown:
        assert sorted(each) == list(range(num))
    assert num < 9 or not np.array_equal(*shown)
    auxiliary = np.concatenate([ids[ids >= num] for epoch in epochs for ids in epoch]) - num
    assert sorted(auxiliary[:num]) == list(range(num))
    if rows is not None and num > 8 * rows:
        for start in range(0, num, 4 * rows):  # at most two windows, the one that ends and the one that begins
            assert len(np.unique(shown[0][start : start + 4 * rows] // rows)) <= 2 * shards.WINDOW
        assert len(np.unique(shown[0] // rows)) > 8
        assert np.abs(np.diff(shown[0][:50])).min() >= 1


def test_what_fits_one_window_is_shuffled_as_a_whole():
    whole, parts = (Order(75, 6, seed=3, rows=rows) for rows in (None, 10))
    for step in range(20):
        np.testing.assert_array_equal(whole.batch(step), parts.batch(step))


def test_a_shard_has_about_so_many_bytes():
    assert shards.rows_of(784) == shards.SHARD_BYTES // 784
    assert shards.rows_of(10**9) == 1
    assert shards.spans(10, 4) == [(0, 4), (4, 8), (8, 10)]
