"""Monte-Carlo dropout as an ensemble: members are one trained network with its units dropped, each in its own way."""

from __future__ import annotations

import keras
import numpy as np

from end2_tf.errors import ConfigError
from end2_tf.layers import DropoutMask


def check(network: keras.Model) -> None:
    """Raises ConfigError where a network has nothing to drop."""
    if not any(isinstance(layer, keras.layers.Dropout) and layer.rate for layer in network.layers):
        raise ConfigError(
            f"ensemble.kind is 'dropout', but the backbone {network.name!r} has no dropout with these options. Set "
            "ensemble.options.dropout=0.3, or take a backbone that has it."
        )


def thinned(network: keras.Model, seed: int) -> keras.Model:
    """Returns a network whose dropped units are drawn once and for all, with the weights of the given one.

    A stochastic pass draws anew for every input. Drawing once a member instead changes nothing of how the predictions
    for one input are distributed, and makes each member a function, which can be stored, stacked, published, and asked
    twice.

    Args:
        network: From raw inputs to logits, with `Dropout` layers.
        seed: Of the draws.

    Source: Gal & Ghahramani, 2016, arXiv:1506.02142.
    """
    rng = np.random.default_rng(seed)

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.Dropout):
            return DropoutMask(name=layer.name, dtype=layer.dtype_policy.name)
        return layer.__class__.from_config(layer.get_config())

    member = keras.models.clone_model(network, clone_function=replace)
    for old, new in zip(network.layers, member.layers, strict=True):
        if isinstance(new, DropoutMask):
            kept = rng.random(new.mask.shape) >= old.rate
            new.set_weights([(kept / (1 - old.rate)).astype(np.float32)])
        else:
            new.set_weights(old.get_weights())
    return member
