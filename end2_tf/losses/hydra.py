"""Hydra: a shared body with a head for each member, which that head imitates."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from end2_tf.errors import ConfigError, ShapeError
from end2_tf.heads import Head, HydraHead
from end2_tf.losses._base import DistillationLoss, float64


@keras.saving.register_keras_serializable("end2_tf")
class Hydra(DistillationLoss):
    """Mean KL divergence of each head's prediction from that of the member it imitates, both tempered.

    The student keeps the members themselves, not a distribution fitted to them, so it can say anything that an ensemble
    can; it costs M · K outputs, and a transfer set as large as the members' logits.

    Args:
        num_members: M, how many members there are to imitate. In an experiment it is known.
        num_heads: Imitate the first so many members only; None for all.
        scale_by_temperature: Whether to multiply by temperature squared, which keeps gradients of one size over
            temperatures. Defaults to True.
        targets, temperature, offset, **kwargs: See `DistillationLoss`; `offset` must be 0, as there are no alphas.

    Call arguments:
        y_true: Members' logits, (batch, members, classes); or their tempered probabilities, (batch, heads · classes).
        y_pred: The student's logits, (batch, heads · classes), those of the first head first.

    Returns:
        Nats (times temperature squared), at least 0, (batch,) before reduction.

    Raises:
        ConfigError: fewer than one head, more heads than members, or `offset` isn't 0.
        ShapeError: ranks are not 3 (2) and 2, or counts of members or classes differ.

    Example:
        >>> members = np.log([[[0.5, 0.5], [0.2, 0.8]]])
        >>> float(Hydra(num_members=2)(members, np.log([[0.5, 0.5, 0.5, 0.5]])))  # half of KL(second ‖ uniform)
        0.09637...

    Source: Tran et al., 2020, arXiv:2001.04694.
    """

    def __init__(
        self,
        num_members: int,
        *,
        num_heads: int | None = None,
        scale_by_temperature: bool = True,
        targets: str = "members",
        temperature: float = 1.0,
        offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(targets=targets, temperature=temperature, offset=offset, **kwargs)
        if offset != 0:
            raise ConfigError(f"Hydra's offset is {offset!r}, but there are no alphas. Allowed: 0. Leave it out.")
        if num_heads is not None and not 1 <= num_heads <= num_members:
            raise ConfigError(
                f"Hydra's num_heads is {num_heads!r}. Allowed: 1 to {num_members}, as many as there are members, or "
                "none for all. Give another number."
            )
        self.num_members, self.num_heads = num_members, num_heads
        self._heads = num_heads or num_members
        self.scale_by_temperature = scale_by_temperature

    def make_head(self, dtype: Any = None) -> Head:
        return HydraHead(self._heads, dtype=dtype)

    @property
    def tempers_alphas(self) -> bool:
        return False

    def statistics_size(self, num_classes: int) -> int:
        return self._heads * num_classes

    def reduce_log_probs(self, log_probs: tf.Tensor) -> tf.Tensor:
        if log_probs.shape[-2] not in (None, self.num_members):
            raise ShapeError(
                f"Hydra got logits of {log_probs.shape[-2]} members. Allowed: num_members, {self.num_members}. Build "
                "the loss with as many as the ensemble has."
            )
        probs = tf.exp(log_probs[..., : self._heads, :])
        shape = tf.shape(probs)
        flat = tf.reshape(probs, tf.concat([shape[:-2], [shape[-2] * shape[-1]]], axis=0))
        return tf.ensure_shape(flat, (*probs.shape[:-2], self.statistics_size(log_probs.shape[-1])))

    def from_statistics(self, statistics: tf.Tensor, logits: tf.Tensor, temperature: Any) -> tf.Tensor:
        temperature = float64(temperature)
        shape = (-1, self._heads, logits.shape[-1] // self._heads)
        probs = tf.reshape(float64(statistics), shape)
        log_probs = tf.nn.log_softmax(tf.reshape(float64(logits), shape) / temperature)
        divergence = tf.reduce_sum(tf.math.xlogy(probs, probs) - probs * log_probs, axis=-1)
        values = tf.reduce_mean(divergence, axis=-1)
        return values * temperature**2 if self.scale_by_temperature else values

    def get_config(self) -> dict[str, Any]:
        own = {"num_members": self.num_members, "num_heads": self.num_heads}
        return {**super().get_config(), **own, "scale_by_temperature": self.scale_by_temperature}
