"""Warm-up requests: what is in the file, and that SavedModels answer them where a server runs."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from end2_tf import backbones
from end2_tf.export import savedmodel, signatures, warmup
from end2_tf.export.thresholds import Thresholds
from end2_tf.heads import DirichletHead
from end2_tf.models import UncertaintyClassifier

SHAPE = (8, 10, 3)
LIMITS = Thresholds(1.0, 0.05, "coverage", 0.9, 0.0, 0.01, 50, 50, 0.9, 0.1)
SIGNATURES = [signatures.SERVING, signatures.BYTES, signatures.DECIDE]
INPUTS = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), dtype=np.uint8)
QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def _requests(path):
    """Returns the file's requests as TensorFlow Serving reads them: records, each a PredictionLog."""
    logs = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    return [log.predict_log.request for log in logs]


def _decoded(request):
    """Returns a request's inputs, images decoded."""
    (value,) = (tf.make_ndarray(proto) for proto in request.inputs.values())
    return np.stack([tf.io.decode_png(each).numpy() for each in value]) if value.dtype == object else value


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(0)
    mean, std = np.full(3, 120.0), np.full(3, 60.0)
    options = {"filters": [4], "dense": 8}
    model = UncertaintyClassifier(
        backbones.build("cnn", options, input_shape=SHAPE, num_classes=4, mean=mean, std=std), DirichletHead()
    )
    folder = tmp_path_factory.mktemp("export") / "net"
    savedmodel.write(model, folder, inputs=INPUTS, thresholds=LIMITS, lite=False)
    return model, folder / "1"


@pytest.mark.parametrize("n", [1, 6, 40])
def test_the_file_asks_each_signature_once_with_each_batch_size(tmp_path, n):
    inputs = np.random.default_rng(n).integers(0, 256, (n, *SHAPE), dtype=np.uint8)
    path = tmp_path / warmup.FILE
    assert warmup.write(path, "net", inputs, SIGNATURES) == 6
    requests = _requests(path)
    assert {request.model_spec.name for request in requests} == {"net"}
    assert not any(request.model_spec.HasField("version_choice") for request in requests)
    asked = [(r.model_spec.signature_name, list(r.inputs), len(_decoded(r))) for r in requests]
    assert asked == [
        *((signatures.SERVING, ["inputs"], size) for size in (1, 32)),
        *((signatures.BYTES, ["image_bytes"], size) for size in (1, 32)),
        *((signatures.DECIDE, ["inputs"], size) for size in (1, 32)),
    ]
    for request in requests:
        got = _decoded(request)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, inputs[np.arange(len(got)) % n])
    assert [(name, list(values)) for name, values in warmup.read(path)] == [(name, keys) for name, keys, _ in asked]


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(10_000_000, (1, 32)), (1_000_000, (1, 24)), (80_000, (1,)), (40_000, (1,)), (30_000, ())],
)
def test_what_is_written_can_be_read(tmp_path, monkeypatch, most, sizes):
    monkeypatch.setattr(warmup, "MAX_BYTES", most)
    inputs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)  # 12,288 bytes each
    path = tmp_path / warmup.FILE
    assert warmup.write(path, "net", inputs, SIGNATURES) == 3 * len(sizes)
    assert path.exists() == bool(sizes)
    if sizes:
        found = [len(values["inputs"]) for name, values in warmup.read(path) if name == signatures.DECIDE]
        assert found == list(sizes)


def test_features(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    path = tmp_path / warmup.FILE
    assert warmup.write(path, "spirals", inputs, [signatures.SERVING]) == len(warmup.BATCH_SIZES)
    for (name, values), size in zip(warmup.read(path), warmup.BATCH_SIZES, strict=True):
        assert name == signatures.SERVING
        assert values["inputs"].dtype == np.float32
        np.testing.assert_array_equal(values["inputs"], inputs[np.arange(size) % 3])


def test_the_server_knows_its_name_and_takes_so_many():
    assert savedmodel.WARMUP == "assets.extra/tf_serving_warmup_requests"
    assert len(SIGNATURES) * len(warmup.BATCH_SIZES) <= 1000  # more, and a version isn't loaded


@pytest.mark.slow
def test_requests_are_answered_where_a_server_runs(exported, tmp_path):
    model, version = exported
    command = [sys.executable, "-I", str(Path(__file__).with_name("_replay.py")), str(version), str(tmp_path / "a.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=QUIET)
    assert done.returncode == 0, done.stderr[-2000:]
    requests = _requests(version / savedmodel.WARMUP)
    with np.load(tmp_path / "a.npz") as answers:
        names = set(answers.files)
        for number, request in enumerate(requests):
            signature = request.model_spec.signature_name
            expected = savedmodel.expectations(model, _decoded(request), LIMITS, [signature])
            for name, value in expected.items():
                for loader in ("python", "cpp"):
                    key = f"{loader}/{number}/{name.removeprefix(f'{signature}/')}"
                    assert answers[key].dtype == value.dtype
                    np.testing.assert_allclose(answers[key], value, rtol=1e-5, atol=1e-6)
                    names.remove(key)
    assert len(requests) == 6
    assert not names


@pytest.mark.slow
@pytest.mark.parametrize("signature", SIGNATURES)
def test_the_tensorflow_command_line_answers_alike(exported, tmp_path, signature):
    model, version = exported
    request = next(r for r in _requests(version / savedmodel.WARMUP) if r.model_spec.signature_name == signature)
    ((argument, proto),) = request.inputs.items()
    np.save(tmp_path / "inputs.npy", tf.make_ndarray(proto))
    command = [
        str(Path(sys.executable).with_name("saved_model_cli")),
        *("run", "--dir", str(version), "--tag_set", "serve", "--signature_def", signature),
        *("--inputs", f"{argument}={tmp_path / 'inputs.npy'}", "--outdir", str(tmp_path / "out")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=QUIET)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = savedmodel.expectations(model, _decoded(request), LIMITS, [signature])
    got = {path.stem: np.load(path) for path in (tmp_path / "out").iterdir()}
    assert set(got) == {name.partition("/")[2] for name in expected}
    for name, value in expected.items():
        np.testing.assert_allclose(got[name.partition("/")[2]], value, rtol=1e-5, atol=1e-6)
