"""Thresholds: the promises that they come with."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from end2_tf.errors import ConfigError, DataError, ShapeError
from end2_tf.export.thresholds import Scores, choose, conformal_quantile, limit_error


def _scores(seed, n, knows=True):
    """Errors grow with total uncertainty; knowledge uncertainty is independent of it."""
    rng = np.random.default_rng(seed)
    total = rng.random(n)
    return Scores(total, rng.random(n) if knows else None, rng.random(n) < 0.4 * total)


def test_quantile_by_hand():
    scores = np.array([3.0, 1.0, 2.0, 9.0, 5.0, 4.0, 7.0, 8.0, 6.0])
    assert conformal_quantile(scores, 0.5) == 5  # the 5th of 9: (9 + 1) / 2
    assert conformal_quantile(scores, 0.9) == 9
    assert conformal_quantile(scores, 0.91) == math.inf  # nine scores can't promise more than nine tenths
    assert conformal_quantile(scores, 0.3) == 3  # 10 · .3 is 3.0000000000000004 in floats elsewhere


@given(st.integers(1, 40), st.floats(0.01, 0.99))
def test_a_new_score_falls_under_the_quantile_as_often_as_promised(n, share):
    """Exact for exchangeable scores: each of n + 1 is the new one equally often."""
    scores = np.random.default_rng(n).permutation(n + 1).astype(float)
    under = [scores[i] <= conformal_quantile(np.delete(scores, i), share) for i in range(n + 1)]
    assert share - 1e-9 <= np.mean(under) <= share + 1 / (n + 1) + 1e-9


def test_a_limit_on_the_error_by_hand():
    scores, wrong = np.arange(200) / 200, np.zeros(200, bool)
    wrong[[150, 160, 170, 180, 190]] = True
    tail = {
        n: sum(math.comb(n, k) * 0.05**k * 0.95 ** (n - k) for k in range(errors + 1))
        for n, errors in ((100, 0), (150, 0), (200, 5))
    }
    assert tail[150] < 0.1 / 3 < tail[200]
    candidates = [0.4975, 0.7475, 1.0]  # 100, 150 and 200 answered
    assert limit_error(scores, wrong, candidates, max_error=0.05, delta=0.1) == 0.7475
    assert limit_error(scores, wrong, candidates, max_error=0.05, delta=3.01 * tail[200]) == 1.0


def test_a_limit_fails_no_more_often_than_delta():
    """The error isn't monotone here: the surest tenth is wrong more often than what follows."""

    def risk(total):
        return np.where(total < 0.1, 0.15, 0.02 + 0.1 * (total > 0.6))

    candidates = np.arange(1, 21) / 20
    grid = (np.arange(100_000) + 0.5) / 100_000
    true = {c: risk(grid[grid <= c]).mean() for c in candidates}
    rng, failures, chosen = np.random.default_rng(0), 0, []
    for _ in range(400):
        total = rng.random(800)
        try:
            found = limit_error(total, rng.random(800) < risk(total), candidates, max_error=0.06, delta=0.2)
        except ConfigError:
            continue
        chosen.append(found)
        failures += true[found] > 0.06
    assert failures / 400 < 0.2
    assert np.median(chosen) > 0.4  # and it isn't kept by answering nothing


def test_a_limit_that_nothing_keeps():
    with pytest.raises(ConfigError, match=r"export\.max_error is 0\.001, which no threshold is sure to keep with 50 "):
        limit_error(np.arange(50.0), np.zeros(50, bool), [10.0, 49.0], max_error=0.001, delta=0.05)


def test_coverage_counts_both_reasons_to_abstain():
    found = choose(_scores(1, 4000), _scores(2, 4000), coverage=0.8, ood_rejection=0.1)
    assert found.unfamiliar == pytest.approx(0.9, abs=0.02)
    assert found.coverage == pytest.approx(0.8, abs=1e-3)
    assert found.uncertain == pytest.approx(0.8 / 0.9, abs=0.03)  # a tenth is gone already
    test = _scores(3, 20_000)
    abstained = test.abstained(found)
    assert 1 - abstained.mean() == pytest.approx(0.8, abs=0.02)
    np.testing.assert_array_equal(abstained, (test.total > found.uncertain) | (test.knowledge > found.unfamiliar))
    assert (found.rule, found.target, found.num_calibration) == ("coverage", 0.8, 4000)
    assert found.delta == 0


def test_a_limit_on_the_error_decides_in_place_of_coverage():
    calibration = _scores(2, 6000)
    found = choose(_scores(1, 6000), calibration, coverage=0.9, max_error=0.1, delta=0.05)
    answered = ~calibration.abstained(found)
    assert found.error == calibration.is_wrong[answered].mean() < 0.1
    assert (found.rule, found.target, found.delta) == ("max_error", 0.1, 0.05)
    assert 0.3 < found.uncertain < 0.5  # .4 · u / 2 is .1 at u = .5


def test_a_model_without_knowledge_uncertainty_has_one_threshold():
    found = choose(_scores(1, 500, knows=False), _scores(2, 500, knows=False), coverage=0.9)
    assert found.unfamiliar == math.inf
    assert found.ood_rejection == 0
    assert found.coverage == pytest.approx(0.9, abs=0.01)


def test_the_threshold_of_certainty_doesnt_see_the_validation_labels_or_the_other_way_round():
    validation, calibration = _scores(1, 500), _scores(2, 500)
    flipped = dataclasses.replace(validation, is_wrong=~validation.is_wrong)
    for limit in (None, 0.2):
        settings = {"coverage": 0.9, "max_error": limit}
        assert choose(flipped, calibration, **settings) == choose(validation, calibration, **settings)


def test_too_few_examples_answer_everything_familiar():
    found = choose(_scores(1, 500), _scores(2, 5), coverage=0.9)
    assert found.uncertain == math.inf
    far = Scores(np.array([1e9, np.inf]), np.array([0.0, 2.0]), np.array([False, False]))
    assert far.abstained(found).tolist() == [False, True]


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ({"coverage": 90}, r"export\.coverage is 90\. Allowed: above 0 and below 1"),
        ({"max_error": 8}, r"export\.max_error is 8\. Allowed"),
        ({"max_error": 0.1, "delta": 0}, r"export\.delta is 0\. Allowed"),
        ({"ood_rejection": 1}, r"export\.ood_rejection is 1\. Allowed"),
    ],
)
def test_shares_are_between_0_and_1(share, message):
    with pytest.raises(ConfigError, match=message):
        choose(_scores(1, 50), _scores(2, 50), **share)


@pytest.mark.parametrize("labels", [np.zeros((4, 3)), np.zeros(5, int), 1])
def test_labels_are_one_each(labels):
    with pytest.raises(ShapeError, match=r"there are 4 predictions\. Give each one's class as a number, \(4,\)"):
        Scores.of({"probs": np.full((4, 3), 1 / 3), "total_uncertainty": np.ones(4)}, labels)


def test_what_cant_be():
    with pytest.raises(ConfigError, match=r"Allowed: a coverage of at most 0\.95"):
        choose(_scores(1, 50), _scores(2, 50), coverage=0.96, ood_rejection=0.05)
    with pytest.raises(DataError, match="there are none"):
        choose(_scores(1, 0), _scores(2, 50), coverage=0.9)
