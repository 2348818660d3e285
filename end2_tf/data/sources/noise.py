"""Pixels drawn one by one, uniform or Gaussian: the OOD sets that any detector should find.

Uniform pixels are whole numbers from 0 to 255. Gaussian ones have a mean and a standard deviation in pixel values and
are clipped to that range; by default they are those of ODIN (Liang, Li & Srikant, ICLR 2018): mean .5 and deviation 1
in units of 255, so that three pixels in five are clipped.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from end2_tf.data.examples import Examples, Splits
from end2_tf.errors import ConfigError

Count = Annotated[int, Field(ge=1)]
VERSION = 1  # goes into the fingerprint: raise it when the same options give other images
MEAN, SD = 127.5, 255.0


def load(
    *,
    field: str,
    kind: Literal["gaussian", "uniform"] = "gaussian",
    size: Annotated[int, Field(ge=1, le=512)] = 32,
    channels: Literal[1, 3] = 3,
    mean: Annotated[float, Field(ge=0, le=255)] | None = None,
    sd: Annotated[float, Field(gt=0)] | None = None,
    num: Count = 2000,
    num_test: Count = 2000,
    generator_seed: Annotated[int, Field(ge=0)] = 500,
) -> Splits:
    """Draws train with `generator_seed` and test, of which OOD inputs are taken, with the next; there are no labels.

    Args:
        field: Where the config names this source.
        kind: Of distribution.
        size: Height and width.
        channels: 1 grey, 3 colour.
        mean: Of Gaussian pixels before they are clipped, 0 to 255; None: 127.5.
        sd: Their standard deviation; None: 255.
        num: Training images.
        num_test: Test images.
        generator_seed: Of NumPy's generator.

    Raises:
        ConfigError: uniform noise is given a mean or a deviation.
    """
    level = _level(field, kind, mean, sd)
    return Splits(
        train=Examples(generate(num, size, channels, level, generator_seed)),
        test=Examples(generate(num_test, size, channels, level, generator_seed + 1)),
    )


def fingerprint(*, field: str, kind: str, mean: float | None, sd: float | None, **options: Any) -> str:
    """Returns the digest of the options, which decide every pixel."""
    parts = ["noise", VERSION, kind, _level(field, kind, mean, sd), options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def generate(num: int, size: int, channels: int, level: tuple[float, float] | None, seed: int) -> np.ndarray:
    """Returns (num, size, size, channels) uint8 images: Gaussian of this mean and deviation, uniform without."""
    rng = np.random.default_rng(seed)
    images = np.empty((num, size, size, channels), np.uint8)
    for image in images:  # one at a time, which bounds the temporaries
        if level is None:
            image[:] = rng.integers(0, 256, image.shape, np.uint8)
        else:
            mean, sd = level
            image[:] = np.rint(np.clip(mean + sd * rng.standard_normal(image.shape), 0, 255))
    return images


def _level(field: str, kind: str, mean: float | None, sd: float | None) -> tuple[float, float] | None:
    """Returns the mean and deviation of Gaussian pixels; None for uniform ones, which have none to choose."""
    if kind == "gaussian":
        return (MEAN if mean is None else mean, SD if sd is None else sd)
    for name, value in (("mean", mean), ("sd", sd)):
        if value is not None:
            raise ConfigError(
                f"{field}.options.{name} is {value:g}, but kind is {kind!r}, whose pixels are 0 to 255. Leave it out, "
                "or set kind=gaussian."
            )
    return None
