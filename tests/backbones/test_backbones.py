"""The contract of every backbone, and what is particular to each."""

import keras
import numpy as np
import pytest

from end2_tf import backbones, config, registry, training
from end2_tf.ensemble import StackedEnsemble, architecture
from end2_tf.errors import ConfigError

SHAPES = {"mlp": (2,), "auto": (2,), "cnn": (28, 28, 1)}  # the others' is that of CIFAR
OPTIONS = {
    "applications": {"network": "MobileNetV2", "arguments": {"alpha": 0.35}},
    "resnet18": {"width": 8},
    "wrn28_10": {"depth": 10, "width": 2, "dropout": 0.3},
}


def _shape(name):
    return SHAPES.get(name, (32, 32, 3))


def _build(name, shape=None, num_classes=10, mean=100.0, std=50.0, **options):
    shape = shape or _shape(name)
    channels = shape[-1]
    return backbones.build(
        name,
        options,
        input_shape=shape,
        num_classes=num_classes,
        mean=np.full(channels, mean),
        std=np.full(channels, std),
    )


@pytest.mark.parametrize("name", registry.names("backbone"))
def test_every_backbone_takes_raw_inputs_and_returns_float32_logits(name):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = _build(name, **OPTIONS.get(name, {}))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    inputs = np.random.default_rng(0).integers(0, 256, (3, *_shape(name))).astype(np.uint8)
    logits = model(inputs.astype(np.float32))
    assert logits.shape == (3, 10)
    assert logits.dtype == "float32"
    np.testing.assert_allclose(model.predict(inputs, verbose=0), logits, atol=0.05)
    assert model.layers[-1].get_config().get("activation", "linear") == "linear"


@pytest.mark.parametrize("name", registry.names("backbone"))
def test_normalisation_is_part_of_the_model_and_survives_saving(name, tmp_path):
    keras.utils.set_random_seed(1)
    options = OPTIONS.get(name, {})
    raw = _build(name, mean=100.0, std=50.0, **options)
    keras.utils.set_random_seed(1)
    plain = _build(name, mean=0.0, std=1.0, **options)
    x = np.random.default_rng(0).uniform(0, 255, (2, *_shape(name))).astype(np.float32)
    expected = plain((x - 100) / 50, training=False)
    np.testing.assert_allclose(raw(x, training=False), expected, atol=1e-4)
    raw.save(tmp_path / "m.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "m.keras")(x, training=False), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["applications", "resnet18", "wrn28_10"])
def test_what_a_twin_in_bfloat16_learnt_is_saved_in_float32(name, tmp_path):
    network = _build(name, **OPTIONS[name])
    with training.precision(mixed=True):
        twin = _build(name, **OPTIONS[name])
    assert twin.layers[-3].compute_dtype == "bfloat16"
    network.set_weights(twin.get_weights())
    network.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert {layer.compute_dtype for layer in again._flatten_layers()} == {"float32"}
    for saved, learnt in zip(again.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, learnt)


@pytest.mark.parametrize("name", ["applications", "resnet18", "wrn28_10"])
def test_an_ensemble_is_its_members(name, tmp_path):
    members = [_build(name, **OPTIONS[name]) for _ in range(2)]
    assert len({architecture(member) for member in members}) == 1
    ensemble = StackedEnsemble.from_members(members)
    x = np.random.default_rng(0).uniform(0, 255, (3, *_shape(name))).astype(np.float32)
    expected = np.stack([member(x, training=False) for member in members], 1)
    np.testing.assert_allclose(ensemble.predict_logits(x), expected, atol=1e-4)
    ensemble.as_model().save(tmp_path / "e.keras")
    again = keras.saving.load_model(tmp_path / "e.keras")
    np.testing.assert_allclose(again(x, training=False), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"), [*OPTIONS.items(), pytest.param("applications", {"network": "ConvNeXtTiny"}, id="convnext")]
)
def test_weight_decay_is_for_kernels(name, options):
    model = _build(name, **options)
    sgd = training.optimizer(config.Optimizer(name="sgd", weight_decay=1e-4), 10, model.trainable_variables)
    decayed = {variable.name for variable in model.trainable_variables if sgd._use_weight_decay(variable)}
    assert decayed == {"kernel"}
    assert all(len(v.shape) > 1 for v in model.trainable_variables if sgd._use_weight_decay(v))


def test_vgg16_has_the_papers_weights():
    model = _build("vgg16")
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 70_322_250
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.3, 0.3]  # at .3 convolutions drop nothing
    more = _build("vgg16", dropout=0.5)
    rates = [layer.rate for layer in more.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == pytest.approx([0.2] * 13 + [0.5] * 2)


def test_vgg16_of_another_width():
    kernels = [layer.kernel.shape[-1] for layer in _build("vgg16", width=4, dense=8).layers if hasattr(layer, "kernel")]
    assert kernels == [4, 4, 8, 8, *[16] * 3, *[32] * 6, 8, 8, 10]


@pytest.mark.parametrize(("given", "expected"), [([2], [2, 2, 4, 4, 8, 8]), ([1, 1, 2], [2, 4, 8, 8])])
def test_convolutions_of_a_block(given, expected):
    layers = _build("cnn", filters=[2, 4, 8], convolutions=given).layers
    assert [layer.filters for layer in layers if isinstance(layer, keras.layers.Conv2D)] == expected


@pytest.mark.parametrize("sine", ["none", "first", "last"])
def test_sine_takes_the_place_of_one_relu(sine):
    model = _build("mlp", num_classes=3, hidden=[8, 8], sine=sine)
    relus = sum(isinstance(layer, keras.layers.ReLU) for layer in model.layers)
    assert relus == (2 if sine == "none" else 1)
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [8, 8, 3]


def test_far_away_a_sine_is_bounded_and_relu_is_not():
    far = np.asarray([[1e6, -1e6]], np.float32)
    bounded = _build("mlp", sine="last", hidden=[16, 16])
    weights = bounded.layers[-1].get_weights()
    assert np.abs(bounded(far)).max() <= np.abs(weights[0]).sum(0).max() + np.abs(weights[1]).max()
    assert np.abs(_build("mlp", hidden=[16, 16])(far)).max() > 1e3


def test_auto_suits_the_inputs():
    kinds = lambda shape: {type(layer).__name__ for layer in _build("auto", shape).layers}
    assert "Conv2D" in kinds((16, 16, 3))
    assert "Conv2D" not in kinds((5,))


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("mlp", (2,), {"hiden": [3]}, "Did you mean 'hidden'"),
        ("mlp", (2,), {"sine": "middle"}, "'none', 'first' or 'last'"),
        ("mlp", (2,), {"hidden": [0]}, r"hidden\.0 is 0"),
        ("cnn", (2,), {}, r"can't be built for inputs of shape \(2,\)"),
        ("cnn", (4, 4, 1), {"filters": [2, 2, 2, 2]}, "can't be built"),
        (
            "cnn",
            (8, 8, 1),
            {"filters": [2, 2], "convolutions": [1, 2, 1]},
            r"options\.convolutions is \[1, 2, 1\], but",
        ),
        ("cnn", (8, 8, 1), {"convolutions": [1, 0, 1]}, r"convolutions\.1 is 0"),
        ("vgg17", (32, 32, 3), {}, "Did you mean 'vgg16'"),
    ],
)
def test_what_cannot_be_built_says_why(name, shape, options, message):
    with pytest.raises(ConfigError, match=message):
        _build(name, shape, **options)


def test_resnet50_is_keras_own_with_batch_norm_over_all_replicas():
    model = _build("resnet50", shape=(224, 224, 3), num_classes=1000)
    assert model.count_params() == 25_636_712  # of which 53,120 are moving statistics
    layers = [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
    assert len(layers) == 53
    assert all(layer.synchronized for layer in layers)
