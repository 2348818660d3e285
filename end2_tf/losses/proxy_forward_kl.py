"""Proxy-Dirichlet distillation by the forward KL divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from end2_tf import dirichlet
from end2_tf.losses._proxy import ProxyLoss


@keras.saving.register_keras_serializable("end2_tf")
class ProxyForwardKL(ProxyLoss):
    """KL(proxy ‖ student), for a proxy Dirichlet of the ensemble's mean and a matched precision.

    What `DirichletNLL` becomes for infinitely many members drawn from the proxy, up to a constant of the student. It
    shares that loss's trouble with many classes, but not its flatter mean. Not divided by the precision, as in the
    authors' code: examples on which members agree weigh more. `ProxyReverseKL` is the paper's choice.

    Args:
        precision: `stirling`, `exact` or `mutual_information`, see `end2_tf.precision`. Defaults to `stirling`.
        cap: Largest precision, at least 1e-3. Defaults to 1e6.
        targets, temperature, offset, **kwargs: See `DistillationLoss`. Temperature divides both sides' logits; there
            is no factor of it.

    Call arguments:
        y_true: Members' logits, (batch, members, classes); or their mean probabilities and ln precision,
            (batch, classes + 1).
        y_pred: Student's logits, (batch, classes); alphas and proxy are kept between exp(-30) and about exp(30).

    Returns:
        Nats, (batch,) before reduction; at least 0, and 0 where the student is the proxy.

    Raises:
        ConfigError: an argument isn't among the allowed values.
        ShapeError: ranks are not 3 (2) and 2, or class counts differ.

    Example:
        >>> members = np.log([[[0.2, 0.8], [0.4, 0.6]]])
        >>> float(ProxyForwardKL(offset=1.0)(members, np.log([[3.0, 7.0]])))
        0.08264...

    Source: Ryabinin, Malinin & Gales, 2021, arXiv:2105.06987, and its code (ImageNet).
    """

    def divergence(self, alphas: tf.Tensor, proxy: tf.Tensor, precision: tf.Tensor) -> tf.Tensor:
        return _forward_kl(proxy, alphas)


@tf.custom_gradient
def _forward_kl(proxy: tf.Tensor, alphas: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    """Returns KL(Dir(proxy) ‖ Dir(alphas)), with a gradient for the student alone.

    It is what the two expect of ln π differently. By the terms of the divergence it takes twice as long.
    """

    def gradient(upstream: tf.Tensor) -> tuple[None, tf.Tensor]:
        slope = dirichlet.expected_log_probs(alphas) - dirichlet.expected_log_probs(proxy)
        return None, upstream[..., None] * slope

    return dirichlet.kl_divergence(proxy, alphas), gradient
