"""How far one model's predictions are from another's."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import rel_entr

from end2_tf.errors import DataError, ShapeError

TINY = float(np.finfo(np.float32).tiny)  # 1.2e-38


def mean_kl(reference: Any, probs: Any) -> float:
    """Returns the mean of KL(reference ‖ probs) over inputs, in nats.

    It is what a model that predicts `probs` loses in likelihood where labels follow `reference`. Probabilities that
    float32 rounds to 0 count as its smallest normal number, so that the result is finite.

    Args:
        reference: Probabilities to be matched, (n, classes).
        probs: Another model's for the same inputs, (n, classes).

    Raises:
        ShapeError: shapes differ, or aren't that, or there are no inputs.
        DataError: a probability is NaN or below 0.
    """
    reference, probs = np.asarray(reference, np.float64), np.asarray(probs, np.float64)
    if reference.ndim != 2 or reference.size == 0 or reference.shape != probs.shape:
        raise ShapeError(
            f"reference has shape {reference.shape} and probs {probs.shape}. Allowed: (n, classes), the same for both, "
            "with 1 example and 1 class or more."
        )
    for name, values in (("reference", reference), ("probs", probs)):
        if not np.all(values >= 0):
            raise DataError(
                f"{name} has a value of {values[~(values >= 0)][0]}. Allowed: 0 or more. Pass probabilities."
            )
    return float(np.mean(np.sum(rel_entr(reference, np.maximum(probs, TINY)), axis=-1)))
