import keras
import numpy as np
import pytest

from end2_tf import checkpoint
from end2_tf.checkpoint import Checkpoint


@pytest.fixture
def variables():
    return [keras.Variable(np.ones(3)), keras.Variable(np.zeros((2, 2)))]


def test_what_was_saved_is_restored(tmp_path, variables):
    state = Checkpoint(tmp_path / "c.npz", variables)
    assert state.restore("step") is None
    state.save(step=np.asarray(7), sums=np.arange(4.0))
    variables[0].assign(np.zeros(3))
    found = state.restore("step", "sums")
    assert int(found["step"]) == 7
    np.testing.assert_array_equal(found["sums"], np.arange(4.0))
    np.testing.assert_array_equal(variables[0], np.ones(3))


def test_the_time_of_all_processes_counts(tmp_path, variables, monkeypatch):
    now, path = [100.0], tmp_path / "c.npz"
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    first = Checkpoint(path, variables)
    now[0] += 30
    first.save(step=np.asarray(7))
    now[0] = 5.0  # another process
    second = Checkpoint(path, variables)
    second.restore("step")
    now[0] += 12
    second.save(step=np.asarray(9))
    assert checkpoint.seconds_spent(path) == 42
    earlier = {name: array for name, array in np.load(path).items() if name != "seconds"}
    np.savez(path, **earlier)  # as before it was kept
    third = Checkpoint(path, variables)
    assert third.restore("step") is not None
    third.save(step=np.asarray(9))
    assert checkpoint.seconds_spent(path) is None
    assert checkpoint.seconds_spent(tmp_path / "none.npz") is None


@pytest.mark.parametrize("damage", ["cut short", "of other variables", "of another kind"])
def test_a_file_that_cant_be_trusted_is_as_good_as_none(tmp_path, variables, damage):
    path = tmp_path / "c.npz"
    Checkpoint(path, variables).save(step=np.asarray(7))
    state, wanted = Checkpoint(path, variables), "step"
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "of other variables":
        state = Checkpoint(path, [variables[1], variables[0]])
    else:
        wanted = "losses"
    variables[0].assign(np.full(3, 5.0))
    assert state.restore(wanted) is None
    np.testing.assert_array_equal(variables[0], np.full(3, 5.0))


def test_one_of_several_processes_writes(tmp_path, variables):
    Checkpoint(tmp_path / "c.npz", variables, is_read_only=True).save(step=np.asarray(7))
    assert not list(tmp_path.iterdir())


def test_saves_that_take_long_are_rarer(tmp_path, variables, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 10.0)
    took = [0.1]

    def write(path, **arrays):
        now[0] += took[0]

    monkeypatch.setattr(checkpoint.workdir, "write_npz", write)
    state = Checkpoint(tmp_path / "c.npz", variables)
    assert not state.is_due
    now[0] += 10
    assert state.is_due
    state.save()
    now[0] += 10
    assert state.is_due
    took[0] = 3.0
    state.save()
    now[0] += 39  # four times as long as QUICK
    assert not state.is_due
    now[0] += 1
    assert state.is_due
