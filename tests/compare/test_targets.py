"""What a recommended student should reach."""

import numpy as np
import pytest
from synthetic_runs import P_RIGHT, P_WRONG, N, auroc, full, model, write

from end2_tf.compare import differences, runs, targets


def _checks(tmp_path, models=None, **options):
    run = runs.Finished(write(tmp_path / "run", models or full(), **options)).run
    return {c.what: c for c in targets.checks(run) if c.student == "end2_aux"}


@pytest.mark.parametrize(
    ("data", "share", "passed"),
    [("cifar10", 0.81, True), ("cifar10", 0.79, False), ("fashion_mnist", 0.94, False), ("fashion_mnist", 0.96, True)],
)
def test_closed_gaps_are_asked_for_by_entry(tmp_path, data, share, passed):
    gaps = [("end2_aux", "error", share), ("end2_aux", "nll", None)]
    found = _checks(tmp_path, data=data, gaps=gaps)
    assert found["Error gap closed"].passed is passed
    assert found["Error gap closed"].found == f"{100 * share:.0f} %"
    assert (found["NLL gap closed"].passed, found["NLL gap closed"].found) == (None, "within noise")


@pytest.mark.parametrize(
    ("share", "found"), [(0.796, "79.6 %"), (0.79996, "79.996 %"), (0.804, "80 %"), (0.79, "79 %"), (-0.3, "−30 %")]
)
def test_a_share_that_misses_does_not_look_like_its_target(tmp_path, share, found):
    check = _checks(tmp_path, data="cifar10", gaps=[("end2_aux", "error", share)])["Error gap closed"]
    assert (check.found, check.target, check.passed) == (found, "≥ 80 %", share >= 0.8)


def test_no_miss_looks_like_its_target(tmp_path):
    extra = [
        ("end2_aux", "test", "knowledge_rank_correlation", 0.8997),
        ("end2_aux", "test", "knowledge_mean_ratio", 1.2003),
    ]
    found = _checks(tmp_path, extra=extra)
    assert found["Rank correlation of knowledge"].found == "0.8997"
    assert found["Mean knowledge over the ensemble's"].found == "1.2003"
    assert differences.amount(0.00103, "error", limit=0.001) == "+0.103 points"
    assert differences.amount(-0.00504, "ood_auroc", limit=-0.005) == "−0.504 points"
    assert differences.amount(0.00004, "ood_auroc", limit=0.0) == "+0.004 points"
    assert differences.amount(0.0, "ood_auroc", limit=0.0) == "0.0 points"


def test_where_the_gap_is_small_being_close_to_the_ensemble_counts(tmp_path):
    models = full(single=model(0.105, 1.0, seeds=5), end2_aux=model(0.102, 1.4, 2.49))
    found = _checks(tmp_path, models)
    assert "Error gap closed" not in found
    assert found["Error against the ensemble"].value == pytest.approx(1 / N)  # of 0.002
    assert found["Error against the ensemble"].passed
    assert found["NLL against the ensemble"].value == pytest.approx(np.log(P_RIGHT / P_WRONG) / N)  # of 0.005
    assert found["NLL against the ensemble"].passed


def test_checks_against_ensemble_and_end(tmp_path):
    extra = [
        ("end2_aux", "test", "knowledge_rank_correlation", 0.91),
        ("end2_aux", "test", "knowledge_mean_ratio", 1.25),
    ]
    found = _checks(tmp_path, full(end2_aux=model(0.11, 1.4, 2.3)), extra=extra)
    passed = {what: check.passed for what, check in found.items()}
    assert passed["Error against EnD"] is False  # a point above
    assert passed["NLL against EnD"] is False
    assert passed["PRR against the ensemble"] is True
    assert passed["AUROC on ring_410 by knowledge against the ensemble"] is False
    assert passed["AUROC on ring_410 by knowledge against EnD and a single member"] is True
    assert passed["Rank correlation of knowledge"] is True
    assert passed["Mean knowledge over the ensemble's"] is False
    assert passed["NLL against the same network on labels"] is True


def test_the_smallest_lead_decides_and_what_is_missing_is_left_open(tmp_path):
    models = full(single=model(0.15, 1.45, seeds=5))
    del models["single_matched"]
    found = _checks(tmp_path, models)
    total = found["AUROC on ring_410 by total against EnD and a single member"]
    expected = np.mean([auroc(s, "ring_410", "total") for s in models["end2_aux"]])
    expected -= np.mean([auroc(s, "ring_410", "total") for s in models["single"]])
    assert total.value == pytest.approx(expected)
    assert total.passed is False
    assert found["NLL against the same network on labels"].passed is None
    assert found["Rank correlation of knowledge"].passed is None
