"""Proxy-Dirichlet distillation by the reverse KL divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from end2_tf import dirichlet
from end2_tf.losses._proxy import ProxyLoss


@keras.saving.register_keras_serializable("end2_tf")
class ProxyReverseKL(ProxyLoss):
    """KL(student ‖ proxy) / precision, for a proxy Dirichlet of the ensemble's mean and a matched precision.

    Use it with many classes, where `DirichletNLL` fails: classes that nobody predicts don't dominate. The proxy's
    concentrations are precision · mean + offset; the published method has offset=1, for the head too, whose mean then
    isn't the softmax. At offset 1, and up to a constant of the student, the loss is its expected cross-entropy to the
    mean minus its differential entropy over the precision. Division is by the precision before the offset is added,
    as in the paper; the authors' code divides by the sum of the concentrations.

    Args:
        precision: `stirling`, `exact` or `mutual_information`, see `end2_tf.precision`. Defaults to `stirling`, the
            published one.
        cap: Largest precision, at least 1e-3. Defaults to 1e6.
        targets, temperature, offset, **kwargs: See `DistillationLoss`. Temperature divides both sides' logits; there
            is no factor of it.

    Call arguments:
        y_true: Members' logits, (batch, members, classes); or their mean probabilities and ln precision,
            (batch, classes + 1).
        y_pred: Student's logits, (batch, classes); alphas and proxy are kept between exp(-30) and about exp(30).

    Returns:
        Nats over the precision, (batch,) before reduction; at least 0, and 0 where the student is the proxy.

    Raises:
        ConfigError: an argument isn't among the allowed values.
        ShapeError: ranks are not 3 (2) and 2, or class counts differ.

    Example:
        >>> members = np.log([[[0.2, 0.8], [0.4, 0.6]]])
        >>> float(ProxyReverseKL(offset=1.0)(members, np.log([[3.0, 7.0]])))
        0.00629...

    Source: Ryabinin, Malinin & Gales, 2021, arXiv:2105.06987.
    """

    def divergence(self, alphas: tf.Tensor, proxy: tf.Tensor, precision: tf.Tensor) -> tf.Tensor:
        return _reverse_kl(alphas, proxy) / precision


@tf.custom_gradient
def _reverse_kl(alphas: tf.Tensor, proxy: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    """Returns KL(Dir(alphas) ‖ Dir(proxy)), with a gradient for the student alone.

    In it all cancels but what has a trigamma, and of that TensorFlow's own takes longer than the rest of the loss.
    """
    excess = alphas - proxy
    alpha0, excess0 = (tf.reduce_sum(values, axis=-1, keepdims=True) for values in (alphas, excess))

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        slope = excess * dirichlet.trigamma(alphas) - excess0 * dirichlet.trigamma(alpha0)
        return upstream[..., None] * slope, None

    return dirichlet.kl_divergence(alphas, proxy), gradient
