"""Differences between models are those that were put in."""

import numpy as np
import pytest
from synthetic_runs import P_RIGHT, P_WRONG, QUESTION, N, auroc, compared, model

from end2_tf.compare.differences import BEST, Difference


def test_differences_are_those_that_were_put_in(tmp_path):
    models = {"end": model(0.20, 1.0), "end2": model(0.10, 2.0, 3.0)}
    _, found = compared(tmp_path, models)
    error, nll = found[QUESTION, "test", "error", ""], found[QUESTION, "test", "nll", ""]
    assert error.value == pytest.approx(-0.1)
    assert nll.value == pytest.approx(0.1 * np.log(P_WRONG / P_RIGHT), rel=1e-6)
    for difference in (error, nll):
        assert difference.low < difference.value < difference.high < 0
        assert difference.outcome == "wins"
    half = 1.96 * np.sqrt(0.1 * 0.9 / N)  # a tenth of the examples differ by -1, the rest by 0
    assert error.low == pytest.approx(-0.1 - half, abs=0.3 * half)
    assert error.high == pytest.approx(-0.1 + half, abs=0.3 * half)


@pytest.mark.parametrize(("score", "kind"), [("total", "total"), (BEST, "knowledge")])
def test_auroc_by_total_of_both_and_by_each_models_best_score(tmp_path, score, kind):
    models = {"end": model(0.1, 1.0), "end2": model(0.1, 0.5, 2.0)}
    _, found = compared(tmp_path, models)
    for dataset in ("ring_410", "ring_800"):
        expected = np.mean([auroc(s, dataset, kind) for s in models["end2"]])
        expected -= np.mean([auroc(s, dataset, "total") for s in models["end"]])
        difference = found[QUESTION, dataset, "ood_auroc", score]
        assert difference.value == pytest.approx(expected, abs=1e-9)
        assert difference.outcome == ("wins" if score == BEST else "loses")


def test_equal_models_tie(tmp_path):
    _, found = compared(tmp_path, {"end": model(0.1, 1.0), "end2": model(0.1, 1.0, 1.0)})
    for key, difference in found.items():
        if key[3] != BEST:
            assert difference.value == 0
            assert difference.outcome == "ties"


def test_a_difference_within_the_spread_over_seeds_is_a_tie(tmp_path):
    small = {"end": model(0.20, 1.0), "end2": model(0.15, 1.0, 1.0)}
    varied = {"end": model(0.20, 1.0, noise=0.05), "end2": model(0.15, 1.0, 1.0, noise=0.05)}
    _, found = compared(tmp_path / "a", small)
    _, noisy = compared(tmp_path / "b", varied)
    key = (QUESTION, "test", "error", "")
    assert found[key].high < 0
    assert noisy[key].high < 0  # surely more than chance over examples
    assert (found[key].outcome, noisy[key].outcome) == ("wins", "ties")
    assert noisy[key].spread == pytest.approx(0.05 * np.sqrt(2), rel=0.02)


@pytest.mark.parametrize(
    ("value", "low", "high", "spread", "metric", "outcome"),
    [
        (0.02, 0.01, 0.03, 0.01, "ood_auroc", "wins"),
        (-0.02, -0.03, -0.01, 0.01, "ood_auroc", "loses"),
        (0.02, 0.01, 0.03, 0.01, "error", "loses"),
        (-0.02, -0.03, -0.01, 0.01, "nll", "wins"),
        (0.02, -0.01, 0.05, 0.01, "ood_auroc", "ties"),  # the interval has 0
        (0.02, 0.0, 0.05, 0.01, "ood_auroc", "ties"),
        (0.02, 0.01, 0.03, 0.02, "ood_auroc", "ties"),  # the spread isn't exceeded
        (0.0004, 0.0003, 0.0005, 0.0, "ood_auroc", "ties"),  # printed as 0.0
        (0.0006, 0.0003, 0.0009, 0.0, "ood_auroc", "wins"),
        (0.02, 0.01, 0.03, None, "ood_auroc", "unknown"),
    ],
)
def test_outcomes(value, low, high, spread, metric, outcome):
    assert Difference(QUESTION, "x", metric, "", value, low, high, spread).outcome == outcome
