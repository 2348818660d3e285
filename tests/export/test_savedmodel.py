"""SavedModels: the same answers without this package, versions that stay, and what is refused."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from end2_tf import backbones, export, uncertainty, workdir
from end2_tf.config import Export
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples
from end2_tf.ensemble import StackedEnsemble
from end2_tf.errors import ModelError
from end2_tf.export import savedmodel, signatures
from end2_tf.export.thresholds import Thresholds
from end2_tf.heads import DirichletHead, SoftmaxHead
from end2_tf.models import UncertaintyClassifier

pytestmark = pytest.mark.slow  # each export starts a process of its own
SHAPE = (8, 10, 3)
LIMITS = Thresholds(1.0, 0.05, "coverage", 0.9, 0.0, 0.01, 50, 50, 0.9, 0.1)


def _backbone(seed=0, shape=SHAPE, dropout=0.3):
    keras.utils.set_random_seed(seed)
    options = {"filters": [4], "dense": 8, "dropout": dropout} if len(shape) == 3 else {"hidden": [8]}
    name = "cnn" if len(shape) == 3 else "mlp"
    mean, std = np.full(shape[-1], 120.0), np.full(shape[-1], 60.0)
    return backbones.build(name, options, input_shape=shape, num_classes=4, mean=mean, std=std)


def _student(seed=0):
    return UncertaintyClassifier(_backbone(seed), DirichletHead())


def _images(n=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("export") / "net", _student()
    assert savedmodel.write(model, folder, inputs=_images(), thresholds=LIMITS, details={"name": "net"}) == (1, False)
    return folder, model


def test_a_version_is_written_once_and_never_again(exported):
    folder, model = exported
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    keras.layers.Dense(1)  # counts names up
    model = _student()
    again = savedmodel.write(model, folder, inputs=_images(), thresholds=LIMITS, details={"name": "net"})
    assert again == (1, True)
    other = savedmodel.write(_student(1), folder, inputs=_images(), thresholds=LIMITS, lite=False)
    assert other == (2, False)
    assert workdir.versions(folder) == [1, 2]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(folder.glob(".exporting-*"))
    assert not (folder / "2" / savedmodel.LITE).exists()


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.data-00000-of-00001", savedmodel.WARMUP])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 10)])
def test_a_damaged_version_is_followed_by_a_whole_one(exported, tmp_path, monkeypatch, file, damage):
    folder, model = exported
    shutil.copytree(folder / "1", tmp_path / "net" / "1")
    damage(tmp_path / "net" / "1" / file)
    for name, answer in (("_ask", {}), ("ask_lite", {}), ("_compare", 0.0), ("to_lite", b"")):
        monkeypatch.setattr(savedmodel, name, lambda *args, answer=answer: answer)
    given = {"inputs": _images(), "thresholds": LIMITS, "details": {"name": "net"}}
    assert savedmodel.write(model, tmp_path / "net", **given) == (2, False)
    assert savedmodel.write(model, tmp_path / "net", **given) == (2, True)


def test_weights_and_graph_are_stored_once(exported):
    folder, model = exported
    stored = tf.train.list_variables(str(folder / "1" / "variables" / "variables"))
    assert sorted(tuple(shape) for name, shape in stored if shape) == sorted(tuple(w.shape) for w in model.weights)
    proto = saved_model_pb2.SavedModel.FromString((folder / "1" / "saved_model.pb").read_bytes())
    functions = proto.meta_graphs[0].graph_def.library.function
    sizes = sorted((len(function.node_def) for function in functions), reverse=True)
    assert sizes[0] > 200  # what all signatures call
    assert sizes[1] < 100


def test_signatures_of_a_student(exported):
    folder, model = exported
    loaded = tf.saved_model.load(str(folder / "1"))
    assert set(loaded.signatures) == {"serving_default", "serve_bytes", "decide"}
    inputs = _images(5, seed=3)
    measures = model.predict(inputs, verbose=0)
    got = loaded.signatures["serving_default"](inputs=tf.constant(inputs))
    names = {"probs", "alphas", "total_uncertainty", "data_uncertainty", "knowledge_uncertainty"}
    assert set(got) == {*names, "predicted_class"}
    for name in names:
        np.testing.assert_allclose(got[name], measures[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got["predicted_class"], measures["probs"].argmax(1))
    decided = loaded.signatures["decide"](inputs=tf.constant(inputs))
    is_uncertain, is_unfamiliar = measures["total_uncertainty"] > 1.0, measures["knowledge_uncertainty"] > 0.05
    np.testing.assert_array_equal(decided["is_uncertain"], is_uncertain)
    np.testing.assert_array_equal(decided["is_unfamiliar"], is_unfamiliar)
    np.testing.assert_array_equal(decided["abstain"], is_uncertain | is_unfamiliar)
    assert set(decided) == {*got, "abstain", "is_uncertain", "is_unfamiliar"}
    assert loaded.signatures["serving_default"](inputs=tf.zeros((0, *SHAPE), tf.uint8))["probs"].shape == (0, 4)


def test_encoded_images_of_any_size_and_kind(exported):
    folder, model = exported
    serve = tf.saved_model.load(str(folder / "1")).signatures["serve_bytes"]
    inputs = _images(2, seed=4)
    ramp = np.linspace(40, 200, SHAPE[0] * SHAPE[1] * 3).reshape(SHAPE[1], SHAPE[0], 3).transpose(1, 0, 2)
    inputs[1] = ramp.round()  # smooth, so that it survives being enlarged and brought back
    grey = Image.fromarray(inputs[0, ..., 0])
    files = [Image.fromarray(inputs[0]), Image.fromarray(inputs[1]).resize((30, 24)), grey]
    encoded = []
    for image in files:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        encoded.append(stream.getvalue())
    got = serve(image_bytes=tf.constant(encoded))["probs"].numpy()
    seen = np.stack([inputs[0], inputs[1], np.repeat(inputs[0, ..., :1], 3, axis=-1)])
    expected = model.predict(seen, verbose=0)["probs"]
    np.testing.assert_allclose(got[[0, 2]], expected[[0, 2]], atol=1e-6)
    np.testing.assert_allclose(got[1], expected[1], atol=0.05)
    jpeg = io.BytesIO()
    Image.fromarray(inputs[0]).save(jpeg, "JPEG", quality=100, subsampling=0)
    np.testing.assert_allclose(serve(image_bytes=tf.constant([jpeg.getvalue()]))["probs"][0], expected[0], atol=0.05)
    with pytest.raises(tf.errors.InvalidArgumentError):
        serve(image_bytes=tf.constant([b"no image"]))


def test_lite_answers_alike(exported):
    folder, model = exported
    inputs = np.concatenate([_images(20, seed=5), np.zeros((1, *SHAPE), np.uint8), np.full((1, *SHAPE), 255, np.uint8)])
    got = savedmodel.ask_lite(folder / "1" / savedmodel.LITE, inputs)
    measures = model.predict(inputs, verbose=0)
    for name in ("probs", "alphas", "total_uncertainty", "data_uncertainty", "knowledge_uncertainty"):
        np.testing.assert_allclose(got[f"serving_default/{name}"], measures[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 5])
def test_images_that_no_file_holds_are_exported_without_files(tmp_path, channels):
    shape = (8, 10, channels)
    images = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    examples = Examples(images, np.arange(12) % 4)
    data = DataSet(examples, examples, examples, None, {"far": examples}, tuple("abcd"))
    model = UncertaintyClassifier(_backbone(shape=shape), DirichletHead())
    made = export.export(model, "net", tmp_path, data, Export())
    found = savedmodel.metadata(made.path)
    assert found["signatures"] == ["decide", "serving_default"]
    assert found["examples"] == []


def test_metadata(exported):
    found = savedmodel.metadata(exported[0] / "1")
    assert found["input"] == {"shape": list(SHAPE), "dtype": "uint8"}
    assert found["thresholds"]["unfamiliar"] == 0.05
    assert found["signatures"] == ["decide", "serve_bytes", "serving_default"]
    assert max(found["parity"].values()) <= savedmodel.PARITY
    assert set(found["parity"]) == {"saved_model", "lite"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_limits_that_arent_there_are_null():
    assert savedmodel.finite({"a": float("inf"), "b": float("nan"), "c": 1, "d": "inf"}) == {
        "a": None,
        "b": None,
        "c": 1,
        "d": "inf",
    }


@pytest.mark.parametrize("shape", [SHAPE, (5,)])
def test_ensembles_answer_without_alphas(tmp_path, shape):
    members = [_backbone(seed, shape) for seed in range(3)]
    model = StackedEnsemble.from_members(members).as_model()
    inputs = _images() if len(shape) == 3 else np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    savedmodel.write(model, tmp_path, inputs=inputs, thresholds=LIMITS, lite=False)
    got = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](inputs=tf.constant(inputs))
    logits = np.stack([member(inputs.astype(np.float32)) for member in members], axis=1)
    expected = uncertainty.from_members(logits)
    assert "alphas" not in got
    for name in ("probs", "total_uncertainty", "data_uncertainty", "knowledge_uncertainty"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-6)


def test_a_network_of_one_distribution_is_never_unfamiliar():
    model = UncertaintyClassifier(_backbone(), SoftmaxHead())
    images = tf.constant(_images())
    outputs = signatures.with_decision(signatures.measures(model, images), LIMITS, images)
    assert set(outputs) == {
        "probs", "total_uncertainty", "predicted_class", "abstain", "is_uncertain", "is_unfamiliar",
    }  # fmt: skip
    assert not outputs["is_unfamiliar"].numpy().any()


def test_nothing_is_answered_where_nothing_is_known():
    outputs = {name: tf.constant([np.nan, 0.0]) for name in ("total_uncertainty", "knowledge_uncertainty")}
    decided = signatures.with_decision(outputs, LIMITS, tf.zeros((2, 3)))
    for name in ("abstain", "is_uncertain", "is_unfamiliar"):
        assert decided[name].numpy().tolist() == [True, False]


def test_an_input_that_isnt_finite_isnt_answered_even_where_layers_swallow_it():
    model = UncertaintyClassifier(_backbone(shape=(2,)), DirichletHead())
    inputs = tf.constant([[1.0, 2.0], [np.nan, 2.0], [1.0, -np.inf]])
    outputs = signatures.measures(model, tf.where(tf.math.is_finite(inputs), inputs, 0.0))
    limits = dataclasses.replace(LIMITS, uncertain=np.inf, unfamiliar=np.inf)
    decided = signatures.with_decision(outputs, limits, inputs)
    assert decided["abstain"].numpy().tolist() == [False, True, True]
    assert decided["is_unfamiliar"].numpy().tolist() == [False, True, True]


@pytest.mark.parametrize("what", ["_ask", "ask_lite"])
def test_a_model_that_answers_differently_is_refused(tmp_path, monkeypatch, what):
    ask = getattr(savedmodel, what)

    def wrong(*args):
        answers = ask(*args)
        answers["serving_default/probs"] = answers["serving_default/probs"] + np.float32(2e-5)
        return answers

    monkeypatch.setattr(savedmodel, what, wrong)
    with pytest.raises(ModelError, match=r"differs from the Keras model by 2e-05, more than 1e-05"):
        savedmodel.write(_student(), tmp_path / "net", inputs=_images())
    assert list((tmp_path / "net").iterdir()) == []


def test_the_process_that_tries_it_cant_import_this_package(tmp_path):
    code = (
        "import runpy, sys; bare = runpy.run_path(sys.argv[1]); sys.meta_path.insert(0, bare['_Blocked']); "
        "import end2_tf"
    )
    command = [sys.executable, "-c", code, str(savedmodel._BARE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "a SavedModel must open without end2_tf" in done.stderr
