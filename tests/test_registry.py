"""A new data set, backbone, loss or experiment is one new file each."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from end2_tf import registry
from end2_tf.errors import ConfigError

PACKAGE = Path(registry.__file__).parent

NEW_FILES = {
    "data/sources/corners.py": """
import numpy as np
from end2_tf.data.examples import Examples, Splits

def fingerprint(*, size: float = 1.0) -> str:
    return str(size)

def load(*, seed: int, size: float = 1.0) -> Splits:
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % 4
    inputs = (size * np.stack([labels // 2, labels % 2], 1) + rng.normal(0, .1, (120, 2))).astype(np.float32)
    return Splits(train=Examples(inputs, labels), test=Examples(inputs + np.float32(.01), labels))
""",
    "backbones/linear.py": """
import keras

def logits(features, num_classes, *, use_bias: bool = True):
    return keras.layers.Dense(num_classes, use_bias=use_bias)(features)
""",
    "losses/mean_squared.py": """
import keras
import tensorflow as tf
from end2_tf.losses import DistillationLoss

@keras.saving.register_keras_serializable("end2_tf")
class MeanSquared(DistillationLoss):
    head = "softmax"

    def statistics_size(self, num_classes):
        return num_classes

    def reduce_members(self, member_logits, temperature):
        return tf.reduce_mean(tf.nn.softmax(tf.cast(member_logits, tf.float64)), axis=-2)

    def from_statistics(self, statistics, logits, temperature):
        return tf.reduce_sum((tf.nn.softmax(tf.cast(logits, tf.float64)) - tf.cast(statistics, tf.float64)) ** 2, -1)
""",
    "experiments/corners.py": """
from end2_tf.config import Data, Ensemble, Experiment, Method, Student

EXPERIMENTS = {
    "corners": Experiment(
        data=Data(name="corners", options={"size": 3.0}),
        ensemble=Ensemble(backbone="linear", num_members=2, epochs=2),
        methods={"squares": Method(loss="mean_squared")},
        student=Student(epochs=2, methods=("squares",)),
    )
}
""",
}


def test_one_new_file_each_and_no_edit_elsewhere(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "end2_tf", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in NEW_FILES.items():
        (tmp_path / "end2_tf" / name).write_text(text)
    command = [sys.executable, "-m", "end2_tf", "--experiment=corners", "--workdir=run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "squares" in (tmp_path / "run" / "results.csv").read_text()


def test_studies_are_found_like_experiments():
    assert set(registry.studies()) >= {"fashion_mnist_mlp_inputs", "temperature"}


def test_names_are_files():
    assert {"spirals", "ring", "own_data"} <= set(registry.names("data source"))
    assert not any(name.startswith("_") for kind in registry.FOLDERS for name in registry.names(kind))


def test_backbones_name_their_widths_which_are_read_without_importing_them():
    assert registry.widths("mlp") == {"hidden": (64, 64, 64)}
    assert registry.widths("cnn") == {"filters": (16, 32, 64), "dense": 64}
    assert registry.widths("vgg16") == {"dense": 2048}
    assert registry.widths("resnet18") == {"width": 64}
    assert registry.widths("auto") == registry.widths("resnet50") == {}
    for name in registry.names("backbone"):
        parameters = inspect.signature(registry.module("backbone", name, "backbone").logits).parameters
        assert registry.widths(name) == {option: parameters[option].default for option in registry.widths(name)}
        assert len(registry.widths(name)) == len(getattr(registry.module("backbone", name, "backbone"), "WIDTHS", ()))


def test_every_loss_file_defines_its_class():
    for name in registry.names("loss"):
        assert hasattr(registry.module("loss", name, "loss"), registry.class_name(name))


def test_unknown_names_say_how_to_add_one():
    with pytest.raises(ConfigError, match=r"Did you mean 'spirals'.*A new one is one file in end2_tf/data/sources/"):
        registry.check("data source", "spiral", "data.name")
