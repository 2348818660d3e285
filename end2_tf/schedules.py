"""Learning rate and temperature as pure functions of the step, so that a resumed training goes on exactly.

NumPy only. Every function of the step takes one step or an array of steps, counted from 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from end2_tf.errors import ConfigError, unknown

LEARNING_RATES = ("constant", "cosine", "one_cycle")
TEMPERATURES = ("constant", "anneal")
PEAK = 10.0  # of one_cycle, in units of the base rate
FINAL_RATE = 1e-6  # of one_cycle, where the base rate isn't lower


def learning_rate(
    kind: str, base: float, step: ArrayLike, num_steps: int, cycle: float = 2 / 3, floor: float = 0.0
) -> NDArray[np.float64]:
    """Returns the learning rate at a step.

    Args:
        kind: `constant`; `cosine`, half a period from `base` to `floor` of it at `num_steps`; or `one_cycle`, linear
            from `base` to 10·`base` over half the cycle, back over the other half, then linear to 1e-6 at `num_steps`.
        base: Learning rate at step 0, above 0.
        step: Steps done so far; any shape. Beyond `num_steps` the last value holds.
        num_steps: Length of the training, in steps.
        cycle: one_cycle's share of the training, in [0, 1].
        floor: cosine's last value, as a share of `base`, in [0, 1].

    Returns:
        Float64 of `step`'s shape.

    Raises:
        ConfigError: `kind` is unknown.

    Source: one_cycle is the schedule published with Prior Networks and EnD² (Malinin & Gales, NeurIPS 2018), here per
    step instead of per epoch.
    """
    if kind not in LEARNING_RATES:
        raise ConfigError(unknown("schedule", kind, "a learning rate schedule", LEARNING_RATES))
    position = np.clip(np.asarray(step, np.float64), 0, num_steps)
    if kind == "constant":
        return np.full_like(position, base)[()]
    if kind == "cosine":
        return (base * (floor + (1 - floor) * 0.5 * (1 + np.cos(np.pi * _ratio(position, num_steps)))))[()]
    end = cycle * num_steps
    peak = PEAK * base
    rising = base + (peak - base) * _ratio(position, end / 2)
    falling = peak + (base - peak) * _ratio(position - end / 2, end / 2)
    closing = base + (min(FINAL_RATE, base) - base) * _ratio(position - end, num_steps - end)
    return np.where(position < end / 2, rising, np.where(position < end, falling, closing))[()]


def temperature(kind: str, t0: float, step: ArrayLike, num_steps: int, cycle: float = 2 / 3) -> NDArray[np.float64]:
    """Returns the distillation temperature at a step.

    Annealing helps EnD² to start: at a high temperature members agree more and every class carries gradient. Its end
    matters as much, since alphas mean what they say only at temperature 1.

    Args:
        kind: `constant`, `t0` throughout; or `anneal`, `t0` for the first half of the cycle, linear to 1 over the
            second half, then 1.
        t0: Temperature at step 0, at least 1.
        step: Steps done so far; any shape.
        num_steps: Length of the training, in steps.
        cycle: Share of the training over which to anneal, in [0, 1].

    Returns:
        Float64 of `step`'s shape.

    Raises:
        ConfigError: `kind` is unknown.

    Source: Malinin, Mlodozeniec & Gales, ICLR 2020. That T0 is 10, and the cycle two thirds of the training, is from a
    reproduction (lennelov/endd-reproduce).
    """
    if kind not in TEMPERATURES:
        raise ConfigError(unknown("temperature_schedule", kind, "a temperature schedule", TEMPERATURES))
    position = np.asarray(step, np.float64)
    if kind == "constant":
        return np.full_like(position, t0)[()]
    end = cycle * num_steps
    falling = t0 + (1 - t0) * np.clip(_ratio(position - end / 2, end / 2), 0, 1)
    return np.where(position < end, falling, 1.0)[()]


def temperature_levels(t0: float, num_levels: int, kind: str = "anneal") -> NDArray[np.float64]:
    """Returns the temperatures that a training uses, from `t0` down to 1.

    The teacher's statistics are computed once per temperature, so the schedule must take few values. They are spaced
    by a constant factor: a student's alpha0 grows with temperature squared, and a jump near 1 hurts most.

    Args:
        t0: Temperature at the start, at least 1.
        num_levels: How many values, at least 1.
        kind: The schedule. A constant one needs `t0` alone.

    Returns:
        Float64 (levels,), descending, first `t0` and last 1; `(t0,)` alone where nothing is annealed.
    """
    if kind == "constant" or t0 == 1 or num_levels == 1:
        return np.array([t0], np.float64)
    return np.geomspace(t0, 1.0, num_levels)


def level_of(temperature: ArrayLike, levels: ArrayLike) -> NDArray[np.int64]:
    """Returns the index of the level nearest to each temperature, the hotter one where two are equally near.

    Args:
        temperature: Any shape.
        levels: As `temperature_levels` returns them.

    Returns:
        Integers of `temperature`'s shape.
    """
    distance = np.abs(np.asarray(temperature, np.float64)[..., None] - np.asarray(levels, np.float64))
    return np.argmin(distance, axis=-1)


def _ratio(numerator: ArrayLike, denominator: float) -> NDArray[np.float64]:
    """Divides; a phase of no length counts as not begun, since no step falls into it."""
    return np.asarray(numerator, np.float64) / denominator if denominator > 0 else np.zeros_like(numerator, np.float64)
