from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from end2_tf.errors import ConfigError, DataError, ShapeError
from end2_tf.metrics import bootstrap, paired_auroc_difference, paired_mean_difference


def auroc(inside, outside):
    return roc_auc_score(np.repeat([0, 1], [len(inside), len(outside)]), np.concatenate([inside, outside]))


def scores(rng, num_in=60, num_out=45, seeds=3, shift=1.0):
    """Scores rounded so that many are tied; those of one example resemble each other."""
    inside, outside = rng.normal(size=num_in), rng.normal(shift, size=num_out)
    return [np.round(values + 0.5 * rng.normal(size=(seeds, len(values))), 1) for values in (inside, outside)]


def test_weighted_form_is_the_auroc_of_the_explicit_resample():
    rng = np.random.default_rng(1)
    inside, outside = scores(rng)
    for run, one, other in zip(bootstrap._ranked(inside, outside, "a"), inside, outside, strict=True):
        for _ in range(5):
            i, j = rng.integers(60, size=60), rng.integers(45, size=45)
            wins = run.wins(np.bincount(i, minlength=60), np.bincount(j, minlength=45))
            assert_allclose(wins / (60 * 45), auroc(one[i], other[j]), rtol=1e-12)


def test_interval_is_that_of_explicit_resamples():
    rng = np.random.default_rng(2)
    a, b = scores(rng, shift=1.2), scores(rng, seeds=2)
    found = paired_auroc_difference(*a, *b, num_resamples=200, seed=7)

    def mean(model, i, j):
        return np.mean([auroc(one[i], other[j]) for one, other in zip(*model, strict=True)])

    everything = np.arange(60), np.arange(45)
    assert_allclose(found.difference, mean(a, *everything) - mean(b, *everything), rtol=1e-12)
    draws = np.random.default_rng(7)
    resampled = []
    for _ in range(200):
        i, j = draws.integers(60, size=60), draws.integers(45, size=45)
        resampled.append(mean(a, i, j) - mean(b, i, j))
    assert_allclose((found.low, found.high), np.quantile(resampled, [0.025, 0.975]), rtol=1e-12)


def test_a_model_against_itself_and_swapped():
    a, b = scores(np.random.default_rng(3)), scores(np.random.default_rng(4), shift=0.3)
    assert paired_auroc_difference(*a, *a) == (0, 0, 0)
    forth, back = paired_auroc_difference(*a, *b), paired_auroc_difference(*b, *a)
    assert_allclose(forth, (-back.difference, -back.high, -back.low), atol=1e-12)
    assert forth == paired_auroc_difference(*a, *b)
    assert forth != paired_auroc_difference(*a, *b, seed=1)


def test_one_seed_may_be_a_vector_and_scores_infinite():
    a, b = scores(np.random.default_rng(5), seeds=1), scores(np.random.default_rng(6), seeds=1)
    assert paired_auroc_difference(a[0][0], a[1][0], *b) == paired_auroc_difference(*a, *b)
    constant = np.zeros(60), np.zeros(45)  # everything is tied: AUROC 1/2
    certain = np.full(60, -np.inf), np.full(45, np.inf)
    assert paired_auroc_difference(*certain, *constant) == (0.5, 0.5, 0.5)


def test_a_thousand_resamples_of_seed_0_unless_told_otherwise():
    a, b = scores(np.random.default_rng(5), seeds=1), scores(np.random.default_rng(6), seeds=1)
    said = {"num_resamples": 1000, "seed": 0}
    assert paired_auroc_difference(*a, *b) == paired_auroc_difference(*a, *b, **said)
    assert paired_mean_difference(a[0], b[0]) == paired_mean_difference(a[0], b[0], **said)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # SciPy takes its standard error too
def test_one_resample_is_allowed():
    a, b = np.array([0.0, 1.0, 3.0]), np.array([1.0, 0.0, 0.0])
    found = paired_mean_difference(a, b, num_resamples=1)
    assert found.low == found.high


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(8)
    inside, outside = rng.normal(size=400), rng.normal(1, size=400)
    near = paired_auroc_difference(inside, outside, inside + 0.1 * rng.normal(size=400), outside)
    apart = paired_auroc_difference(inside, outside, rng.normal(size=400), rng.normal(1, size=400))
    assert near.high - near.low < 0.3 * (apart.high - apart.low)


def test_intervals_cover_the_truth():
    """Normal scores a distance d apart have AUROC Φ(d/√2); 95 % of 200 intervals are 190 ± 3."""
    rng = np.random.default_rng(9)
    truth = norm.cdf(1.4 / np.sqrt(2)) - norm.cdf(1.0 / np.sqrt(2))
    covered, num = 0, 120
    for trial in range(200):
        common_in, common_out = rng.normal(size=num), rng.normal(size=num)

        def noisy(common, shift):
            return 0.8 * common + 0.6 * rng.normal(size=len(common)) + shift

        found = paired_auroc_difference(
            noisy(common_in, 0), noisy(common_out, 1.4), noisy(common_in, 0), noisy(common_out, 1.0), 200, trial
        )
        covered += found.low <= truth <= found.high
    assert 177 <= covered <= 199


def test_mean_difference_has_the_normal_interval():
    rng = np.random.default_rng(10)
    a, b = rng.random((3, 4000)) < 0.12, rng.random((2, 4000)) < 0.10
    found = paired_mean_difference(a, b)
    values = a.mean(0) - b.mean(0)
    half = 1.96 * values.std() / np.sqrt(4000)
    assert_allclose(found.difference, a.mean() - b.mean(), rtol=1e-9)
    assert_allclose((found.low, found.high), (found.difference - half, found.difference + half), atol=0.1 * half)
    assert found == paired_mean_difference(a, b)
    assert_allclose(paired_mean_difference([1.0, 1.0], [0.0, 0.0]), (1, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0], [1.0], [1.0, 2.0], [1.0]), ShapeError, "a has 1 examples and b has 2"),
        (([1.0], [[1.0], [2.0]], [1.0], [1.0]), ShapeError, "scores_a_in have 1 seeds and scores_a_out 2"),
        (([[[1.0]]], [1.0], [1.0], [1.0]), ShapeError, r"scores_a_in have shape \(1, 1, 1\)"),
        (([1.0], [], [1.0], []), ShapeError, r"scores_a_out have shape \(0,\)"),
        (([1.0], [1.0], [1.0], [np.nan]), DataError, r"scores_b_out\[0\] is nan"),
        (([1.0], [1.0], [1.0], [1.0], 0), ConfigError, "num_resamples is 0"),
    ],
)
def test_unusable_scores(arguments, error, message):
    with pytest.raises(error, match=message):
        paired_auroc_difference(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0, np.inf], [1.0, 2.0]), DataError, "example 1 has an infinite value"),
        (([np.inf, 1.0], [np.inf, 2.0]), DataError, "example 0 has an infinite value"),
        (([1.0], [1.0]), ShapeError, "2 or more"),
        (([1.0, 2.0], [1.0, 2.0], 0), ConfigError, "num_resamples is 0"),
    ],
)
def test_unusable_values(arguments, error, message):
    with pytest.raises(error, match=message):
        paired_mean_difference(*arguments)
