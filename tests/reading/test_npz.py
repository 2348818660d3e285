"""Arrays that are what they say come back as they were; tests/hostile/ has the others."""

from __future__ import annotations

import numpy as np
import pytest

from end2_tf.errors import DataError
from end2_tf.reading import memory, npz

ARRAYS = {
    "floats": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
    "turned": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "words": np.array(["a", "bc"]),
    "flags": np.array([True, False]),
    "scalar": np.array(7),
    "empty": np.empty((0, 3), np.float32),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_archive(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    assert npz.names(tmp_path / "a.npz") == list(ARRAYS)
    found = npz.read(tmp_path / "a.npz", [*ARRAYS, "not there"])
    assert list(found) == list(ARRAYS)
    for name, wanted in ARRAYS.items():
        np.testing.assert_array_equal(found[name], wanted)
        assert found[name].dtype == wanted.dtype
    header = npz.headers(tmp_path / "a.npz", ["turned"])["turned"]
    assert header == npz.Header((3, 4), np.dtype(np.int64), True)


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_alone(tmp_path, name):
    np.save(tmp_path / "a.npy", ARRAYS[name])
    for read in (npz.mapped, npz.array):
        found = read(tmp_path / "a.npy")
        np.testing.assert_array_equal(found, ARRAYS[name])
        assert found.dtype == ARRAYS[name].dtype
    assert not isinstance(npz.array(tmp_path / "a.npy"), np.memmap)


def test_rows_in_pieces(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(40).reshape(20, 2))
    ids = np.array([0, 1, 5, 6, 7, 19])
    parts = list(npz.rows(tmp_path / "a.npz", "x", ids, 4))
    assert [len(part) for part in parts] == [4, 2]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(40).reshape(20, 2)[ids])


def test_what_is_larger_than_memory_is_not_read(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.zeros(1_000))
    np.save(tmp_path / "a.npy", np.zeros(1_000))
    monkeypatch.setattr(memory, "available_bytes", lambda: 7_999)
    for read in (lambda: npz.read(tmp_path / "a.npz", ["x"]), lambda: npz.array(tmp_path / "a.npy")):
        with pytest.raises(memory.NoRoomError, match=r"needs 0\.0 MB of memory; 0\.0 MB are left"):
            read()
    assert npz.mapped(tmp_path / "a.npy").shape == (1_000,)


def test_no_room_is_a_fault_of_data_too():
    assert issubclass(memory.NoRoomError, DataError)
