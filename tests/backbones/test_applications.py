"""Networks of keras.applications and KerasHub: whose preprocessing, whose weights, and what is refused."""

import importlib
import sys
import types

import keras
import numpy as np
import pytest

from end2_tf import backbones, distribution
from end2_tf.errors import ConfigError

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
SMALL = {"network": "MobileNetV2", "arguments": {"alpha": 0.35}}


def _build(shape=(32, 32, 3), **options):
    statistics = np.full(shape[-1], 100.0)
    return backbones.build(
        "applications", options, input_shape=shape, num_classes=10, mean=statistics, std=statistics / 2
    )


def _layers(model, kind):
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


@pytest.mark.slow
def test_random_weights_take_what_is_normalised():
    model = _build(network="EfficientNetB0")  # has a preprocessing that can't be left out
    stem = keras.Model(model.input, model.get_layer("stem_conv_pad").input)
    np.testing.assert_allclose(stem(IMAGES), (IMAGES - 100) / 50, atol=1e-5)
    for network in ("EfficientNetV2B0", "MobileNetV3Small"):
        assert not _layers(_build(network=network), keras.layers.Rescaling)
    assert len(_layers(_build(network="ConvNeXtTiny"), keras.layers.Normalization)) == 1  # ours


def test_batch_norm_is_over_all_replicas():
    model = _build(**SMALL, momentum=0.9, dropout=0.25)
    assert distribution.unsynchronised(model) == []
    assert {layer.momentum for layer in _layers(model, keras.layers.BatchNormalization)} == {0.9}
    assert [layer.rate for layer in _layers(model, keras.layers.Dropout)] == [0.25]
    assert {layer.momentum for layer in _layers(_build(**SMALL), keras.layers.BatchNormalization)} == {0.999}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
@pytest.mark.parametrize(
    ("network", "module", "arguments"),
    [
        ("MobileNetV2", "mobilenet_v2", {"alpha": 0.35}),  # to [-1, 1], outside the network
        ("MobileNetV3Small", "mobilenet_v3", {}),  # the same, inside
        ("VGG16", "vgg16", {}),  # BGR minus means
    ],
)
def test_pretrained_weights_have_their_own_preprocessing(network, module, arguments, monkeypatch, tmp_path):
    constructor = getattr(keras.applications, network)
    published = constructor(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg", **arguments)
    published.save(tmp_path / "weights.h5")
    files = importlib.import_module("keras.src.utils.file_utils")
    monkeypatch.setattr(files, "get_file", lambda *_, **__: str(tmp_path / "weights.h5"))
    model = _build(network=network, arguments=arguments, weights="pretrained")
    preprocess = getattr(keras.applications, module).preprocess_input
    kernel, bias = model.layers[-1].get_weights()
    expected = np.asarray(published(preprocess(IMAGES.copy()), training=False)) @ kernel + bias
    np.testing.assert_allclose(model(IMAGES, training=False), expected, rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(IMAGES, training=False), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
def test_without_a_network_it_says_so_in_a_line(monkeypatch):
    def fail(*_, **__):
        raise Exception("URL fetch failure on https://example.org: None\nmore")  # Keras' own class

    monkeypatch.setattr(importlib.import_module("keras.src.utils.file_utils"), "get_file", fail)
    with pytest.raises(
        ConfigError, match=r"'MobileNetV2', which can't be fetched: URL fetch failure .*: None\. Build it"
    ):
        _build(**SMALL, weights="pretrained")


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (
            (32, 32, 3),
            {"network": "EfficientNetV2B9"},
            r"^ensemble\.options\.network is .* Did you mean 'EfficientNetV2B",
        ),
        ((28, 28, 1), {"network": "MobileNetV3Small"}, r"inputs of shape \(28, 28, 1\) .*at least 32x32"),
        ((64, 64, 3), {"network": "InceptionV3"}, "at least 75x75"),
        ((32, 32, 1), {**SMALL, "weights": "pretrained"}, "takes RGB images, but these have 1 channels"),
        ((32, 32, 3), {**SMALL, "weights": "imagenet"}, "'random' or 'pretrained'"),
        ((32, 32, 3), {**SMALL, "arguments": {"beta": 1}}, "unexpected keyword argument 'beta'"),
        ((32, 32, 3), {}, "missing .* 'network'"),
        ((32, 32, 3), {**SMALL, "raw": 1}, "'raw', which isn't an option"),
    ],
)
def test_what_cannot_be_built_says_why(shape, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        _build(shape, **options)
    assert "\n" not in str(error.value)


@keras.saving.register_keras_serializable("tests")
class TinyBackbone(keras.Model):
    """What a backbone of KerasHub is: a functional model with a constructor of its own."""

    def __init__(self, image_shape=(None, None, 3), filters=4, tokens=False, **kwargs):
        inputs = keras.Input(image_shape)
        x = keras.layers.BatchNormalization()(keras.layers.Conv2D(filters, 3)(inputs))
        super().__init__(inputs, keras.layers.Reshape((-1, filters))(x) if tokens else x, **kwargs)
        self.image_shape, self.filters, self.tokens = image_shape, filters, tokens

    def get_config(self):
        return {"image_shape": self.image_shape, "filters": self.filters, "tokens": self.tokens, "name": self.name}


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for KerasHub, with one class and one preset."""

    class Backbone:
        @staticmethod
        def from_preset(preset, *, load_weights, **arguments):
            if preset != "tiny_preset":
                raise ValueError(f"Unknown preset identifier: {preset}")
            model = TinyBackbone(**arguments)
            if load_weights:
                model.set_weights([np.full(w.shape, 0.1, np.float32) for w in model.get_weights()])
            return model

    converter = types.SimpleNamespace(scale=[1 / 255] * 3, offset=None)
    module = types.ModuleType("keras_hub")
    module.models = types.SimpleNamespace(TinyBackbone=TinyBackbone, Backbone=Backbone)
    module.layers = types.SimpleNamespace(ImageConverter=types.SimpleNamespace(from_preset=lambda preset: converter))
    monkeypatch.setitem(sys.modules, "keras_hub", module)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("tokens", [False, True])
def test_a_class_of_keras_hub(tokens):
    model = _build(network="keras_hub/TinyBackbone", arguments={"filters": 5, "tokens": tokens})
    inner = next(layer for layer in model.layers if isinstance(layer, TinyBackbone))
    outputs = np.asarray(inner((IMAGES - 100) / 50)).reshape(2, -1, 5).mean(1)
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(model(IMAGES), outputs @ kernel + bias, atol=1e-4)
    assert distribution.unsynchronised(model) == []


@pytest.mark.usefixtures("hub")
def test_a_preset_of_keras_hub_has_its_own_preprocessing():
    model = _build(network="keras_hub/tiny_preset", weights="pretrained")
    inner = next(layer for layer in model.layers if isinstance(layer, TinyBackbone))
    assert (inner.get_weights()[0] == np.float32(0.1)).all()
    kernel, bias = model.layers[-1].get_weights()
    expected = np.asarray(inner(IMAGES / 255)).mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-4)
    assert not _layers(_build(network="keras_hub/tiny_preset"), keras.layers.Rescaling)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "keras_hub/TinBackbone"}, "Did you mean 'keras_hub/TinyBackbone'"),
        ({"network": "keras_hub/TinyBackbone", "weights": "pretrained"}, "is a class. Name a preset"),
        ({"network": "keras_hub/tiny"}, "Unknown preset identifier: tiny"),
    ],
)
def test_what_keras_hub_has_not(options, message):
    with pytest.raises(ConfigError, match=message):
        _build(**options)


def test_keras_hub_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ConfigError, match=r"keras_hub can't be imported.*pip install keras-hub"):
        _build(network="keras_hub/ResNetBackbone")


def test_keras_hubs_own_resnet(tmp_path):
    pytest.importorskip("keras_hub", reason="KerasHub isn't installed; it is no dependency")
    stem = {"input_conv_filters": [64], "input_conv_kernel_sizes": [3], "block_type": "basic_block"}
    stages = {"stackwise_num_filters": [64, 64], "stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2]}
    model = _build(network="keras_hub/ResNetBackbone", arguments=stem | stages)
    assert distribution.unsynchronised(model) == []
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(IMAGES), model(IMAGES), atol=1e-5)
