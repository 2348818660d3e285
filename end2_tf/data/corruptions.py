"""Photographic corruptions of images in five severities, after CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019).

An implementation of our own, for images of any size, grey or colour: the set's kinds and mostly its severities, not its
pixels. Numbers belong to this file, then, and not beside published ones. Glass blur, snow and frost aren't here.
"""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image
from scipy import ndimage

from end2_tf.errors import ConfigError, DataError, ShapeError, unknown

VERSION = 1  # goes into fingerprints: raise it when a change alters pixels

Kind = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "gaussian_blur",
    "motion_blur",
    "zoom_blur",
    "fog",
    "brightness",
    "contrast",
    "saturate",
    "elastic",
    "pixelate",
    "jpeg",
]
KINDS: tuple[str, ...] = get_args(Kind)
ALL = "all"

# Pixels are in [0, 1]. Lengths are in pixels of an image of 32, and grow with an image's shorter side. CIFAR-10-C's own
# values but for the kinds marked *, of which some of its steps hardly differ, or weaken: those grow evenly here, over
# about the same range.
SEVERITIES: dict[str, tuple[Any, ...]] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation
    "shot_noise": (500, 250, 100, 75, 50),  # photons of a white pixel
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),  # share of values that become 0 or 1
    "defocus_blur": (0.6, 0.75, 0.95, 1.2, 1.6),  # * radius of a disk
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),  # standard deviation
    "motion_blur": (1.0, 1.5, 2.0, 2.25, 2.5),  # * standard deviation of a half-Gaussian trail, within 45° of level
    "zoom_blur": (1.06, 1.11, 1.16, 1.21, 1.26),  # largest zoom; the mean over all from 1 on, in steps of .01
    "fog": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),  # density; how smooth (see _fog)
    "brightness": (0.05, 0.10, 0.15, 0.20, 0.30),  # added to the largest channel, the colour kept
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # factor on the distance from the image's mean colour
    "saturate": (1.5, 2.0, 2.5, 3.0, 4.0),  # * factor on the saturation, colour images only
    "elastic": (  # * shift of three points, uniform up to it; deviation of the waves; their smoothness
        (1.0, 0.2, 2.5),
        (1.25, 0.3, 2.0),
        (1.5, 0.4, 1.6),
        (1.75, 0.5, 1.3),
        (2.0, 0.6, 1.0),
    ),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # share of the pixels kept along each side
    "jpeg": (80, 65, 58, 50, 40),  # quality
}


def corrupt(images: np.ndarray, kind: str, severity: int, seed: int) -> np.ndarray:
    """Returns corrupted copies of images.

    What happens to image i follows from (seed, kind, severity, i) alone, so the first images don't depend on how many
    follow.

    Args:
        images: (n, h, w, c) uint8, c 1 or 3.
        kind: One of `KINDS`; "all" draws one of those that the images allow for each image.
        severity: 1 to 5, a column of `SEVERITIES`.
        seed: At least 0.

    Returns:
        (n, h, w, c) uint8.

    Raises:
        ConfigError: the kind, severity or seed isn't one.
        DataError: "saturate" was asked for of grey images.
        ShapeError: the images are of another form.

    Source: Hendrycks & Dietterich, ICLR 2019, arXiv:1903.12261.
    """
    _check(images)
    if kind not in (*KINDS, ALL):
        raise ConfigError(unknown("kind", kind, "a corruption", [*KINDS, ALL]))
    if severity not in range(1, 6):
        raise ConfigError(f"severity is {severity!r}. Allowed: 1, 2, 3, 4 or 5.")
    if seed < 0:
        raise ConfigError(f"seed is {seed!r}. Allowed: at least 0.")
    is_colour = images.shape[3] == 3
    if kind == "saturate" and not is_colour:
        raise DataError("saturate was asked for of grey images, which have no colour. Choose another corruption.")
    kinds = kinds_for_each(len(images), severity, seed, is_colour) if kind == ALL else [kind] * len(images)
    out = np.empty_like(images)
    for index, (image, one) in enumerate(zip(images, kinds, strict=True)):
        rng = np.random.default_rng([seed, _number(one), severity, index])
        changed = _FUNCTIONS[one](np.divide(image, 255, dtype=np.float32), SEVERITIES[one][severity - 1], rng)
        out[index] = _pixels(changed)
    return out


def kinds_for_each(num: int, severity: int, seed: int, is_colour: bool) -> list[str]:
    """Returns the kind that "all" draws for each of `num` images, uniformly from those that they allow."""
    allowed = [kind for kind in KINDS if is_colour or kind != "saturate"]
    draws = np.random.default_rng([seed, _number(ALL), severity]).random(num)
    return [allowed[int(draw * len(allowed))] for draw in draws]


def compress(images: np.ndarray, quality: int) -> np.ndarray:
    """Returns images as a JPEG file of that quality, 1 to 100, would give them back.

    The control for sets that were JPEG files once: it keeps everything but what the format loses.

    Raises:
        ConfigError: `quality` is out of range.
        ShapeError: the images aren't uint8 (n, h, w, 1 or 3).
    """
    _check(images)
    if not 1 <= quality <= 100:
        raise ConfigError(f"quality is {quality!r}. Allowed: 1 to 100.")
    out = np.empty_like(images)
    for index, image in enumerate(images):
        out[index] = _through_jpeg(image, quality)
    return out


def _check(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ShapeError(
            f"images are {images.dtype} of shape {images.shape}. Allowed: uint8 (n, height, width, channels) with 1 or "
            "3 channels."
        )


def _number(name: str) -> int:
    return zlib.crc32(name.encode())  # the same whatever kinds are added later


def _pixels(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _scale(image: np.ndarray) -> float:
    """Returns by how much lengths in pixels grow, compared with an image of 32."""
    return min(image.shape[:2]) / 32


# Each takes an image (h, w, c) float32 in [0, 1], a severity's value and a generator; values beyond [0, 1] are cut off.


def _gaussian_noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return image + deviation * rng.standard_normal(image.shape, np.float32)


def _shot_noise(image: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(image * photons) / photons


def _impulse_noise(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    uniform = rng.random(image.shape)
    return np.where(uniform < share / 2, 0, np.where(uniform < share, 1, image))


def _defocus_blur(image: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    return _filtered(image, _disk(radius * _scale(image)))


def _gaussian_blur(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    deviation *= _scale(image)
    return ndimage.gaussian_filter(image, (deviation, deviation, 0), mode="nearest")


def _motion_blur(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return _filtered(image, _trail(deviation * _scale(image), rng.uniform(-np.pi / 4, np.pi / 4)))


def _zoom_blur(image: np.ndarray, largest: float, rng: np.random.Generator) -> np.ndarray:
    height, width, _ = image.shape
    rows, columns = _zooms(height, largest), _zooms(width, largest)
    zoomed = np.einsum("zih,hwc->ziwc", rows, image, optimize=True)
    return np.einsum("ziwc,zjw->ijc", zoomed, columns, optimize=True) / len(rows)


def _fog(image: np.ndarray, settings: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Adds a cloud, noise whose amplitude falls by smoothness² an octave, and darkens to the old maximum."""
    density, smoothness = settings
    height, width, _ = image.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) * max(height, width)
    frequency[0, 0] = np.inf
    amplitude = frequency ** -(1 + 2 * np.log2(smoothness))  # a wave of the plane has an octave's share in both axes
    phases = rng.standard_normal((2, *frequency.shape))
    cloud = np.fft.irfft2(amplitude * (phases[0] + 1j * phases[1]), (height, width))
    spread = np.ptp(cloud)
    cloud = (cloud - cloud.min()) / (spread if spread > 0 else 1)
    brightest = image.max()
    return (image + density * cloud[..., None]) * (brightest / (brightest + density))


def _brightness(image: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    value = image.max(2, keepdims=True)
    brighter = np.minimum(value + added, 1)
    return np.where(value > 0, image * (brighter / np.maximum(value, 1e-6)), brighter)


def _contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    mean = image.mean((0, 1), keepdims=True)
    return mean + factor * (image - mean)


def _saturate(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    value, least = image.max(2, keepdims=True), image.min(2, keepdims=True)
    saturation = (value - least) / np.maximum(value, 1e-6)
    factor = np.minimum(factor, 1 / np.maximum(saturation, 1e-6))  # a saturation is at most 1
    return value - factor * (value - image)


def _elastic(image: np.ndarray, settings: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Samples the image where a random affine map and random waves lead; mirrored beyond the border."""
    jitter, waves, smoothness = (value * _scale(image) for value in settings)
    height, width, channels = image.shape
    centre = np.array([height - 1, width - 1]) / 2
    corners = np.array([[1, 1], [1, -1], [-1, -1]]) * (min(height, width) // 3)
    moved = np.column_stack([corners, np.ones(3)]), corners + rng.uniform(-jitter, jitter, (3, 2))
    matrix = np.linalg.solve(*moved)  # (3, 2): row and column of the source are linear in row, column and 1
    grid = np.moveaxis(np.mgrid[:height, :width], 0, 2) - centre
    noise = ndimage.gaussian_filter(rng.standard_normal((2, height, width)), (0, smoothness, smoothness))
    shifts = noise * (waves * 2 * np.sqrt(np.pi) * smoothness)  # smoothing leaves 1 / (2 √π s) of white noise
    source = np.moveaxis(grid @ matrix[:2] + matrix[2] + centre, 2, 0) + shifts
    planes = [ndimage.map_coordinates(image[..., k], source, order=1, mode="reflect") for k in range(channels)]
    return np.stack(planes, axis=2)


def _pixelate(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    height, width, _ = image.shape
    few = max(1, int(width * share)), max(1, int(height * share))
    mosaic = _picture(_pixels(image)).resize(few, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)
    return np.asarray(mosaic).reshape(image.shape) / np.float32(255)


def _jpeg(image: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    return _through_jpeg(_pixels(image), quality) / np.float32(255)


_FUNCTIONS: dict[str, Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "gaussian_blur": _gaussian_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturate": _saturate,
    "elastic": _elastic,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    _picture(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer)).reshape(image.shape)


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return ndimage.convolve(image, kernel[..., None], mode="nearest")  # leaves out the kernel's zeros


@functools.lru_cache(maxsize=64)
def _disk(radius: float) -> np.ndarray:
    """Returns the share of each pixel that a disk covers, summing to 1."""
    reach, fine = int(np.ceil(radius - 0.5)), 32
    axis = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    inside = axis[:, None] ** 2 + axis**2 <= radius**2
    kernel = inside.reshape(2 * reach + 1, fine, 2 * reach + 1, fine).sum((1, 3))
    return (kernel / kernel.sum()).astype(np.float32)


def _trail(deviation: float, angle: float) -> np.ndarray:
    """Returns a half-Gaussian along a line from the centre, each of its points spread over the four nearest pixels."""
    reach = max(1, int(np.ceil(3 * deviation)))
    steps = np.arange(reach + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3), np.float32)
    rows, columns = reach + 1 + steps * np.sin(angle), reach + 1 + steps * np.cos(angle)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    for row, column, part in (
        (top, left, (1 - down) * (1 - right)),
        (top, left + 1, (1 - down) * right),
        (top + 1, left, down * (1 - right)),
        (top + 1, left + 1, down * right),
    ):
        np.add.at(kernel, (row, column), weights * part)
    return kernel / kernel.sum()


@functools.lru_cache(maxsize=64)
def _zooms(length: int, largest: float) -> np.ndarray:
    """Returns what each place of a zoomed line takes of each place of the line, (zooms, length, length), bilinear."""
    centre = (length - 1) / 2
    factors = 1 + 0.01 * np.arange(round((largest - 1) / 0.01) + 1)
    source = centre + (np.arange(length) - centre) / factors[:, None]
    return np.maximum(0, 1 - np.abs(source[..., None] - np.arange(length))).astype(np.float32)
