"""Any classifier of `keras.applications`, by its name, or backbone of KerasHub: pooled features and a dense layer."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, Literal

import keras

from end2_tf.config import ShareBelowOne as Share
from end2_tf.errors import ConfigError, unknown

HUB = "keras_hub/"


def logits(
    features: keras.KerasTensor,
    num_classes: int,
    raw: keras.KerasTensor,
    *,
    network: str,
    weights: Literal["random", "pretrained"] = "random",
    arguments: dict[str, Any] | None = None,
    dropout: Share = 0.0,
    momentum: Share | None = None,
) -> keras.KerasTensor:
    """A network without its top, the average over its last map, one dense layer.

    With random weights it takes the normalised inputs, and its own preprocessing is off. Pretrained ones take raw RGB
    pixels, preprocessed as they were in their training, at the images' own size; they are downloaded once into Keras'
    cache. Members that start from the same weights differ in their last layer and their order of data only.

    Batch normalisation is over all replicas of a batch, so that their number changes nothing.

    Args:
        features: Normalised images, (batch, height, width, channels).
        raw: The same, 0–255.
        network: A name in `keras.applications`, such as EfficientNetV2B0; or `keras_hub/` and the name of a class,
            such as keras_hub/ResNetBackbone, or of a preset, such as keras_hub/resnet_18_imagenet.
        weights: `pretrained` are ImageNet's, or a KerasHub preset's own.
        arguments: More of those that the network's constructor takes, such as {"alpha": 0.35}.
        dropout: Share dropped before the logits.
        momentum: Of the batch norm's moving statistics; the network's own by default, which is up to .999: too slow
            for trainings of some hundred steps.

    Raises:
        ConfigError: there is no such network, KerasHub isn't installed, or weights can't be fetched.
    """
    pretrained = weights == "pretrained"
    if pretrained and features.shape[-1] != 3:
        raise ConfigError(
            f"weights is 'pretrained', which takes RGB images, but these have {features.shape[-1]} channels. Set "
            "weights=random."
        )
    make = _hub if network.startswith(HUB) else _application
    try:
        output, layers = make(features, raw, network, pretrained, arguments or {})
    except (ValueError, TypeError):  # Keras refuses the network or its arguments
        raise
    except Exception as error:  # a download's failure has no class of its own in Keras, and others with other clients
        if make is _application and not pretrained:  # nothing was to be fetched
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"network is {network!r}, which can't be fetched: {reason}. Build it once where there is a network; random "
            "weights of keras.applications, or of a class of KerasHub, need none."
        ) from error
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
            layer.momentum = layer.momentum if momentum is None else momentum
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            layer.dtype_policy = "float32"  # pixel values lose digits in float16
    if dropout:
        output = keras.layers.Dropout(dropout)(output)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(output)


_Made = tuple[keras.KerasTensor, list[keras.layers.Layer]]  # pooled features, and the layers behind them


def _application(
    features: keras.KerasTensor, raw: keras.KerasTensor, network: str, pretrained: bool, arguments: dict[str, Any]
) -> _Made:
    names = [name for name, value in vars(keras.applications).items() if inspect.isfunction(value)]
    if network not in names:
        raise ConfigError(unknown("network", network, "a network", names, "They are those of keras.applications."))
    constructor = getattr(keras.applications, network)
    inputs = importlib.import_module(constructor.__module__).preprocess_input(raw) if pretrained else features
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        arguments = {"include_preprocessing": pretrained, **arguments}
    model = constructor(
        include_top=False,
        pooling="avg",
        weights="imagenet" if pretrained else None,
        input_shape=tuple(inputs.shape[1:]),
        input_tensor=inputs,
        **arguments,
    )
    layers = list(model._flatten_layers(include_self=False))
    if not pretrained:
        for layer in layers:  # EfficientNets of the first version rescale pixels whatever they are told
            if isinstance(layer, keras.layers.Rescaling):
                layer.scale, layer.offset = 1.0, 0.0
    return model.output, layers


def _hub(
    features: keras.KerasTensor, raw: keras.KerasTensor, network: str, pretrained: bool, arguments: dict[str, Any]
) -> _Made:
    try:
        keras_hub = importlib.import_module("keras_hub")
    except ImportError as error:
        raise ConfigError(
            f"network is {network!r}, but keras_hub can't be imported: {error}. Install it: pip install keras-hub"
        ) from error
    name, inputs = network.removeprefix(HUB), features
    arguments = {"image_shape": tuple(features.shape[1:]), **arguments}
    if name.endswith("Backbone"):
        classes = [each for each in dir(keras_hub.models) if each.endswith("Backbone") and each != "Backbone"]
        if name not in classes:
            raise ConfigError(unknown("network", network, "a network", [HUB + each for each in classes]))
        if pretrained:
            raise ConfigError(
                f"weights is 'pretrained', but {network} is a class. Name a preset, or set weights=random."
            )
        model = getattr(keras_hub.models, name)(**arguments)
    else:
        model = keras_hub.models.Backbone.from_preset(name, load_weights=pretrained, **arguments)
        if pretrained:
            converter = keras_hub.layers.ImageConverter.from_preset(name)
            scale, offset = (
                default if value is None else value
                for value, default in ((converter.scale, 1.0), (converter.offset, 0.0))
            )
            inputs = keras.layers.Rescaling(scale, offset, dtype="float32")(raw)
    output = model(inputs)
    pooled: dict[int, Callable[[], keras.layers.Layer]] = {
        3: keras.layers.GlobalAveragePooling1D,  # a vision transformer's tokens
        4: keras.layers.GlobalAveragePooling2D,
    }
    if not isinstance(output, keras.KerasTensor) or len(output.shape) not in pooled:
        raise ConfigError(
            f"network is {network!r}, which gives neither one map nor tokens. Name a backbone of an image classifier."
        )
    return pooled[len(output.shape)]()(output), list(model._flatten_layers(include_self=False))
