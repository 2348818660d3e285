"""One head a member: the head of Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from end2_tf import uncertainty
from end2_tf.errors import ConfigError
from end2_tf.heads._base import Head


@keras.saving.register_keras_serializable("end2_tf")
class HydraHead(Head):
    """Reads outputs as the logits of several imitated members; measures are those of an ensemble of them.

    Args:
        num_heads: M, at least 1.
        dtype: float32 (also under mixed precision) or float64. Defaults to float32.

    Call arguments:
        logits: (batch, heads · classes), those of the first head first.

    Returns:
        A dict: `probs` (batch, classes), the heads' mean; `logits` (batch, heads, classes); `total_uncertainty`,
        `data_uncertainty`, `knowledge_uncertainty`, nats, (batch,).

    Raises:
        ConfigError: `num_heads` is below 1, or `dtype` is a half precision.
        ShapeError: logits aren't (batch, heads · classes).

    Example:
        >>> head = HydraHead(num_heads=2)
        >>> head(np.log([[0.7, 0.3, 0.5, 0.5]]))["probs"].numpy().round(6).tolist()
        [[0.6..., 0.4...]]

    Source: Tran et al., 2020, arXiv:2001.04694.
    """

    outputs_per_class: ClassVar[str] = "heads · classes units"

    def __init__(self, num_heads: int, *, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(dtype=dtype, **kwargs)
        if num_heads < 1:
            raise ConfigError(f"HydraHead's num_heads is {num_heads!r}. Allowed: at least 1. Use one a member.")
        self.num_heads = int(num_heads)

    def num_outputs(self, num_classes: int) -> int:
        return self.num_heads * num_classes

    def num_classes(self, num_outputs: int) -> int:
        return 0 if num_outputs % self.num_heads else num_outputs // self.num_heads

    def parameters(self, logits: Any) -> dict[str, Any]:
        num_classes = self.num_classes(int(logits.shape[-1]))
        return {"logits": tf.reshape(logits, (-1, self.num_heads, num_classes))}

    def measures(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        return uncertainty.from_members(outputs["logits"])

    def log_probs(self, outputs: Mapping[str, Any]) -> tf.Tensor:
        log_probs = tf.nn.log_softmax(outputs["logits"])
        return tf.reduce_logsumexp(log_probs, axis=-2) - np.log(self.num_heads)

    def distribution(self, outputs: Mapping[str, Any]) -> Any:
        """Returns the heads' predictions, each as probable as another."""
        import tensorflow_probability as tfp  # takes 2 s, and few need it

        return tfp.distributions.Empirical(tf.nn.softmax(outputs["logits"]), event_ndims=1)

    def parameter_shapes(self, batch: int | None, num_classes: int) -> dict[str, tuple[int | None, ...]]:
        return {"logits": (batch, self.num_heads, num_classes)}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads}
