"""S2D, self-distribution distillation: a network teaches itself how its predictions spread under noise; no ensemble."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf import dirichlet, precision
from end2_tf.errors import ConfigError, ModelError, ShapeError
from end2_tf.heads import DirichletHead, Head
from end2_tf.losses._base import bounded_alphas, float64
from end2_tf.losses._labels import labels_and_logits

ON_LABELS = True  # needs no ensemble

_SHARPNESS = 5.0  # of the softplus that keeps the teacher's alphas above 1


@keras.saving.register_keras_serializable("end2_tf")
class NoisyPasses(keras.layers.Layer):
    """Features as they are, then several times multiplied by 1 + sigma · standard normal noise.

    Args:
        num_passes: How many noisy copies.
        low, high: sigma of each example and copy is uniform in [low, high].
        seed: Of the noise.

    Call arguments:
        features: (batch, features).

    Returns:
        (batch, 1 + num_passes, features).
    """

    def __init__(self, num_passes: int, low: float, high: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_passes, self.low, self.high = num_passes, low, high
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, features: Any) -> tf.Tensor:
        shape = (tf.shape(features)[0], self.num_passes, features.shape[-1])
        sigma = keras.random.uniform(
            (*shape[:2], 1), self.low, self.high, dtype=self.compute_dtype, seed=self.seed_generator
        )
        noise = keras.random.normal(shape, dtype=self.compute_dtype, seed=self.seed_generator)
        return tf.concat([features[:, None], features[:, None] * (1 + sigma * noise)], axis=1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[0], 1 + self.num_passes, shape[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_passes": self.num_passes, "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable("end2_tf")
class SelfDistribution(keras.losses.Loss):
    """Cross-entropy of noisy passes' mean prediction, and the KL from a Dirichlet fitted to them to the network's own.

    The network is its own teacher: noise on its last features gives several predictions, to which a Dirichlet is
    fitted (their mean, and the precision of maximum likelihood); the network without noise learns that Dirichlet. The
    teacher's alphas are kept above 1 by a softplus of ln alphas, so that classes nobody predicts don't dominate. What
    is learned is how sensitive predictions are to that noise, so `high` sets the scale of knowledge uncertainty.

    Args:
        num_passes: Noisy passes a step, at least 2. Defaults to 5.
        low, high: The noise's standard deviation, relative to each feature, is uniform in [low, high] for each example
            and pass. Default to 0 and 0.5.
        weight: Of the divergence, at least 0. Defaults to 0.1.
        cap: Largest precision of the teacher. Defaults to 1e4.
        offset: Added to exp(logits) to give alphas, at least 0; the head's own. Defaults to 0.
        **kwargs: `reduction`, `name`, `dtype` as in `keras.losses.Loss`; computed in float64.

    Call arguments:
        y_true: Integer labels, (batch,) or (batch, 1); or probabilities of labels, (batch, classes), as mixup makes
            them.
        y_pred: Logits (batch, 1 + passes, classes), as `training_network` gives them: without noise, then with.

    Returns:
        Nats, (batch,) before reduction.

    Raises:
        ConfigError: an argument isn't among the allowed values.
        ShapeError: ranks are not 1 or 2 and 3, or the numbers of classes or passes differ.

    Example:
        >>> passes = np.log([[[0.5, 0.5], [0.2, 0.8], [0.4, 0.6]]])  # without noise, and two with
        >>> float(SelfDistribution(num_passes=2, weight=0.0)(np.array([1]), passes))  # -ln .7
        0.35667...

    Source: Fathullah & Gales, UAI 2022, arXiv:2203.08295.
    """

    def __init__(
        self,
        *,
        num_passes: int = 5,
        low: float = 0.0,
        high: float = 0.5,
        weight: float = 0.1,
        cap: float = 1e4,
        offset: float = 0.0,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=dtype or "float64", **kwargs)
        for name, value, is_allowed, allowed in (
            ("num_passes", num_passes, num_passes >= 2, "at least 2"),
            ("low", low, 0 <= low <= high, "0 to high"),
            ("high", high, high > 0, "above 0"),
            ("weight", weight, weight >= 0, "at least 0"),
            ("cap", cap, cap > 0, "above 0"),
            ("offset", offset, offset >= 0, "at least 0, mostly 0 or 1"),
        ):
            if not (is_allowed and np.isfinite(value)):
                raise ConfigError(f"SelfDistribution's {name} is {value!r}. Allowed: {allowed}. Give another {name}.")
        self.num_passes, self.low, self.high = int(num_passes), float(low), float(high)
        self.weight, self.cap, self.offset = float(weight), float(cap), float(offset)

    def make_head(self, dtype: Any = None) -> Head:
        """Returns the head that a network trained with this loss is published with."""
        return DirichletHead(self.offset, dtype=dtype)

    def training_network(self, network: keras.Model) -> keras.Model:
        """Returns the network to train in place of `network`, with which it shares all weights.

        Args:
            network: From raw inputs to logits (batch, classes), by a dense layer in the end.

        Returns:
            From the same inputs to (batch, 1 + passes, classes).

        Raises:
            ModelError: the network doesn't end in a dense layer.
        """
        last = network.layers[-1]
        if not isinstance(last, keras.layers.Dense):
            raise ModelError(
                f"the loss 'self_distribution' puts noise on what the last dense layer sees, but {network.name} ends "
                f"in {type(last).__name__}. Take a backbone that ends in a dense layer of logits."
            )
        passes = NoisyPasses(self.num_passes, self.low, self.high, dtype=last.compute_dtype)
        return keras.Model(network.inputs[0], last(passes(last.input)), name=network.name)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        allowed = (
            "labels (batch,) or their probabilities (batch, classes), and logits (batch, 1 + passes, classes), as "
            "training_network gives them"
        )
        y_true, y_pred = labels_and_logits("SelfDistribution", y_true, y_pred, allowed, rank=3)
        if y_pred.shape.rank == 3 and y_pred.shape[1] not in (None, 1 + self.num_passes):
            raise ShapeError(
                f"SelfDistribution got y_pred of shape {tuple(y_pred.shape)}. Allowed: 1 + num_passes = "
                f"{1 + self.num_passes} on its second axis. Build the loss with the passes that the network makes."
            )
        logits = float64(y_pred)
        labels = float64(y_true)
        if y_true.shape.rank != 2:
            labels = tf.one_hot(tf.cast(y_true, tf.int32), tf.shape(y_pred)[-1], dtype=tf.float64)
        log_probs = tf.nn.log_softmax(logits[:, 1:])
        log_mean = tf.reduce_logsumexp(log_probs, axis=1) - np.log(self.num_passes)
        cross_entropy = -tf.reduce_sum(labels * log_mean, axis=-1)
        student = bounded_alphas(logits[:, 0], self.offset)
        return cross_entropy + self.weight * dirichlet.kl_divergence(self.teacher_alphas(log_probs), student)

    def teacher_alphas(self, log_probs: tf.Tensor) -> tf.Tensor:
        """Returns the Dirichlet fitted to log-probabilities (batch, passes, classes), above 1; no gradient flows."""
        mean, alpha0 = precision.from_members(tf.stop_gradient(log_probs), "exact", self.cap)
        log_alphas = tf.math.log(tf.maximum(mean, np.finfo(np.float64).tiny)) + tf.math.log(alpha0)[:, None]
        return tf.stop_gradient(tf.exp(tf.nn.softplus(_SHARPNESS * log_alphas) / _SHARPNESS))

    def get_config(self) -> dict[str, Any]:
        names = ("num_passes", "low", "high", "weight", "cap", "offset")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
