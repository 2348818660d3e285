"""Strategies, each in a process of its own: a second one of another size in one process dies in TensorFlow."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from end2_tf import loop

# Trains a small network and writes its weights, the optimiser's and the losses. 37 examples in batches of 8: the last
# one has 5, which no number of replicas divides; with batches of 9 it has 1.
SCRIPT = """
import sys
import numpy as np
from end2_tf import distribution

target, replicas, batch_size, kind, is_compiled = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]
how = distribution.parse(f"mirrored:{replicas}")
distribution.prepare(how)
import keras
from end2_tf import config, loop, training
from end2_tf.data.pipeline import Batches, Order
from end2_tf.data.views import Views
from end2_tf.layers import BatchNormalization
from end2_tf.losses.mean_precision import MeanPrecision

loop.Loop.__init__.__kwdefaults__["compiled"] = is_compiled == "True"
rng = np.random.default_rng(0)
inputs, auxiliary = (rng.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8) for n in (37, 11))
targets = np.concatenate([rng.dirichlet(np.ones(3), 48), rng.normal(size=(48, 1))], 1).astype(np.float32)
strategy = distribution.make(how)
assert strategy.num_replicas_in_sync == replicas
options = {
    "plain": config.Optimizer(name="sgd", learning_rate=0.05),
    "clipped": config.Optimizer(name="sgd", learning_rate=0.05, clip_norm=0.1, weight_decay=0.01),
    "adam": config.Optimizer(learning_rate=1e-2, average=0.9, weight_decay=0.01),
}
with strategy.scope():
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(4, 3, kernel_regularizer="l2")(x)
    if kind == "clipped":
        x = BatchNormalization(momentum=0.9)(x)
    x = keras.layers.Flatten()(keras.layers.ReLU()(x))
    model = keras.Model(images, keras.layers.Dense(3)(x))
    order = Order(37, batch_size, 0, num_auxiliary=11 if kind == "adam" else 0, auxiliary_share=0.2)
    plain = config.Augmentation()
    batches = Batches(
        Views(plain, inputs, 0), order, lambda epoch, view, ids: targets[ids], auxiliary=Views(plain, auxiliary, 0)
    )
    rows = training.fit(model, MeanPrecision(targets="statistics"), batches, epochs=4, settings=options[kind], seed=0)
np.savez(target, *model.get_weights(), losses=[row["loss"] for row in rows])
"""


def _train(tmp_path, replicas, batch_size, kind, is_compiled=False):
    target = tmp_path / f"{replicas}.npz"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SCRIPT, str(target), *map(str, (replicas, batch_size, kind, is_compiled))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(target))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "batch_size"), [("plain", 8), ("plain", 9), ("clipped", 8), ("adam", 8)])
def test_replicas_do_the_steps_of_one_device(tmp_path, kind, batch_size):
    alone, *others = [_train(tmp_path, replicas, batch_size, kind) for replicas in (1, 2, 3)]
    for other in others:
        assert alone.keys() == other.keys()
        for name, value in alone.items():
            np.testing.assert_allclose(other[name], value, atol=1e-5, err_msg=name)
    assert alone["losses"][-1] < alone["losses"][0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clipped", "adam"])
def test_compiled_steps_are_those_that_are_not(tmp_path, kind):
    plain, compiled = _train(tmp_path, 1, 8, kind), _train(tmp_path, 1, 8, kind, True)
    for name, value in plain.items():
        np.testing.assert_allclose(compiled[name], value, atol=1e-5, err_msg=name)


def test_xla_is_for_layers_that_support_it_where_there_is_a_gpu(monkeypatch):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    for gpus, supported, asked, expected in (
        (1, True, None, True),
        (0, True, None, False),
        (1, False, None, False),
        (0, False, True, True),
        (1, True, False, False),
    ):
        monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind, gpus=gpus: ["one"] * gpus)
        model.layers[-1].supports_jit = supported
        loss = keras.losses.MeanSquaredError()
        steps = loop.Loop(model, loss, compiled=asked)
        assert hasattr(steps._learn, "experimental_get_compiler_ir") == expected
        loss.supports_jit = False
        steps = loop.Loop(model, loss, compiled=asked)
        assert hasattr(steps._learn, "experimental_get_compiler_ir") == bool(asked)
