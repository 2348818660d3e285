"""A Gaussian over logits: the head of logit-based distribution distillation."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from end2_tf import uncertainty
from end2_tf.errors import ConfigError
from end2_tf.heads._base import Head

# Standard deviations of .007, which moves no measure by more than 5e-5, to 150, where every draw is nearly one-hot.
MIN_LOG_VARIANCE = -10.0
MAX_LOG_VARIANCE = 10.0

_CHUNK_ELEMENTS = 2**22  # of NumPy draws at a time


@tf.custom_gradient
def bounded_log_variance(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Returns the logarithm of the variance that raw outputs stand for, within bounds.

    Gradients pass, except those that push further out: a plain clip would hold a student outside for ever.
    """

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        upwards = tf.where(values < MIN_LOG_VARIANCE, tf.minimum(upstream, 0.0), upstream)
        return tf.where(values > MAX_LOG_VARIANCE, tf.maximum(upstream, 0.0), upwards)

    return tf.clip_by_value(values, MIN_LOG_VARIANCE, MAX_LOG_VARIANCE), gradient


@keras.saving.register_keras_serializable("end2_tf")
class LogitGaussianHead(Head):
    """Reads outputs as mean and ln variance of independent Gaussian logits.

    Measures have no closed form. They are those of an ensemble of draws that are the same for every input, in pairs of
    opposite sign and of the exact variance, so that one input has one answer and the mean logits are exactly the
    draws' own. Or, without draws, the probit approximation: softmax(mean / √(1 + π · variance / 8)), which splits
    nothing.

    Args:
        draws: How many, an even number; 0 for the probit approximation. Defaults to 100.
        dtype: float32 (also under mixed precision) or float64. Defaults to float32.

    Call arguments:
        logits: (batch, 2 · classes): the means, then the logarithms of the variances, kept in [-10, 10].

    Returns:
        A dict: `probs`, `logits`, the mean logits, `logit_variance`, (batch, classes); `total_uncertainty` and, with
        draws, `data_uncertainty`, `knowledge_uncertainty`, nats, (batch,).

    Raises:
        ConfigError: `draws` is odd or negative, or `dtype` is a half precision.
        ShapeError: logits aren't (batch, 2 · classes).

    Source: Fathullah, Xia & Gales, UAI 2023, arXiv:2305.10384; the approximation is MacKay's, 1992, class by class.
    """

    outputs_per_class: ClassVar[str] = "two units a class"

    def __init__(self, draws: int = 100, *, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(dtype=dtype, **kwargs)
        if draws < 0 or draws % 2:
            raise ConfigError(
                f"LogitGaussianHead's draws is {draws!r}. Allowed: an even number, or 0 for the probit approximation. "
                "Use 100."
            )
        self.draws = int(draws)

    @property
    def measure_names(self) -> tuple[str, ...]:
        return super().measure_names if self.draws else ("total_uncertainty",)

    def num_outputs(self, num_classes: int) -> int:
        return 2 * num_classes

    def num_classes(self, num_outputs: int) -> int:
        return 0 if num_outputs % 2 else num_outputs // 2

    def parameters(self, logits: Any) -> dict[str, Any]:
        mean, log_variance = tf.split(logits, 2, axis=-1)
        return {"logits": mean, "logit_variance": tf.exp(bounded_log_variance(log_variance))}

    def measures(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        mean, variance = outputs["logits"], outputs["logit_variance"]
        if tf.is_tensor(mean):
            return self._measures(mean, variance)
        size = max(1, _CHUNK_ELEMENTS // (max(self.draws, 1) * mean.shape[-1]))
        starts = range(0, max(len(mean), 1), size)
        parts = [self._measures(*(tf.constant(a[i : i + size]) for a in (mean, variance))) for i in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _measures(self, mean: tf.Tensor, variance: tf.Tensor) -> dict[str, tf.Tensor]:
        if self.draws:
            return uncertainty.from_members(self.drawn_logits(mean, variance))
        return uncertainty.from_probs(tf.nn.softmax(_probit(mean, variance)))

    def drawn_logits(self, mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
        """Returns the draws, (batch, draws, classes), of mean and variance (batch, classes)."""
        noise = tf.constant(_noise(self.draws, mean.shape[-1]), mean.dtype)
        return mean[..., None, :] + tf.sqrt(variance)[..., None, :] * noise

    def log_probs(self, outputs: Mapping[str, Any]) -> tf.Tensor:
        mean, variance = outputs["logits"], outputs["logit_variance"]
        if not self.draws:
            return tf.nn.log_softmax(_probit(mean, variance))
        log_probs = tf.nn.log_softmax(self.drawn_logits(tf.convert_to_tensor(mean), tf.convert_to_tensor(variance)))
        return tf.reduce_logsumexp(log_probs, axis=-2) - math.log(self.draws)

    def distribution(self, outputs: Mapping[str, Any]) -> Any:
        """Returns the Gaussian, over logits: predictions are the softmax of its samples."""
        import tensorflow_probability as tfp  # takes 2 s, and few need it

        return tfp.distributions.MultivariateNormalDiag(outputs["logits"], tf.sqrt(outputs["logit_variance"]))

    def parameter_shapes(self, batch: int | None, num_classes: int) -> dict[str, tuple[int | None, ...]]:
        return dict.fromkeys(("logits", "logit_variance"), (batch, num_classes))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "draws": self.draws}


def _probit(mean: Any, variance: Any) -> tf.Tensor:
    return mean / tf.sqrt(1 + math.pi / 8 * variance)


@functools.lru_cache(maxsize=8)
def _noise(draws: int, num_classes: int) -> np.ndarray:
    """Returns standard normal draws (draws, classes); NumPy never changes what this older generator gives."""
    half = np.random.RandomState(0).standard_normal((draws // 2, num_classes))
    half /= np.sqrt(np.mean(half**2, axis=0))
    return np.concatenate([half, -half])
