"""Networks that return logits, one file each; a file's name is the backbone's name.

A file defines `logits(features, num_classes, *, option=default, ...)`: a Keras tensor of normalised inputs in, a Keras
tensor of logits out. `build` wraps it: raw inputs (pixels 0-255, raw coordinates), normalisation as a layer of the
model, logits in float32 whatever the precision policy. A function that also takes `raw` gets the inputs as they came,
for weights that were trained with a preprocessing of their own. A ConfigError of a function begins with the option's
name. `WIDTHS = ("option", ...)` names the options, whole numbers or tuples of them, that the study `capacity` makes
larger and smaller; a file without it can't be asked that.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np

from end2_tf import options as option_values
from end2_tf import registry
from end2_tf.errors import ConfigError


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

    Raises:
        ConfigError: an option is unknown or wrong, or the network doesn't fit the inputs.
    """
    function = registry.module("backbone", name, field).logits
    place = f"{field.rsplit('.', 1)[0]}.options"
    checked = option_values.check(
        function, options, place, f"the backbone {name!r}", ("features", "num_classes", "raw")
    )
    inputs = keras.Input(input_shape, name="inputs")
    normalise = keras.layers.Normalization(
        axis=-1,
        mean=np.asarray(mean, np.float32).tolist(),
        variance=np.square(np.asarray(std, np.float64)).tolist(),
        dtype="float32",  # pixel values up to 255 lose digits in float16
        name="normalisation",
    )
    if "raw" in inspect.signature(function).parameters:
        checked["raw"] = inputs
    try:
        outputs = function(normalise(inputs), num_classes, **checked)
    except ConfigError as error:
        raise ConfigError(f"{place}.{error}") from error
    except (ValueError, TypeError) as error:  # Keras refuses a layer: the wrong kind of inputs, or an option's value
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ConfigError(
            f"{field} {name!r} can't be built for inputs of shape {tuple(input_shape)} with options {options}: "
            f"{reason}. Choose another {field} or other {place}."
        ) from error
    return keras.Model(inputs, outputs, name=name)
