from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from end2_tf import metrics
from end2_tf.errors import DataError, ShapeError

NAMES = ["error", "nll", "brier", "ece", "prr", "misclassification_auroc", "misclassification_aupr"]


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (500, 5))
    labels = np.array([rng.choice(5, p=p) for p in softmax(logits, -1)])
    return softmax(logits, -1), labels


def test_names_and_values(predictions):
    probs, labels = predictions
    got = metrics.classification(probs, labels, num_bins=10)
    errors, scores = probs.argmax(-1) != labels, entropy(probs, axis=-1)
    assert list(got) == NAMES
    assert all(type(value) is float for value in got.values())
    assert_allclose(got["error"], errors.mean())
    assert_allclose(got["nll"], log_loss(labels, probs))
    assert_allclose(got["brier"], np.mean(np.sum((probs - np.eye(5)[labels]) ** 2, -1)))
    assert_allclose(got["ece"], metrics.expected_calibration_error(probs, labels, 10))
    assert_allclose(got["misclassification_auroc"], roc_auc_score(errors, scores))
    assert_allclose(got["misclassification_aupr"], average_precision_score(errors, scores))
    assert_allclose(got["prr"], 100 * (2 * got["misclassification_auroc"] - 1))


def test_calibration_has_15_bins_by_default(predictions):
    assert metrics.classification(*predictions)["ece"] == metrics.expected_calibration_error(*predictions, 15)


def test_given_scores_and_log_probabilities(predictions):
    probs, labels = predictions
    errors = probs.argmax(-1) != labels
    got = metrics.classification(probs, labels, scores=errors, log_probs=np.log(probs) - 1)
    assert got["prr"] == 100
    assert got["misclassification_aupr"] == 1
    assert_allclose(got["nll"], log_loss(labels, probs) + 1)


def test_no_errors():
    got = metrics.classification([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    assert got["error"] == 0
    assert np.isnan([got["prr"], got["misclassification_auroc"], got["misclassification_aupr"]]).all()


def test_one_hot_predictions_give_no_nan_but_infinite_likelihood():
    got = metrics.classification([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], [0, 0, 0])
    assert got["nll"] == np.inf
    assert got["prr"] == -50  # the one error ties with the other certain prediction


def test_wrong_inputs():
    with pytest.raises(ShapeError, match="labels have shape"):
        metrics.classification([[0.9, 0.1]], [0, 1])
    with pytest.raises(ShapeError, match="errors have shape"):
        metrics.classification([[0.9, 0.1]], [0], scores=[0.1, 0.2])
    with pytest.raises(DataError, match=r"scores\[0\] is nan"):
        metrics.classification([[0.9, 0.1]], [0], scores=[np.nan])


def test_every_metric_is_defined():
    prefixes = tuple(metrics.DEFINITIONS)
    ood = metrics.out_of_distribution({"mkl": [0.1, 0.2]}, {"mkl": [0.3]})
    assert all(name.startswith(prefixes) for name in [*NAMES, *ood])
    assert all(text[0].isupper() and text.endswith(".") for text in metrics.DEFINITIONS.values())
