"""Three spiral arms in the plane: the toy data of the EnD² paper, with their true posterior.

Class k of three, U uniform: t = 6π√U, φ = 2πk/3, x = -cos(t+φ)t² + σN, y = sin(t+φ)t² + σN, σ = noise·t^1.5. The arms
touch at their ends the more the larger the noise: the Bayes error is near 0 at .1, 2 % at .25 and 12 % at .4.

Source: Malinin, Mlodozeniec & Gales, ICLR 2020, and the generator in KaosEngineer/PriorNetworks.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from end2_tf.data.examples import Examples, Splits

NUM_CLASSES = 3
_NUM_CALIBRATION = 2000
_T_MAX = 6 * np.pi
_MIN_NOISE = 0.02  # below, quadrature takes thousands of nodes to find that classes don't overlap
_CHUNK = 1024  # points; times 3 classes times about 400 nodes are 10 MB
_PER_PANEL = 10  # Gauss-Legendre nodes for each _PANEL standard deviations along the arm
_PANEL = 3.0

Count = Annotated[int, Field(ge=1)]


def load(
    *,
    num_per_class: Count = 1000,
    num_validation_per_class: Count = 1000,
    num_test_per_class: Count = 10000,
    num_calibration_per_class: Count = _NUM_CALIBRATION,
    noise: Annotated[float, Field(ge=0, le=10)] = 0.4,
    generator_seed: Annotated[int, Field(ge=0, le=2**32 - 4)] = 100,
) -> Splits:
    """Draws the splits with seeds from `generator_seed` on; the same ones in every experiment.

    Args:
        num_per_class: Training points in each class.
        num_validation_per_class: Validation points in each class.
        num_test_per_class: Test points in each class.
        num_calibration_per_class: Points for calibration in each class.
        noise: Of a point at radius t², in units of t^1.5.
        generator_seed: Of NumPy's legacy generator, which the authors' data come from.
    """
    sizes = (num_per_class, num_validation_per_class, num_test_per_class, num_calibration_per_class)
    train, validation, test, calibration = (generate(num, noise, generator_seed + i) for i, num in enumerate(sizes))
    known = functools.partial(posterior, noise=noise) if noise >= _MIN_NOISE else None
    return Splits(train, validation, test, tuple(f"arm {k + 1}" for k in range(NUM_CLASSES)), known, calibration)


def fingerprint(**options: Any) -> str:
    """Returns the digest of the options, which decide every point."""
    if options.get("num_calibration_per_class") == _NUM_CALIBRATION:
        del options["num_calibration_per_class"]  # the digest is that of versions which knew none
    return hashlib.sha256(json.dumps(["spirals", options], sort_keys=True).encode()).hexdigest()


def generate(num_per_class: int, noise: float, seed: int) -> Examples:
    """Draws points class by class, as the authors do: for each class the place on the arm, then both deviations."""
    rng = np.random.RandomState(seed)
    inputs = np.empty((NUM_CLASSES, num_per_class, 2), np.float32)
    for k in range(NUM_CLASSES):
        t = _T_MAX * np.sqrt(rng.rand(num_per_class, 1))
        spread = noise * t**1.5
        inputs[k, :, :1] = -np.cos(t + _phase(k)) * t**2 + rng.randn(num_per_class, 1) * spread
        inputs[k, :, 1:] = np.sin(t + _phase(k)) * t**2 + rng.randn(num_per_class, 1) * spread
    return Examples(inputs.reshape(-1, 2), np.repeat(np.arange(NUM_CLASSES), num_per_class))


def posterior(inputs: np.ndarray, *, noise: float) -> np.ndarray:
    """Returns the true class probabilities of points.

    A class's density is the mean over U of N(x; μ(t), σ(t)²I), with its factor 1/σ(t)²: without it, probabilities are
    off by up to .19 at noise .25. The mean is taken by Gauss-Legendre quadrature.

    Args:
        inputs: Points, (n, 2).
        noise: The generator's, at least .02.

    Returns:
        (n, 3) float64; rows sum to 1.
    """
    weights = _quadrature(noise)
    probs = np.empty((len(inputs), NUM_CLASSES))
    for start in range(0, len(inputs), _CHUNK):
        points = np.asarray(inputs[start : start + _CHUNK], np.float64)
        terms = np.column_stack([np.ones(len(points)), points, (points**2).sum(1)])
        logs = (terms @ weights).reshape(len(points), NUM_CLASSES, -1)
        logs -= logs.max((1, 2), keepdims=True)
        density = np.exp(logs, out=logs).sum(2)
        probs[start : start + _CHUNK] = density / density.sum(1, keepdims=True)
    return probs


def _phase(k: int) -> float:
    return 2 * np.pi * k / NUM_CLASSES


@functools.lru_cache(maxsize=8)
def _quadrature(noise: float) -> np.ndarray:
    """Returns (4, 3·nodes): the log of each node's weighted density is linear in 1, x, y and x² + y².

    The integrand along t is a bump σ(t)/|μ'(t)| wide around the arm's passages near the point. Panels are a few such
    widths, and near t = 0, where 1/σ² diverges, a fixed share of t.
    """
    edges = [_T_MAX]
    while edges[-1] > 1e-7:
        t = edges[-1]
        width = min(_PANEL * noise * np.sqrt(t / (4 + t**2)), 0.6 * t)
        edges.append(t - width)
    upper, lower = np.array(edges[:-1]), np.array(edges[1:])
    nodes, shares = np.polynomial.legendre.leggauss(_PER_PANEL)
    half = (upper - lower)[:, None] / 2
    t = ((upper + lower)[:, None] / 2 + half * nodes).ravel()
    share = (half * shares).ravel() * 2 * t / _T_MAX**2  # dU = 2t dt / (6π)²
    precision = 1 / (noise**2 * t**3)
    weights = np.empty((4, NUM_CLASSES, len(t)))
    for k in range(NUM_CLASSES):
        mean = np.stack([-np.cos(t + _phase(k)) * t**2, np.sin(t + _phase(k)) * t**2])
        weights[0, k] = np.log(share * precision) - precision * t**4 / 2  # |μ|² = t⁴
        weights[1:3, k] = mean * precision
        weights[3, k] = -precision / 2
    return weights.reshape(4, -1)
