from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import scipy.stats

from end2_tf import config, tables
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples
from end2_tf.ensemble import Ensemble
from end2_tf.evaluate import Evaluation
from end2_tf.heads import DirichletHead
from end2_tf.models import UncertaintyClassifier


def network(scale, turn=0.0):
    """A network of known weights: logits of the class that a point's direction belongs to."""
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(3, use_bias=False)(inputs)
    model = keras.Model(inputs, outputs)
    angles = 2 * np.pi * np.arange(3) / 3 + turn
    model.set_weights([scale * np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)])
    return model


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    angles = 2 * np.pi * labels / 3
    clean = np.stack([np.cos(angles), np.sin(angles)], 1) + 0.2 * rng.normal(size=(300, 2))
    near = clean + 0.6 * rng.normal(size=clean.shape)
    test = Examples(clean.astype(np.float32), labels)
    return test, Examples(near.astype(np.float32), labels), Examples(np.zeros((50, 2), np.float32))


@pytest.fixture(scope="module")
def results(sets, tmp_path_factory):
    test, near, nothing = sets
    data = DataSet(
        train=test,
        validation=test,
        test=test,
        auxiliary=None,
        ood={"nothing": nothing, "near": Examples(near.inputs)},
        class_names=("a", "b", "c"),
        shifted={"near": near},
    )
    evaluation = Evaluation(data, config.Evaluation(batch_size=100))
    evaluation.add_ensemble(Ensemble([network(4.0, turn) for turn in (-0.3, 0.0, 0.3)]))
    student = UncertaintyClassifier(network(4.0), DirichletHead())
    evaluation.add_student("end2", [student])
    folder = tmp_path_factory.mktemp("evaluation")
    return evaluation.write(folder, {}), folder


def rows(results, model, dataset):
    return {r["metric"]: r["value"] for r in results["rows"] if (r["model"], r["dataset"]) == (model, dataset)}


def test_shifted_sets_are_measured_like_the_test_set(results, sets):
    written, _ = results
    near = sets[1]
    found = rows(written, "end2", "near")
    logits = near.inputs.astype(np.float64) @ network(4.0).get_weights()[0]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found["error"] == pytest.approx((probs.argmax(1) != near.labels).mean())
    assert found["nll"] == pytest.approx(-np.log(probs[np.arange(300), near.labels]).mean(), rel=1e-5)
    assert found["error"] > rows(written, "end2", "test")["error"]
    assert {"ece", "brier", "prr", "knowledge_mean", "knowledge_rank_correlation", "knowledge_mean_ratio"} < set(found)
    assert set(rows(written, "end2", "test")) < set(found)  # it is an OOD set too
    assert rows(written, "single", "near")["error"] > 0
    assert "knowledge_mean" in rows(written, "ensemble", "near")
    assert "knowledge_rank_correlation" not in rows(written, "ensemble", "near")


def test_detection_is_measured_on_ood_sets_alone(results):
    written, _ = results
    assert "ood_auroc_knowledge" in rows(written, "end2", "nothing")
    assert "error" not in rows(written, "end2", "nothing")
    assert rows(written, "ensemble", "near")["ood_auroc_total"] > 0.5


def test_knowledge_mean_is_that_of_the_predictions_on_disk(results):
    written, folder = results
    with np.load(folder / "predictions" / "ensemble.npz") as arrays:
        for dataset in ("test", "near"):
            mean = arrays[f"{dataset}/knowledge_uncertainty"].astype(np.float64).mean()
            assert rows(written, "ensemble", dataset)["knowledge_mean"] == pytest.approx(mean, rel=1e-5)


def test_what_is_on_disk_keeps_the_digits_of_sure_networks(sets, tmp_path):
    """A comparison reads these, and must find the differences of the table's own values."""
    test, _, nothing = sets
    data = DataSet(
        train=test, validation=test, test=test, auxiliary=None, ood={"nothing": nothing}, class_names=("a", "b", "c")
    )
    evaluation = Evaluation(data, config.Evaluation(batch_size=100))
    evaluation.add_ensemble(Ensemble([network(300.0, 1.0), network(250.0, 1.2)]))
    written = evaluation.write(tmp_path, {})
    with np.load(tmp_path / "predictions" / "ensemble.npz") as arrays:
        inside, outside = arrays["test/total_uncertainty"], arrays["nothing/total_uncertainty"]
        assert (inside < 1e-45).mean() > 0.1
        auroc = scipy.stats.mannwhitneyu(outside, inside).statistic / (len(inside) * len(outside))
        assert rows(written, "ensemble", "nothing")["ood_auroc_total"] == pytest.approx(auroc, rel=1e-12)
        assert (arrays["test/probs"][np.arange(300), test.labels] == 0).any()
        assert rows(written, "ensemble", "test")["nll"] == pytest.approx(arrays["test/nll"].mean(), rel=1e-12)


def test_labels_and_counts_of_shifted_sets_are_kept(results, sets):
    written, folder = results
    with np.load(folder / "labels.npz") as labels:
        np.testing.assert_array_equal(labels["near"], sets[1].labels)
    assert written["counts"] == {"test": 300, "nothing": 50, "near": 300}
    assert json.loads((folder / "results.json").read_text())["counts"] == written["counts"]
    assert [line[0] for line in tables.shifted_cells(written)] == ["error % / NLL on", "test", "near"]


@pytest.fixture(scope="module")
def on_validation(sets, tmp_path_factory):
    validation, near, nothing = sets
    data = DataSet(
        train=validation,
        validation=validation,
        test=None,  # whoever looks at it fails
        auxiliary=None,
        ood={"nothing": nothing},
        class_names=("a", "b", "c"),
        posterior=lambda inputs: np.full((len(inputs), 3), 1 / 3),
        shifted={"near": near},
    )
    evaluation = Evaluation(data, config.Evaluation(split="validation", batch_size=100))
    members = [network(4.0, turn) for turn in (-0.5, 0.0, 0.3)]
    evaluation.add_ensemble(Ensemble(members), num_taught=2)
    evaluation.add_student("end2", [UncertaintyClassifier(network(2.0), DirichletHead())])
    evaluation.add_posterior()
    folder = tmp_path_factory.mktemp("validation")
    return evaluation.write(folder, {}), folder, Ensemble(members[:2])


def test_on_validation_nothing_of_the_test_split_is_read(on_validation, sets):
    written, folder, _ = on_validation
    assert written["split"] == "validation"
    assert {r["dataset"] for r in written["rows"]} == {"validation", "nothing", "near"}
    assert written["counts"] == {"validation": 300, "nothing": 50, "near": 300}
    assert {g["model"] for g in written["gap_closed"]} <= {"end2"}
    assert rows(written, "bayes", "validation")["nll"] == pytest.approx(np.log(3))
    logits = sets[0].inputs.astype(np.float64) @ network(2.0).get_weights()[0]
    error = (logits.argmax(1) != sets[0].labels).mean()
    assert rows(written, "end2", "validation")["error"] == pytest.approx(error)
    with np.load(folder / "labels.npz") as labels:
        assert set(labels) == {"validation", "near"}
    with np.load(folder / "predictions" / "end2.npz") as arrays:
        assert not any(key.startswith("test/") for key in arrays)
    assert "AUROC % against validation" in tables.summary(written)
    assert tables.cells(written)[-1][2] == f"{100 * error:.2f}"


def test_the_teacher_is_the_first_members_together(on_validation, sets):
    written, _, first = on_validation
    probs = first.uncertainty(sets[0].inputs)["probs"]
    found = rows(written, "teacher", "validation")
    assert found["nll"] == pytest.approx(-np.log(probs[np.arange(300), sets[0].labels]).mean(), rel=1e-5)
    assert found["knowledge_mean_ratio"] < 1
    assert "ood_auroc_knowledge" in rows(written, "teacher", "nothing")


def test_kl_is_from_the_ensembles_mean_to_the_models(results, sets):
    written, _ = results
    logits = np.stack([sets[0].inputs.astype(np.float64) @ network(4.0, t).get_weights()[0] for t in (-0.3, 0, 0.3)], 1)
    probs = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    expected = scipy.stats.entropy(probs.mean(1), probs[:, 1], axis=1).mean()
    assert rows(written, "end2", "test")["kl_to_ensemble"] == pytest.approx(expected, rel=1e-4)
    each = [scipy.stats.entropy(probs.mean(1), probs[:, m], axis=1).mean() for m in range(3)]
    assert rows(written, "single", "test")["kl_to_ensemble"] == pytest.approx(np.mean(each), rel=1e-4)
    assert "kl_to_ensemble" in rows(written, "end2", "near")
    assert "kl_to_ensemble" not in rows(written, "ensemble", "test")
    assert "kl_to_ensemble" in written["definitions"]
