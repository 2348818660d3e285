"""Stripes: sinusoidal and square gratings, for OOD sets whose kind no auxiliary set has.

An image is a wave of random direction, frequency, phase, contrast and mean; every other one is cut into two tones.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from end2_tf.data.examples import Examples, Splits

Count = Annotated[int, Field(ge=1)]
VERSION = 1  # goes into the fingerprint: raise it when the same options give other images
CYCLES = (1.0, 8.0)  # an image's width at 16 pixels or more; the logarithm is uniform


def load(
    *,
    size: Annotated[int, Field(ge=8, le=256)] = 32,
    channels: Literal[1, 3] = 3,
    num: Count = 2000,
    num_test: Count = 2000,
    generator_seed: Annotated[int, Field(ge=0)] = 400,
) -> Splits:
    """Draws train with `generator_seed` and test with the next seed; there are no labels.

    Args:
        size: Height and width.
        channels: 1 grey, 3 colour.
        num: Training images.
        num_test: Test images.
        generator_seed: Of NumPy's generator.
    """
    return Splits(
        train=Examples(generate(num, size, channels, generator_seed)),
        test=Examples(generate(num_test, size, channels, generator_seed + 1)),
    )


def fingerprint(**options: Any) -> str:
    """Returns the digest of the options, which decide every pixel."""
    return hashlib.sha256(json.dumps(["gratings", VERSION, options], sort_keys=True).encode()).hexdigest()


def generate(num: int, size: int, channels: int, seed: int) -> np.ndarray:
    """Returns (num, size, size, channels) uint8 images; those of even numbers are sinusoidal, the others square."""
    rng = np.random.default_rng(seed)
    most = min(CYCLES[1], size / 2.5)  # from 2 pixels a cycle on, a wave looks like another one
    images = np.empty((num, size, size, channels), np.uint8)
    for index in range(num):
        wave = _wave(size, rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(CYCLES[0]), np.log(most))), rng.random())
        if index % 2:
            wave = np.where(wave < 0, -1.0, 1.0)
        contrast = rng.uniform(0.2, 1)  # half the swing, as a share of the largest that fits
        colour = rng.uniform(0.5, 1, channels) if channels > 1 else np.ones(1)
        swing = 127.5 * contrast * colour
        mean = swing + rng.random() * (255 - 2 * swing)
        images[index] = np.rint(mean + wave[..., None] * swing)
    return images


def _wave(size: int, direction: float, cycles: float, phase: float) -> np.ndarray:
    """Returns (size, size) values in [-1, 1] of a plane wave.

    Args:
        size: Height and width, pixels.
        direction: In which it changes, radians from the horizontal.
        cycles: Over the width, along its direction.
        phase: In cycles.
    """
    y, x = np.mgrid[:size, :size] / size
    return np.sin(2 * np.pi * (cycles * (x * np.cos(direction) + y * np.sin(direction)) + phase))
