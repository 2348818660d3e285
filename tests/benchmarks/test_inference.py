from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from end2_tf.errors import ConfigError, ModelError
from end2_tf.heads import DirichletHead
from end2_tf.models import EnsembleModel, UncertaintyClassifier

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "inference.py"


@pytest.fixture(scope="module")
def inference():
    spec = importlib.util.spec_from_file_location("inference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network(units=8, features=4):
    return keras.Sequential(
        [keras.Input((features,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(3)], name="network"
    )


def save(folder, student, ensemble):
    paths = str(folder / "student.keras"), str(folder / "ensemble.keras")
    for model, path in zip((student, ensemble), paths, strict=True):
        model.save(path)
    return paths


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return save(folder, UncertaintyClassifier(network(), DirichletHead()), EnsembleModel(network(), 5))


def test_times_weights_and_ratio(inference, paths):
    result = inference.compare(*paths, batch_size=16, repetitions=5, seconds=0.01, memory=False)
    assert result["num_members"] == 5
    assert result["input_shape"] == [4]
    assert len(result["time_ratio"]) == 5
    for index, ratio in enumerate(result["time_ratio"]):
        assert ratio == pytest.approx(result["ensemble"]["seconds"][index] / result["student"]["seconds"][index])
        assert ratio > 0
    assert result["student"]["weights"] == 4 * 8 + 8 + 8 * 3 + 3
    assert result["ensemble"]["weight_bytes"] == 5 * result["student"]["weight_bytes"] == 5 * 4 * 67
    assert result["student"]["peak_bytes"] is None
    assert {"tensorflow", "keras", "python"} < set(result["versions"])
    json.dumps(result)


def test_both_passes_end_in_the_measures(inference, paths):
    batch = inference._batch((4,), 6)
    for path, name in zip(paths, inference.MODELS, strict=True):
        outputs = inference._forward(inference._load(path, name))(batch)
        assert {"probs", "total_uncertainty", "data_uncertainty", "knowledge_uncertainty"} <= set(outputs)
        assert outputs["knowledge_uncertainty"].shape == (6,)
    assert inference._batch((4, 4, 1), 2).numpy().max() > 1  # raw pixels


def test_table_is_aligned_and_leaves_out_what_was_not_measured(inference):
    def measured(seconds, peak):
        return {"seconds": seconds, "weights": 10, "weight_bytes": 4_000_000, "peak_bytes": peak}

    result = {
        "student": measured([0.010, 0.012, 0.011], 20_000_000),
        "ensemble": measured([0.050, 0.060, 0.055], 50_000_000),
        "time_ratio": [5.0, 4.9, 5.1],
        "num_members": 8,
        "batch_size": 256,
        "processor": "some processor",
        "versions": {"keras": "3"},
    }
    text = inference.table(result)
    assert "11.00 (10.00–12.00)" in text
    assert "55.00 (50.00–60.00)" in text
    assert "5.00 (4.90–5.10)" in text
    assert len({len(line) for line in text.splitlines()[:5]}) == 1
    assert "2.50" in next(line for line in text.splitlines() if line.startswith("peak memory"))
    result["student"]["peak_bytes"] = result["ensemble"]["peak_bytes"] = None
    assert "peak memory" not in inference.table(result)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"student": "nowhere.keras"}, ModelError, "--student is 'nowhere.keras', which is no file"),
        ({"student": "ensemble"}, ModelError, r"--student: .* is a EnsembleModel\. Give a saved"),
        ({"ensemble": "student"}, ModelError, r"--ensemble: .* is a student, an UncertaintyClassifier\. Give a saved"),
        ({"ensemble": "other"}, ModelError, r"--ensemble: .* takes no inputs of shape \(4,\), the student's"),
        ({"ensemble": "broken"}, ModelError, r"--ensemble: .* can't be opened"),
        ({"batch_size": 0}, ConfigError, "batch_size is 0"),
    ],
)
def test_unusable_arguments(inference, paths, tmp_path, change, error, message):
    named = dict(zip(("student", "ensemble"), paths, strict=True))
    named |= {"other": str(tmp_path / "other.keras"), "broken": str(tmp_path / "broken.keras")}
    EnsembleModel(network(features=7), 2).save(named["other"])
    Path(named["broken"]).write_bytes(b"no model")
    arguments = {"student": paths[0], "ensemble": paths[1]} | {k: named.get(v, v) for k, v in change.items()}
    with pytest.raises(error, match=message) as caught:
        inference.compare(**arguments)
    assert "\n" not in str(caught.value)


def test_a_child_that_dies_without_a_word(inference, monkeypatch):
    dead = subprocess.CompletedProcess([], -9, stdout="", stderr="\n")
    monkeypatch.setattr(inference.timing.subprocess, "run", lambda *args, **kwargs: dead)
    with pytest.raises(ModelError, match=r"memory of a\.keras failed: its process ended with -9"):
        inference._peak_in_a_process_of_its_own("a.keras", "student", 1, (4,))


@pytest.mark.slow
def test_peak_memory_holds_the_weights(inference, tmp_path):
    wide = network(units=2_000_000)  # 64 MB of weights; this process holds more, a child must not be charged for it
    paths = save(tmp_path, UncertaintyClassifier(network(), DirichletHead()), EnsembleModel(wide, 2))
    small, large = (
        inference._peak_in_a_process_of_its_own(path, name, 1, (4,))
        for path, name in zip(paths, inference.MODELS, strict=True)
    )
    weights = 2 * 4 * sum(int(np.prod(w.shape)) for w in wide.weights)
    assert large > weights
    assert small < 0.5 * weights
