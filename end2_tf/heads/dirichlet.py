"""A Dirichlet distribution: the head of EnD² and of Prior Networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from end2_tf import uncertainty
from end2_tf.errors import ConfigError
from end2_tf.heads._base import Head

# Within these, alphas of 1e4 classes and their sum stay normal float32 numbers.
MIN_LOG_ALPHA = -60.0
MAX_LOG_ALPHA = 60.0


@keras.saving.register_keras_serializable("end2_tf")
class DirichletHead(Head):
    """Reads logits as a Dirichlet distribution over predictions, with its uncertainty measures.

    The last layer of a distilled student, and of a Prior Network. Networks trained for the mean alone carry nothing in
    the sum of their alphas: give those a `SoftmaxHead`.

    Args:
        offset: Added to exp(logits) to give alphas, at least 0; the loss's own. With 0, probs are softmax(logits).
        dtype: float32 (also under mixed precision) or float64. Defaults to float32.

    Call arguments:
        logits: (batch, classes), any finite values. Where the largest exceeds 60, all are lowered by the same amount,
            which keeps the mean; alphas below exp(-60) are raised to it.

    Returns:
        A dict: `probs`, `alphas`, `logits`, (batch, classes); `total_uncertainty`, `data_uncertainty`,
        `knowledge_uncertainty`, nats, (batch,).

    Raises:
        ConfigError: `offset` is negative, or `dtype` is a half precision.
        ShapeError: logits aren't (batch, classes).

    Example:
        >>> head = DirichletHead()
        >>> float(head(np.log([[2.0, 3.0, 5.0]]))["knowledge_uncertainty"][0])
        0.09235...

    Source: Malinin, Mlodozeniec & Gales, ICLR 2020 (offset 0); Ryabinin, Malinin & Gales, 2021 (offset 1).
    """

    def __init__(self, offset: float = 0.0, *, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(dtype=dtype, **kwargs)
        if not offset >= 0:
            raise ConfigError(
                f"DirichletHead's offset is {offset!r}. Allowed: at least 0. Use the loss's own, mostly 0 or 1."
            )
        self.offset = float(offset)

    def parameters(self, logits: Any) -> dict[str, Any]:
        excess = tf.nn.relu(tf.reduce_max(logits, axis=-1, keepdims=True) - MAX_LOG_ALPHA)
        return {"alphas": tf.exp(tf.maximum(logits - excess, MIN_LOG_ALPHA)) + self.offset, "logits": logits}

    def measures(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        return uncertainty.from_alphas(outputs["alphas"])

    def log_probs(self, outputs: Mapping[str, Any]) -> tf.Tensor:
        log_alphas = tf.math.log(outputs["alphas"])
        return log_alphas - tf.reduce_logsumexp(log_alphas, axis=-1, keepdims=True)

    def distribution(self, outputs: Mapping[str, Any]) -> Any:
        import tensorflow_probability as tfp  # takes 2 s, and few need it

        return tfp.distributions.Dirichlet(outputs["alphas"])

    def call(self, logits: Any) -> dict[str, Any]:
        outputs = super().call(logits)
        # Below exp(-60) too, where alphas aren't.
        return outputs | {"probs": tf.nn.softmax(logits)} if self.offset == 0 else outputs

    def parameter_shapes(self, batch: int | None, num_classes: int) -> dict[str, tuple[int | None, ...]]:
        return dict.fromkeys(("alphas", "logits"), (batch, num_classes))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "offset": self.offset}
