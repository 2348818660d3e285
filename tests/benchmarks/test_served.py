"""Served answers: what is timed are exported models that answer what they should."""

from __future__ import annotations

import numpy as np
import pytest
import served
from numpy.testing import assert_allclose

OUTPUTS = {
    *("probs", "alphas", "predicted_class"),
    *("total_uncertainty", "data_uncertainty", "knowledge_uncertainty"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return served.export(served.Network("mlp", {"hidden": [4]}, 3), tmp_path_factory.mktemp("exported"))


def test_each_gives_its_own_answers(models):
    batch = np.random.default_rng(0).integers(0, 256, (5, *served.SHAPE), np.uint8)
    answers = {name: call() for name, call in served.calls(models, batch).items()}
    assert {name: len(each) for name, each in answers.items()} == {
        "student": 1,
        "backbone": 1,
        "ensemble": 1,
        "members": 3,
    }
    (student,), (backbone,), (ensemble,) = (answers[name] for name in ("student", "backbone", "ensemble"))
    assert set(student) == OUTPUTS
    assert set(ensemble) == OUTPUTS - {"alphas"}
    assert set(backbone) == {"logits"}
    assert_allclose(student["alphas"], np.exp(backbone["logits"]), rtol=1e-5)
    assert (ensemble["knowledge_uncertainty"] > 1e-6).all()  # members differ
    assert [set(each) for each in answers["members"]] == [{"logits"}] * 3


def test_members_have_weights_of_their_own(models):
    kernels = [next(v for v in member.variables if len(v.shape) == 2) for member in models["members"]]
    kernels[0].assign(np.zeros_like(kernels[0]))
    assert np.abs(kernels[1].numpy()).max() > 0


def test_rows_are_of_each_batch(tmp_path):
    rows = served.compare(served.Network("mlp", {"hidden": [4]}, 2), tmp_path, repetitions=2, seconds=0.0)
    assert len(rows) == 4 * len(served.BATCH_SIZES)
    for (_, *ratios), most in zip((rows[:4], rows[4:]), (1.05, 1.2), strict=True):
        assert [(row.target, row.is_lower_better) for row in ratios] == [(most, True), (0.9, False), (0.9, False)]
    assert all(0.001 < value < 1000 for row in rows for value in row.values)


@pytest.mark.slow
def test_everything_in_small():
    rows = served.measure(quick=True)
    assert len(rows) == 16
    assert sum("cnn" in row.what for row in rows) == 8
