"""Reading and writing a transfer set: what is compared is one training, with its data and without."""

from __future__ import annotations

import numpy as np
import pytest
import reading
from numpy.testing import assert_array_equal

from end2_tf import registry
from end2_tf.data.pipeline import Share


@pytest.fixture(scope="module")
def spirals(tmp_path_factory):
    return reading.student_of("spirals_mlp_end2", "end2_aux", 2, tmp_path_factory.mktemp("recorded"))


def test_a_student_is_the_experiments_own(spirals):
    batches, loss, network = spirals
    experiment = registry.experiments()["spirals_mlp_end2"]
    assert batches.steps_per_epoch == 2
    inputs, targets = batches.arrays(0)
    assert inputs.shape == (2 * experiment.student.batch_size, 2)  # half of them auxiliary
    assert targets.shape == (len(inputs), 4)
    assert loss.weight == experiment.methods["end2_aux"].loss_options["weight"]
    assert network().count_params() == 2 * 64 + 64 + 2 * (64 * 64 + 64) + 64 * 3 + 3
    (first, of_first), (again, of_again) = (batches.arrays(step) for step in (0, 2))
    assert (np.sort(first, 0) != np.sort(again, 0)).any()  # another view, and what members said of it
    assert (np.sort(of_first, 0) != np.sort(of_again, 0)).any()


def test_one_batch_is_shown_at_every_step(spirals):
    batches, _, _ = spirals
    cached = reading.OneBatch(batches)
    assert cached.steps_per_epoch == batches.steps_per_epoch
    shown = list(cached.dataset(3, 7, Share()))
    assert len(shown) == 4
    expected = batches.arrays(0)
    for element in shown:
        for got, wanted in zip(element[:2], expected, strict=True):
            assert_array_equal(got, wanted)


def test_a_student_on_labels_has_them(tmp_path):
    batches, _, _ = reading.student_of("spirals_mlp_end2", "single_matched", 2, tmp_path)
    inputs, labels = batches.arrays(0)
    assert len(inputs) == 100
    assert set(labels) == {0, 1, 2}
    assert not any(tmp_path.iterdir())  # nobody was asked


def test_rows_of_reading(tmp_path):
    step, waiting = reading.waiting("spirals_mlp_end2", 2, tmp_path, repetitions=2, seconds=0.0)
    assert step.unit == "ms"
    assert min(step.values) > 0
    assert (waiting.target, waiting.is_lower_better) == (3, True)
    assert all(value < 100 for value in waiting.values)


def test_recording_writes_each_time_and_cleans_up(tmp_path, monkeypatch):
    from end2_tf import transfer

    written = []
    write = transfer._record_shard
    monkeypatch.setattr(transfer, "_record_shard", lambda *rest: written.append(rest) or write(*rest))
    rate, share = reading.writing(2, [4], 50, tmp_path, repetitions=2, seconds=0.0)
    assert len(written) == 4  # to trace, for how often, and two repetitions
    assert not any(tmp_path.iterdir())
    assert (share.unit, share.target, share.is_lower_better) == ("%", 90, False)
    assert all(0 < value < 200 for value in share.values)
    assert min(rate.values) > 0


@pytest.mark.slow
def test_everything_in_small():
    rows = reading.measure(quick=True)
    assert [row.target for row in rows] == [None, 3, None, 3, None, 90]
