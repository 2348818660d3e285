"""A noisy circle in the plane, around the spirals: auxiliary inputs and OOD set of the EnD² paper's toy experiment.

x = radius · v/|v| + noise · N(0, I), v from N(0, I). Source: as of `spirals`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from end2_tf.data.examples import Examples, Splits

Count = Annotated[int, Field(ge=1)]


def load(
    *,
    radius: Annotated[float, Field(gt=0)] = 410.0,
    noise: Annotated[float, Field(ge=0)] = 1.0,
    num: Count = 1000,
    num_test: Count = 10000,
    generator_seed: Annotated[int, Field(ge=0, le=2**32 - 2)] = 200,
) -> Splits:
    """Draws train with `generator_seed` and test with the next seed; there are no labels.

    Args:
        radius: Of the circle; the spirals reach to 355.
        noise: Standard deviation on each axis.
        num: Training points.
        num_test: Test points.
        generator_seed: Of NumPy's legacy generator.
    """
    return Splits(
        train=generate(num, radius, noise, generator_seed), test=generate(num_test, radius, noise, generator_seed + 1)
    )


def fingerprint(**options: Any) -> str:
    """Returns the digest of the options, which decide every point."""
    return hashlib.sha256(json.dumps(["ring", options], sort_keys=True).encode()).hexdigest()


def generate(num: int, radius: float, noise: float, seed: int) -> Examples:
    """Draws all directions, then all deviations."""
    rng = np.random.RandomState(seed)
    directions = rng.randn(num, 2)
    points = radius * directions / np.linalg.norm(directions, axis=1, keepdims=True) + noise * rng.randn(num, 2)
    return Examples(points.astype(np.float32))
