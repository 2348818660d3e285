"""Model files: small where predictions allow it, always the same bytes, and never code."""

import json
import math
import time
import zipfile

import h5py
import keras
import numpy as np
import pytest

from end2_tf.errors import ZooError
from end2_tf.heads import DirichletHead, SoftmaxHead
from end2_tf.models import UncertaintyClassifier
from end2_tf.reading import keras_files
from end2_tf.zoo import golden, keras_file, publish

DATE = "2026-01-01"


def _linear(kernel, bias, head=None, name=None):
    """Logits kernel · x + bias of one feature and two classes, as a file would hold them."""
    inputs = keras.Input((1,), name="inputs")
    backbone = keras.Model(inputs, keras.layers.Dense(2, name="logits")(inputs), name="linear")
    backbone.set_weights([np.array([kernel], np.float32), np.array(bias, np.float32)])
    return UncertaintyClassifier(backbone, head or SoftmaxHead(name="head"), name=name or "model")


def _held(value, bits):
    """A number with so many bits after its leading one."""
    mantissa, exponent = math.frexp(np.float32(value))
    return math.ldexp(round(mantissa * 2 ** (bits + 1)), exponent - bits - 1)


# At 1 the logits are both `size` + something, so that the larger it is the more bits it takes.
@pytest.mark.parametrize(
    ("size", "dtype", "bits"),
    [(0.3, "float16", 8), (30.3, "float16", 10), (100.3, "float32", 12), (1000.3, "float32", 23)],
)
def test_weights_take_the_fewest_bytes_that_keep_predictions(tmp_path, size, dtype, bits):
    def entropy_and_prob(kernel, bias):
        p = 1 / (1 + np.exp(bias - kernel))
        return np.array([p, -p * np.log(p) - (1 - p) * np.log1p(-p)])

    wanted = entropy_and_prob(np.float64(np.float32(size)), np.float64(np.float32(size - 0.2)))
    changes = {b: np.abs(entropy_and_prob(_held(size, b), _held(size - 0.2, b)) - wanted).max() for b in range(8, 15)}
    assert min((b for b in changes if changes[b] <= 1e-3), default=23) == bits
    exact = _linear([size, 0.0], [0.0, size - 0.2])
    exact.save(tmp_path / "saved.keras")
    batch = np.ones((4, 1), np.float32)
    outputs, weights = publish.write_model(tmp_path / "saved.keras", tmp_path / "model.keras", batch, DATE)
    assert (weights["dtype"], weights["mantissa_bits"]) == (dtype, bits)
    assert weights["largest_change"] <= 1e-3
    p = 1 / (1 + np.exp(-(np.float32(size) - np.float32(size - 0.2)).astype(float)))
    np.testing.assert_allclose(outputs["probs"][:, 0], p, atol=1e-3)
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert all(w.dtype == np.float32 for w in model.get_weights())
    with zipfile.ZipFile(tmp_path / "model.keras") as archive, h5py.File(archive.open("model.weights.h5")) as file:
        stored = file["layers/functional/layers/dense/vars/0"]
        assert stored.dtype == dtype
        if dtype == "float32":
            assert not (stored[()].view(np.uint32) & ((1 << 23 - bits) - 1)).any()
        else:
            assert not (stored[()].view(np.uint16) & ((1 << 10 - bits) - 1)).any()


def test_what_float16_cannot_hold_stays_float32():
    huge = np.array([1e6, 1.0], np.float32)
    half = keras_file.Precision("float16", 10)
    assert half.stored(huge).dtype == np.float32
    assert half.stored(huge[1:]).dtype == np.float16
    assert half.stored(np.array([3], np.uint32)).dtype == np.uint32  # a seed


def test_rounded_mantissas_err_by_half_a_unit():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    rounded = keras_file.Precision("float32", 14).stored(values)
    assert np.max(np.abs(rounded / values - 1)) <= 2.0**-15
    largest = np.array([np.finfo(np.float32).max, -np.finfo(np.float32).max], np.float32)
    np.testing.assert_array_equal(keras_file.Precision("float32", 14).stored(largest), largest)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    model = _linear([1.0, 2.0], [0.0, 0.5], DirichletHead(name="head"))
    half = keras_file.PRECISIONS[0]
    for name in ("one", "two"):
        model.save(tmp_path / f"{name}.keras")
        keras_file.rewrite(tmp_path / f"{name}.keras", tmp_path / f"{name}_again.keras", half, DATE)
        time.sleep(1.1)  # Keras writes the second
    assert (tmp_path / "one.keras").read_bytes() != (tmp_path / "two.keras").read_bytes()
    assert (tmp_path / "one_again.keras").read_bytes() == (tmp_path / "two_again.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "one_again.keras") as archive:
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"] == DATE


def test_a_lambda_is_refused_in_one_line(tmp_path):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ZooError, match="the entry evil has a Lambda, which would run code") as error:
        keras_file.open_model(tmp_path / "m.keras", "evil")
    assert "\n" not in str(error.value)


def _with_config(path, change):
    """Rewrites the config of a saved model."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = json.dumps(change(json.loads(parts["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("module", "class_name", "message"),
    [
        ("os", "system", "needs the class os.system, which isn't registered"),
        ("somebody.layers", "Gadget", "needs the class somebody.layers.Gadget"),
        ("keras.utils", "get_file", "names keras.utils.get_file, which is no part of a network"),
        (None, "__lambda__", "has a lambda"),
        ("end2_tf.stages", "Run", "can't be opened as a Keras model"),
    ],
)
def test_foreign_code_is_refused_in_one_line(tmp_path, module, class_name, message):
    _linear([1.0, 2.0], [0.0, 0.5]).save(tmp_path / "m.keras")

    def change(config):
        config["config"]["head"] = {"module": module, "class_name": class_name, "config": {}, "registered_name": None}
        return config

    _with_config(tmp_path / "m.keras", change)
    with pytest.raises(ZooError, match=message) as error:
        keras_file.open_model(tmp_path / "m.keras", "evil")
    assert "\n" not in str(error.value)


def test_what_is_no_keras_file(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"nothing")
    with pytest.raises(ZooError, match=r"isn't a .keras file"):
        keras_file.open_model(tmp_path / "m.keras", "broken")


def test_a_config_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_files, "MAX_CONFIG_BYTES", 1_000_000)
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 1_000_001)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ZooError, match="unpacks to more than 1 MB"):
        keras_file.open_model(tmp_path / "m.keras", "evil")


def test_golden_outputs_are_compared_relative_to_their_size(tmp_path):
    model = _linear([0.0, 0.0], [11.0, 11.0], DirichletHead(name="head"))  # alphas of 60,000
    batch = np.ones((2, 1), np.float32)
    outputs = golden.outputs(model, batch)
    outputs["alphas"] = outputs["alphas"] + 1
    np.savez(tmp_path / "golden.npz", inputs=batch, **outputs)
    golden.check(model, tmp_path / "golden.npz")
    np.savez(tmp_path / "golden.npz", inputs=batch, **(outputs | {"alphas": outputs["alphas"] + 30}))
    with pytest.raises(ZooError, match="predicts alphas with a deviation"):
        golden.check(model, tmp_path / "golden.npz")
    np.savez(tmp_path / "golden.npz", inputs=batch, probs=outputs["probs"])
    with pytest.raises(ZooError, match="has outputs"):
        golden.check(model, tmp_path / "golden.npz")
