import json

import keras
import pytest
import tensorflow as tf

from end2_tf import distribution
from end2_tf.distribution import AUTO, Strategy
from end2_tf.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", AUTO),
        ("one_device", Strategy("one_device")),
        ("mirrored", Strategy("mirrored")),
        ("mirrored:4", Strategy("mirrored", 4)),
        ("workers:2", Strategy("workers", 2)),
    ],
)
def test_the_flag(text, expected):
    assert distribution.parse(text) == expected


@pytest.mark.parametrize("text", ["", "mirror", "mirrored:0", "mirrored:", "workers", "workers:x", "auto:2", "Auto"])
def test_what_the_flag_cant_be(text):
    with pytest.raises(
        ConfigError, match=r"^--strategy is '.*'\. Allowed: auto, one_device, mirrored, mirrored:N for N"
    ):
        distribution.parse(text)


def _tf_config(job, index, **cluster):
    return json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})


@pytest.mark.parametrize(
    ("text", "num", "is_chief"),
    [
        ("", 1, True),
        ("{}", 1, True),
        (_tf_config("worker", 0, worker=["a:1"]), 1, True),
        (_tf_config("worker", 0, worker=["a:1", "b:1"]), 2, True),
        (_tf_config("worker", 1, worker=["a:1", "b:1"]), 2, False),
        (_tf_config("worker", "0", worker=["a:1", "b:1"]), 2, True),  # some schedulers write text
        (_tf_config("chief", 0, chief=["a:1"], worker=["b:1", "c:1"]), 3, True),
        (_tf_config("worker", 0, chief=["a:1"], worker=["b:1", "c:1"]), 3, False),
    ],
)
def test_several_machines(monkeypatch, text, num, is_chief):
    monkeypatch.setenv("TF_CONFIG", text)
    assert distribution.num_workers() == num
    assert distribution.is_chief() is is_chief
    assert AUTO.shared_by == (f"workers:{num}" if num > 1 else "")


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"cluster": {"worker": ["a:1", "b:1"]}}', '{"cluster": 3}'])
def test_what_tf_config_cant_be(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=r"^TF_CONFIG is .* Correct it, or unset it\.$"):
        distribution.num_workers()


@pytest.mark.parametrize(
    ("strategy", "gpus", "trainings", "deterministic", "shared"),
    [
        (AUTO, 0, 1, False, 0),
        (AUTO, 1, 1, False, 0),
        (AUTO, 4, 1, False, 4),
        (AUTO, 4, 3, False, 4),
        (AUTO, 4, 4, False, 0),
        (AUTO, 4, 1, True, 0),
        (Strategy("one_device"), 4, 1, False, 0),
        (Strategy("mirrored"), 4, 10, True, 4),
        (Strategy("mirrored", 2), 4, 10, False, 2),
        (Strategy("mirrored"), 1, 1, False, 0),
    ],
)
def test_which_devices_share_batches(monkeypatch, strategy, gpus, trainings, deterministic, shared):
    class Device:
        def __init__(self, name):
            self.name = name

    devices = [Device(f"GPU:{i}") for i in range(gpus)]
    find = lambda kind=None: devices if kind == "GPU" else [Device("CPU:0")]
    monkeypatch.setattr(tf.config, "list_physical_devices", find)
    monkeypatch.setattr(tf.config, "list_logical_devices", find)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda names: names)
    made = distribution.make(strategy, trainings, deterministic=deterministic)
    assert made == ([f"GPU:{i}" for i in range(shared)] if shared else tf.distribute.get_strategy())


def test_what_contradicts_is_refused(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    monkeypatch.setenv("TF_CONFIG", _tf_config("worker", 0, worker=["a:1", "b:1"]))
    with pytest.raises(ConfigError, match=r"^--strategy is 'mirrored', but TF_CONFIG names 2 workers\. Unset"):
        distribution.make(Strategy("mirrored"))


def test_layers_that_replicas_would_change():
    inputs = keras.Input((4,))
    own = keras.layers.BatchNormalization(name="own")(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="all", synchronized=True)(own))
    assert distribution.unsynchronised(model) == ["own"]
