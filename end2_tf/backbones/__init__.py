"""Networks that return logits, one file each; a file's name is the backbone's name.

A file defines `logits(features, num_classes, *, option=default, ...)`: a Keras tensor of normalised inputs in, a Keras
tensor of logits out. `build` wraps it: raw inputs (pixels 0-255, raw coordinates), normalisation as a layer of the
model, logits in float32 whatever the precision policy.
"""

from __future__ import annotations

import inspect
import typing
from typing import Any

import keras
import numpy as np
import pydantic

from end2_tf import registry
from end2_tf.errors import ConfigError, suggestion


def check_options(name: str, options: dict[str, Any], field: str) -> dict[str, Any]:
    """Returns the options with their declared types.

    Raises:
        ConfigError: an option is unknown or has a wrong type; the message names what there is.
    """
    function = registry.module("backbone", name, field).logits
    hints = typing.get_type_hints(function)
    allowed = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    checked = {}
    for key, value in options.items():
        if key not in allowed:
            raise ConfigError(
                f"{field.rsplit('.', 1)[0]}.options has {key!r}, which backbone {name!r} doesn't take. "
                f"{suggestion(key, allowed)}Its options: {', '.join(allowed) or 'none'}."
            )
        try:
            checked[key] = pydantic.TypeAdapter(hints[key]).validate_python(value)
        except pydantic.ValidationError as error:
            message = error.errors()[0]["msg"]
            raise ConfigError(f"{field.rsplit('.', 1)[0]}.options.{key} is {value!r}. {message}.") from None
    return checked


def build(
    name: str,
    options: dict[str, Any],
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    mean: np.ndarray,
    std: np.ndarray,
    field: str = "ensemble.backbone",
) -> keras.Model:
    """Builds a backbone that takes raw inputs.

    Args:
        name: A file in end2_tf/backbones/.
        options: Keyword arguments of its `logits`.
        input_shape: Of one example, without the batch.
        num_classes: K.
        mean, std: Statistics of the training inputs, one per channel or feature.
        field: Where the name stands in the config, for messages.

    Returns:
        A model from (batch, *input_shape) to logits (batch, K), float32.
    """
    options = check_options(name, options, field)
    inputs = keras.Input(input_shape, name="inputs")
    normalise = keras.layers.Normalization(
        axis=-1,
        mean=np.asarray(mean, np.float32).tolist(),
        variance=np.square(np.asarray(std, np.float64)).tolist(),
        dtype="float32",  # pixel values up to 255 lose digits in float16
        name="normalisation",
    )
    outputs = registry.module("backbone", name, field).logits(normalise(inputs), num_classes, **options)
    return keras.Model(inputs, outputs, name=name)
