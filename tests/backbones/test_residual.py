"""ResNet-18 and Wide ResNet: the papers' counts of weights, shapes and order of layers."""

import keras
import numpy as np
import pytest

from end2_tf import backbones
from end2_tf.errors import ConfigError


def _build(name, shape=(32, 32, 3), num_classes=10, **options):
    statistics = np.full(shape[-1], 100.0)
    return backbones.build(
        name, options, input_shape=shape, num_classes=num_classes, mean=statistics, std=statistics / 2
    )


def _trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def _kinds(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def test_resnet18_has_the_papers_weights():
    # Stem; two blocks a stage, of two 3×3 convolutions; a projection where filters double; logits with biases.
    stages = [64, 128, 256, 512]
    convolutions = 27 * 64 + sum(4 * 9 * n * n for n in stages)
    convolutions += sum(n * n // 2 - 9 * n * n // 2 for n in stages[1:])  # the first convolution has half the inputs
    normalisation = 2 * (64 + sum(4 * n for n in stages) + sum(stages[1:]))
    model = _build("resnet18")
    assert _trainable(model) == convolutions + normalisation + 5130 == 11_173_962
    assert model.count_params() - _trainable(model) == normalisation  # a moving mean and variance each
    assert len(_kinds(model, keras.layers.Conv2D)) == 17 + 3


@pytest.mark.parametrize("size", [32, 64])
def test_resnet18_halves_the_map_three_times(size):
    model = _build("resnet18", (size, size, 3), width=2)
    assert _kinds(model, keras.layers.GlobalAveragePooling2D)[0].input.shape == (None, size // 8, size // 8, 16)


def test_resnet18_activates_after_the_sum():
    model = _build("resnet18", width=2)
    sums = _kinds(model, keras.layers.Add)
    assert len(sums) == 8
    for layer in sums:
        assert all(isinstance(node.operation, keras.layers.ReLU) for node in layer._outbound_nodes)


def test_wrn28_10_has_the_papers_weights():
    # 9·i·o a convolution; the first block of a group begins with other inputs, and projects them.
    convolutions, normalisation, inputs = 27 * 16, 0, 16
    for n in (160, 320, 640):
        convolutions += 9 * inputs * n + 7 * 9 * n * n + inputs * n
        normalisation += 2 * (inputs + 7 * n)
        inputs = n
    model = _build("wrn28_10")
    assert _trainable(model) == convolutions + normalisation + 2 * 640 + 6410 == 36_479_194
    assert len(_kinds(model, keras.layers.Conv2D)) == 25 + 3


def test_wrn_adds_what_is_not_activated():
    model = _build("wrn28_10", depth=16, width=1, dropout=0.3)
    sums = _kinds(model, keras.layers.Add)
    assert len(sums) == 6
    # The sum goes on to a batch norm, and to the next sum as it is, or through no projection.
    kinds = [{type(node.operation).__name__ for node in layer._outbound_nodes} for layer in sums]
    assert kinds == [
        {"BatchNormalization", "Add"},  # within group 1
        {"BatchNormalization"},  # to group 2, whose shortcut is activated
        {"BatchNormalization", "Add"},
        {"BatchNormalization"},
        {"BatchNormalization", "Add"},
        {"BatchNormalization"},  # to the logits
    ]
    assert [layer.rate for layer in _kinds(model, keras.layers.Dropout)] == [0.3] * 6
    assert _build("wrn28_10", depth=10, width=1)(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, 10)


@pytest.mark.parametrize("depth", [4, 27, 29])
def test_a_depth_that_no_wide_resnet_has(depth):
    with pytest.raises(ConfigError, match=rf"^ensemble\.options\.depth is {depth}\. Allowed: 6n \+ 4"):
        _build("wrn28_10", depth=depth)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("wrn28_10", {"depth": 10, "width": 1}), ("resnet18", {"width": 4})])
def test_a_small_one_learns(name, options):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    images = rng.normal(100, 50, (64, 8, 8, 1)).astype(np.float32)
    images[labels == 1, ::2] += 50  # stripes
    model = _build(name, (8, 8, 1), 2, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    losses = model.fit(images, labels, batch_size=32, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.1 < 0.5 < losses[0]
    assert model.evaluate(images, labels, verbose=0) < 0.5  # by the moving statistics
