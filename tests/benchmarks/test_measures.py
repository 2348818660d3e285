from __future__ import annotations

import measures
import numpy as np
import pytest
from numpy.testing import assert_allclose

from end2_tf import metrics, uncertainty
from end2_tf.errors import End2Error


def test_both_tables_are_of_the_same_scores():
    inside, outside = measures.scores_of(300, 0), measures.scores_of(200, 1)
    ours, theirs = measures.ood_table(inside, outside), measures.roc_curves(inside, outside)
    assert set(theirs) == {name for name in ours if "auroc" in name}
    assert len(theirs) == len(uncertainty.MEASURES)
    assert_allclose([ours[name] for name in theirs], list(theirs.values()), rtol=1e-12)
    assert min(theirs.values()) > 0.55


def test_parts_are_of_one_size():
    parts = measures.parts_of(100)
    found = {name: call() for name, call in parts.items()}
    assert found["from_alphas"]["probs"].shape == (100, 10)
    assert found["from_members"]["probs"].shape == (10, 10)
    assert found["from_alphas"]["mkl"].dtype == found["from_members"]["mkl"].dtype == np.float64
    assert_allclose(found["from_probs"]["total_uncertainty"], found["from_alphas"]["total_uncertainty"], rtol=1e-12)
    assert 0.05 < found["metrics"]["error"] < 0.95
    assert set(found["metrics"]) < set(metrics.DEFINITIONS)


@pytest.mark.slow
def test_rows_and_their_ratios(monkeypatch):
    monkeypatch.setattr(measures, "QUICK", 2_000)
    rows = {row.what: row for row in measures.measure(quick=True)}
    floor = rows["floor, 2,000 × 10"].values[0]
    shares = [rows[f"{name} / floor"].values[0] for name in measures.STUDENTS]
    assert_allclose(shares, [rows[f"{name}, 2,000 × 10"].values[0] / floor for name in measures.STUDENTS])
    assert_allclose(rows["from_alphas + from_probs + metrics / floor"].values[0], sum(shares))
    assert {row.target for row in rows.values() if row.target} == {1.5, 1.3, 4.0}
    assert 0.1 < rows["peak of resident memory, 20 × 1,000"].values[0] < 4


def test_a_failed_process_says_why():
    with pytest.raises(End2Error, match=r"measuring the memory of 10 × 1 alphas failed: .*classes"):
        measures.peak(10, 1)
