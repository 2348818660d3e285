"""ResNet-50 (He et al., 2016), Keras' own."""

from __future__ import annotations

from typing import Any

import keras


def logits(features: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """`keras.applications.ResNet50` without its weights; 25,636,712 weights at 224×224 and 1,000 classes. No options.

    Its batch normalisation is over all replicas of a batch, so that their number changes nothing.

    Args:
        features: Normalised images, (batch, height, width, channels), at least 32 pixels a side.
    """
    network = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=tuple(features.shape[1:]), pooling="avg"
    )
    network = keras.models.clone_model(network, clone_function=_synchronised)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(network(features))


def _synchronised(layer: keras.layers.Layer) -> keras.layers.Layer:
    config: dict[str, Any] = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        config["synchronized"] = True
    return layer.__class__.from_config(config)
