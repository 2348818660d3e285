"""What a server can ask of a model: functions of standard TensorFlow operations, from raw inputs to named outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from end2_tf import uncertainty
from end2_tf.export.thresholds import Thresholds

SERVING, BYTES, DECIDE = "serving_default", "serve_bytes", "decide"
INPUTS, IMAGE_BYTES = "inputs", "image_bytes"
CHANNELS = (1, 3, 4)  # that encoded images have
_OUTPUTS = ("probs", "alphas", "total_uncertainty", "data_uncertainty", "knowledge_uncertainty")

Outputs = dict[str, tf.Tensor]
Endpoint = tuple[Callable[[tf.Tensor], Outputs], list[tf.TensorSpec]]


def endpoints(model: keras.Model, shape: tuple[int, ...], thresholds: Thresholds | None = None) -> dict[str, Endpoint]:
    """Returns the functions of a student, a single network or an ensemble, with what they take.

    `serving_default` takes `inputs`, uint8 images or float32 features with a free batch dimension, and returns `probs`
    and, as far as the model has them, `alphas` (batch, classes), `total_uncertainty`, `data_uncertainty`,
    `knowledge_uncertainty` (batch,) in nats, and `predicted_class` (batch,) int64. `serve_bytes` takes `image_bytes`,
    encoded JPEG or PNG images of any size, and returns the same; only models of images with `CHANNELS` have it.
    `decide`, with thresholds, adds `abstain` and its two reasons, `is_uncertain`, `is_unfamiliar` (batch,) bool, each.

    Args:
        model: From raw inputs to measures, or to members' logits (batch, members, classes).
        shape: Of an input: (height, width, channels) or (features,).
        thresholds: When to abstain.
    """
    is_image = len(shape) == 3
    dtype = tf.uint8 if is_image else tf.float32
    spec = tf.TensorSpec((None, *shape), dtype, name=INPUTS)

    @tf.function(input_signature=[spec], autograph=False)  # a graph of its own, which all signatures call
    def predict(inputs: tf.Tensor) -> Outputs:
        return measures(model, inputs)

    found: dict[str, Endpoint] = {SERVING: (predict, [spec])}
    if is_image and shape[2] in CHANNELS:

        def serve_bytes(image_bytes: tf.Tensor) -> Outputs:
            return predict(decode(image_bytes, (shape[0], shape[1], shape[2])))

        found[BYTES] = serve_bytes, [tf.TensorSpec((None,), tf.string, name=IMAGE_BYTES)]
    if thresholds is not None:
        limits = thresholds

        def decide(inputs: tf.Tensor) -> Outputs:
            return with_decision(predict(inputs), limits, inputs)

        found[DECIDE] = decide, [spec]
    return found


def measures(model: keras.Model, inputs: tf.Tensor) -> Outputs:
    """Returns the outputs of `serving_default`."""
    outputs = model(tf.cast(inputs, tf.float32), training=False)
    if not isinstance(outputs, dict):
        outputs = uncertainty.from_members(outputs)
    kept = {name: outputs[name] for name in _OUTPUTS if name in outputs}
    return {**kept, "predicted_class": tf.argmax(kept["probs"], axis=-1, output_type=tf.int64)}


def with_decision(outputs: Outputs, thresholds: Thresholds, inputs: tf.Tensor) -> Outputs:
    """Adds `is_uncertain`, `is_unfamiliar` and `abstain`, which is either; an input that isn't finite is unfamiliar."""
    total = outputs["total_uncertainty"]
    # Not "above", so that NaN isn't answered.
    is_uncertain = ~(total <= tf.constant(min(thresholds.uncertain, total.dtype.max), total.dtype))
    is_unfamiliar = tf.zeros_like(is_uncertain)
    if "knowledge_uncertainty" in outputs and math.isfinite(thresholds.unfamiliar):
        is_unfamiliar = ~(outputs["knowledge_uncertainty"] <= tf.constant(thresholds.unfamiliar, total.dtype))
    if inputs.dtype.is_floating:  # layers may swallow a NaN: ReLU makes 0 of it
        finite = tf.math.is_finite(inputs)
        is_unfamiliar |= ~tf.reduce_all(finite, axis=list(range(1, len(inputs.shape))))
    abstain = is_uncertain | is_unfamiliar
    return {**outputs, "abstain": abstain, "is_uncertain": is_uncertain, "is_unfamiliar": is_unfamiliar}


def decode(image_bytes: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes JPEG or PNG images, in grey or colour as the model takes them, and brings them to its size.

    Args:
        image_bytes: (batch,) strings.
        shape: Height, width, channels.

    Returns:
        (batch, *shape) uint8.
    """
    height, width, channels = shape

    def one(encoded: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
        image.set_shape((None, None, channels))
        fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], (height, width)))
        return tf.cond(fits, lambda: image, lambda: _resized(image, height, width))

    return tf.map_fn(one, image_bytes, fn_output_signature=tf.TensorSpec(shape, tf.uint8))


def _resized(image: Any, height: int, width: int) -> tf.Tensor:
    resized = tf.image.resize(image, (height, width), method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
