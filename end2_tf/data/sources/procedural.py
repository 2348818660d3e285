"""Images of nothing, made by a program: auxiliary inputs that need no data set.

Four kinds, in equal parts: fields of noise whose spectrum falls off as frequency^-a; dead leaves, shapes that cover one
another; strokes, lines and Bézier curves on an empty ground; single pixels. Half of them are then changed: tone curve,
darkening, black and white, a mask. Together they reach the corners that photographs don't: flat, sparse, hard-edged.

Source: noise spectra and dead leaves as training images, Baradad et al., 2021, arXiv:2106.05963.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from end2_tf.data.examples import Examples, Splits

Count = Annotated[int, Field(ge=1)]
VERSION = 1  # goes into the fingerprint: raise it when the same options give other images

Draw = Callable[[np.random.Generator, int, int], np.ndarray]
"""(generator, size, channels) → (size, size, channels) float, pixel values 0 to 255."""


def load(
    *,
    size: Annotated[int, Field(ge=8, le=256)] = 32,
    channels: Literal[1, 3] = 3,
    num: Count = 20000,
    num_test: Count = 2000,
    generator_seed: Annotated[int, Field(ge=0)] = 300,
) -> Splits:
    """Draws train with `generator_seed` and test with the next seed; there are no labels.

    Args:
        size: Height and width.
        channels: 1 grey, 3 colour.
        num: Training images; 20,000 take about 10 s at 32 pixels.
        num_test: Test images.
        generator_seed: Of NumPy's generator.
    """
    return Splits(
        train=Examples(generate(num, size, channels, generator_seed)),
        test=Examples(generate(num_test, size, channels, generator_seed + 1)),
    )


def fingerprint(**options: Any) -> str:
    """Returns the digest of the options, which decide every pixel."""
    return hashlib.sha256(json.dumps(["procedural", VERSION, options], sort_keys=True).encode()).hexdigest()


def generate(num: int, size: int, channels: int, seed: int) -> np.ndarray:
    """Returns (num, size, size, channels) uint8 images."""
    rng = np.random.default_rng(seed)
    images = np.empty((num, size, size, channels), np.uint8)
    for index in range(num):
        image = DRAWS[index % len(DRAWS)](rng, size, channels)
        if rng.random() < 0.5:
            image = _change(rng, image)
        images[index] = np.rint(np.clip(image, 0, 255))
    return images


def _field(rng: np.random.Generator, size: int, channels: int) -> np.ndarray:
    """Returns noise of mean 0 and deviation 1 whose amplitudes fall off as frequency^-a, a from 0 (white) to 2.5."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij"))
    frequency[0, 0] = 1 / size
    white = np.fft.rfft2(rng.standard_normal((channels, size, size)))
    noise = np.fft.irfft2(white / frequency ** rng.uniform(0, 2.5), s=(size, size))
    noise -= noise.mean((1, 2), keepdims=True)
    return (noise / (noise.std((1, 2), keepdims=True) + 1e-9)).transpose(1, 2, 0)


def noise(rng: np.random.Generator, size: int, channels: int) -> np.ndarray:
    """A field of noise around a level, with a contrast."""
    return rng.uniform(0, 255, channels) + _field(rng, size, channels) * rng.uniform(20, 120)


def leaves(rng: np.random.Generator, size: int, channels: int) -> np.ndarray:
    """Up to 40 ellipses, rectangles and polygons that cover one another; drawn at twice the size."""
    ground = _colour(rng, channels) if rng.random() < 0.5 else (0,) * channels
    canvas, pen = _canvas(2 * size, channels, ground)
    for _ in range(int(rng.integers(1, 40))):
        radius = rng.uniform(0.03, 0.36) * 2 * size
        other = radius * rng.uniform(0.3, 1)
        x, y = rng.uniform(0, 2 * size, 2)
        box = [x - radius, y - other, x + radius, y + other]
        shape = rng.integers(3)
        if shape == 0:
            pen.ellipse(box, fill=_colour(rng, channels))
        elif shape == 1:
            pen.rectangle(box, fill=_colour(rng, channels))
        else:
            corners = np.array([x, y]) + rng.uniform(-radius, radius, (int(rng.integers(3, 6)), 2))
            pen.polygon([tuple(corner) for corner in corners], fill=_colour(rng, channels))
    return _reduced(canvas, size)


def strokes(rng: np.random.Generator, size: int, channels: int) -> np.ndarray:
    """Up to 6 bent lines on black; drawn at three times the size."""
    canvas, pen = _canvas(3 * size, channels, (0,) * channels)
    for _ in range(int(rng.integers(1, 7))):
        points = rng.uniform(0.05, 0.95, (int(rng.integers(2, 6)), 2)) * 3 * size
        line = _bezier(points) if rng.random() < 0.7 else points
        width = int(rng.integers(2, max(3, size // 2)))
        pen.line([tuple(p) for p in line], fill=_colour(rng, channels, 100), width=width, joint="curve")
    return _reduced(canvas, size)


def pixels(rng: np.random.Generator, size: int, channels: int) -> np.ndarray:
    """Pixels without neighbours: uniform, normal, or a few lit ones on black."""
    shape, kind = (size, size, channels), rng.integers(3)
    if kind == 0:
        return rng.uniform(0, rng.uniform(50, 255), shape)
    if kind == 1:
        return rng.normal(rng.uniform(0, 255), rng.uniform(10, 120), shape)
    return (rng.random((size, size, 1)) < rng.uniform(0.02, 0.5)) * rng.uniform(50, 255, channels)


DRAWS: tuple[Draw, ...] = (noise, leaves, strokes, pixels)


def _change(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    image, kind = np.clip(image, 0, 255), rng.integers(4)
    if kind == 0:
        return 255 * (image / 255) ** rng.uniform(0.4, 2.5)
    if kind == 1:
        return image * rng.uniform(0.2, 1)
    if kind == 2:
        return 255.0 * (image > rng.uniform(40, 215))
    mask = _field(rng, image.shape[0], 1)
    return image * (mask > np.quantile(mask, rng.uniform(0.2, 0.8)))


def _colour(rng: np.random.Generator, channels: int, darkest: int = 0) -> tuple[int, ...]:
    return tuple(int(c) for c in rng.integers(darkest, 256, channels))


def _canvas(size: int, channels: int, ground: tuple[int, ...]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("L" if channels == 1 else "RGB", (size, size), ground[0] if channels == 1 else ground)
    return canvas, ImageDraw.Draw(canvas)


def _reduced(canvas: Image.Image, size: int) -> np.ndarray:
    array = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float64)
    return array if array.ndim == 3 else array[..., None]


def _bezier(points: np.ndarray) -> np.ndarray:
    """Returns 20 points of the Bézier curve of these, by de Casteljau's construction."""
    t = np.linspace(0, 1, 20)[:, None, None]
    rows = np.repeat(points[None], 20, axis=0)
    while rows.shape[1] > 1:
        rows = (1 - t) * rows[:, :-1] + t * rows[:, 1:]
    return rows[:, 0]
