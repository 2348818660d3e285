from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from end2_tf.errors import ConfigError, DataError, ShapeError
from end2_tf.measures import MEASURES
from end2_tf.metrics import auroc, average_precision, false_positive_rate_at, out_of_distribution

FUNCTIONS = [auroc, average_precision, false_positive_rate_at]

pairs = st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=50).filter(
    lambda examples: len({positive for positive, _ in examples}) == 2
)


@given(pairs)
@settings(deadline=None)
def test_auroc_is_the_rank_sum_statistic(examples):
    positive, scores = np.array(examples).T
    inside, outside = scores[positive == 0], scores[positive == 1]
    want = mannwhitneyu(outside, inside).statistic / (len(inside) * len(outside))
    assert_allclose(auroc(positive, scores), want, atol=1e-12)
    assert_allclose(auroc(positive, -scores), 1 - auroc(positive, scores), atol=1e-12)


@given(pairs)
@settings(deadline=None)
def test_aupr_and_fpr_against_their_definitions(examples):
    positive, scores = np.array(examples).T
    thresholds = np.unique(scores)[::-1]
    recall = np.array([np.mean(scores[positive == 1] >= t) for t in thresholds])
    precision = np.array([np.mean(positive[scores >= t]) for t in thresholds])
    assert_allclose(average_precision(positive, scores), np.sum(np.diff(recall, prepend=0) * precision), atol=1e-12)
    false_rates = np.array([np.mean(scores[positive == 0] >= t) for t in thresholds])
    assert_allclose(false_positive_rate_at(positive, scores, 0.6), false_rates[recall >= 0.6][0], atol=1e-12)


@pytest.mark.parametrize("digits", [1, 17])  # many ties, and none
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_scikit_learn(dtype, digits):
    rng = np.random.default_rng(0)
    positive = rng.random(5000) < 0.2
    scores = (rng.normal(size=5000) + positive).round(digits).astype(dtype)
    assert_allclose(auroc(positive, scores), roc_auc_score(positive, scores), rtol=1e-12)
    assert_allclose(average_precision(positive, scores), average_precision_score(positive, scores), rtol=1e-12)
    false_rates, true_rates, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert false_positive_rate_at(positive, scores) == false_rates[true_rates >= 0.95][0]


@given(pairs)
@settings(deadline=None)
def test_only_the_order_of_scores_matters(examples):
    positive, scores = np.array(examples).T
    stretched = np.array([-np.inf, -1e300, -5.0, -1e-300, 0.0, 1e-300, 1.0, 1e300, np.inf])[scores + 4]
    for function in FUNCTIONS:
        assert function(positive, stretched) == function(positive, scores)


def test_separable_and_constant_scores():
    positive = np.repeat([False, True], 50)
    scores = np.arange(100)
    assert auroc(positive, scores) == 1
    assert average_precision(positive, scores) == 1
    assert false_positive_rate_at(positive, scores) == 0
    assert auroc(positive, np.zeros(100)) == 0.5
    assert average_precision(positive, np.zeros(100)) == 0.5
    assert false_positive_rate_at(positive, np.zeros(100)) == 1


def test_nineteen_of_twenty_are_95_percent():
    positive = np.repeat([True, False], [20, 4])
    scores = np.concatenate([np.arange(20), [0.5, 0.6, -1, 0.7]])  # the lowest positive, 0, may be missed
    assert false_positive_rate_at(positive, scores) == 0
    assert false_positive_rate_at(positive, scores, true_positive_rate=1.0) == 0.75


def test_false_positives_along_a_straight_roc_curve():
    positive, scores = np.tile([True, False], 10), np.repeat(np.arange(10), 2)
    assert_allclose(false_positive_rate_at(positive, scores, 0.6), 0.6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_one_class_gives_nan(function):
    assert np.isnan(function([0, 0], [0.1, 0.2]))
    assert np.isnan(function([1, 1], [0.1, 0.2]))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("positive", "scores", "kind", "message"),
    [
        ([0, 1], [0.1, 0.2, 0.3], ShapeError, r"positive have shape \(2,\)"),
        ([0, 1], [np.nan, 0.2], DataError, r"scores\[0\] is nan"),
        ([0, 0.5], [0.1, 0.2], DataError, r"positive\[1\] is 0\.5"),
    ],
)
def test_wrong_inputs(function, positive, scores, kind, message):
    with pytest.raises(kind, match=message):
        function(positive, scores)


@pytest.mark.parametrize("rate", [0, -0.1, 1.01, np.nan])
def test_wrong_true_positive_rate(rate):
    with pytest.raises(ConfigError, match="true_positive_rate is"):
        false_positive_rate_at([0, 1], [0.1, 0.2], rate)


def test_out_of_distribution_names_and_signs():
    inside = {"probs": np.ones((3, 2)) / 2, "total_uncertainty": [0.1, 0.2, 0.4], "max_prob": [0.9, 0.8, 0.7]}
    outside = {"total_uncertainty": [0.3, 0.5], "max_prob": [0.6, 0.5], "probs": np.ones((2, 2)) / 2}
    got = out_of_distribution(inside, outside)
    assert got == {
        "ood_auroc_total": pytest.approx(5 / 6),
        "ood_aupr_total": pytest.approx((1 + 2 / 3) / 2),
        "ood_fpr95_total": pytest.approx(1 / 3),
        "ood_auroc_max_prob": 1,
        "ood_aupr_max_prob": 1,
        "ood_fpr95_max_prob": 0,
    }


def test_out_of_distribution_takes_every_measure():
    rng = np.random.default_rng(0)
    inside = {name: -measure.sign + rng.random(20) for name, measure in MEASURES.items()}
    outside = {name: measure.sign + rng.random(10) for name, measure in reversed(MEASURES.items())}
    got = out_of_distribution(inside, outside)
    columns = ["total", "data", "knowledge", "epkl", "mkl", "differential_entropy", "max_prob", "precision"]
    assert list(got) == [f"ood_{metric}_{column}" for column in columns for metric in ("auroc", "aupr", "fpr95")]
    assert_allclose(list(got.values()), [0 if "fpr95" in name else 1 for name in got], atol=1e-12)


@pytest.mark.parametrize(
    ("inside", "outside", "kind", "message"),
    [
        ({"mlk": [0.1]}, {"mlk": [0.1]}, ConfigError, "in_scores is 'mlk'.*Did you mean 'mkl'"),
        ({"mkl": [0.1]}, {"epkl": [0.1]}, DataError, "differ in 'epkl', 'mkl'"),
        ({"mkl": [0.1]}, {"mkl": [np.nan]}, DataError, r"mkl\[0\] is nan"),
        ({"mkl": []}, {"mkl": [0.1]}, ShapeError, r"mkl have shape \(0,\)"),
    ],
)
def test_out_of_distribution_wrong_inputs(inside, outside, kind, message):
    with pytest.raises(kind, match=message):
        out_of_distribution(inside, outside)


def test_metrics_import_no_tensorflow():
    code = "import sys, json, end2_tf.metrics; print(json.dumps('tensorflow' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
