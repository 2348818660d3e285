"""Quantities of a Dirichlet distribution that keep their digits from alpha0 = 1e-20 to 1e12, in float32 too.

Textbook formulas subtract logarithms of gamma functions that agree in nearly all digits: in float32, mutual information
has no correct digit above alpha0 = 1e6. Everything here goes through two functions instead, `u` and `w`, which hold
what digamma and log-gamma add to their leading terms. Both are computed with + - × ÷ ln only, so that eager, graph, XLA
and exported models agree.

Functions take float32 or float64 tensors and keep the dtype; alphas are positive, (..., classes). In nats. Nothing
is checked: `end2_tf.uncertainty` does that. Concentrations below 16 times the dtype's smallest normal number, about
2e-37 in float32, count as that.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)  # B2, B4, ..., B16
_U_SERIES = tuple(b / (2 * n) for n, b in enumerate(_BERNOULLI, 1))
_W_SERIES = tuple(b / (2 * n * (2 * n - 1)) for n, b in enumerate(_BERNOULLI, 1))
_CHI_SERIES = tuple((-1) ** k / k for k in range(2, 17))
_SHIFT = {tf.float32: 4, tf.float64: 8}  # from here on the series above are exact to rounding; powers of 2
_NUM_TERMS = {tf.float32: 5, tf.float64: 8}  # of which
_GAUSS_SHARE = {tf.float32: 0.1, tf.float64: 3e-3}  # below, quadrature is nearer than the difference
_NUM_POWERS = {tf.float32: 8, tf.float64: 15}  # of a power series in |δ| < 0.1
_HALF_LN_2PI = 0.5 * math.log(2 * math.pi)
_LARGE = 1e7  # u of more is 1/2 to float32's digits
_STEP = 1e-4  # of a derivative by differences, relative

_is_single = contextvars.ContextVar("_is_single", default=False)


def u(x: Any) -> tf.Tensor:
    """Returns u(x) = x (ψ(x+1) - ln x), which rises from 0 at x = 0 to 1/2.

    With y = x + n, u(x)/x = u(y)/y + ln(y/x) - Σ_{i=1..n} 1/(x+i); for large x, u = 1/2 - Σ_n B_2n / (2n x^(2n-1)).

    Args:
        x: Positive, any shape.

    Returns:
        The shape and dtype of `x`.
    """
    return _u(_at_least_tiny(tf.convert_to_tensor(x)))


def _u(x: tf.Tensor) -> tf.Tensor:
    """Returns u of what isn't tiny: a graph finds it computed once only where it is asked of the very same tensor."""
    parts = _shifted(x)
    u_large = 0.5 - _odd_series(parts.y, _U_SERIES)
    return tf.where(parts.is_small, parts.small * _u_over_small(parts, u_large), u_large)


def _u_over_small(parts: _Shifted, u_large: tf.Tensor) -> tf.Tensor:
    """Returns u(x)/x where x is small, from u(y)."""
    harmonic = (2 * parts.small + (parts.shift + 1)) * (parts.of_harmonic / parts.product)
    return u_large / parts.y - parts.log_ratio - harmonic


def w(x: Any) -> tf.Tensor:
    """Returns w(x) = lnΓ(x) - [(x - 1/2) ln x - x + ln(2π)/2], Binet's function, which falls from ∞ to 0.

    With y = x + n, w(x) = w(y) + (x + 1/2) ln(y/x) - ln Π_{i=1..n} (x+i)/y - n; for large x,
    w = Σ_n B_2n / (2n (2n-1) x^(2n-1)).

    Args:
        x: Positive, any shape.

    Returns:
        The shape and dtype of `x`.
    """
    return _w(_at_least_tiny(tf.convert_to_tensor(x)))


def _w(x: tf.Tensor) -> tf.Tensor:
    parts = _shifted(x)
    power = parts.top
    for _ in range(int(math.log2(parts.shift))):
        power = power * power
    gap = -(parts.small + 0.5) * parts.log_ratio - tf.math.log(parts.product / power) - parts.shift
    return _odd_series(parts.y, _W_SERIES) + tf.where(parts.is_small, gap, tf.zeros_like(gap))


def trigamma(x: Any) -> tf.Tensor:
    """Returns ψ'(x), which falls from ∞ to 0.

    With y = x + n it is Σ_{i<n} 1/(x+i)² + 1/y + 1/(2y²) + Σ_k B_2k / y^(2k+1). TensorFlow's polygamma takes six times
    as long, as it goes through the zeta function.

    Args:
        x: Positive, any shape.

    Returns:
        The shape and dtype of `x`.
    """
    x = tf.convert_to_tensor(x)
    shift = _SHIFT[x.dtype]
    first = tf.reduce_sum(1 / tf.square(x[..., None] + tf.range(shift, dtype=x.dtype)), axis=-1)
    reciprocal = 1 / (x + shift)
    square = reciprocal * reciprocal
    return first + reciprocal + square * (0.5 + reciprocal * _polynomial(square, _BERNOULLI))


def phi(delta: tf.Tensor, log1p_delta: tf.Tensor) -> tf.Tensor:
    """Returns φ(δ) = (1+δ) ln(1+δ) - δ, at least 0, by its power series where |δ| < 0.1.

    Args:
        delta: δ, at least -1; any shape.
        log1p_delta: ln(1+δ), finite, as accurate as the caller can have it.
    """
    near, series = _power_series(delta, tuple((-1) ** k / (k * (k - 1)) for k in range(2, 17)))
    return tf.where(near, series, (1 + delta) * log1p_delta - delta)


def chi(delta: tf.Tensor, log1p_delta: tf.Tensor) -> tf.Tensor:
    """Returns χ(δ) = δ - ln(1+δ), at least 0, by its power series where |δ| < 0.1; arguments as for `phi`."""
    near, series = _power_series(delta, _CHI_SERIES)
    return tf.where(near, series, delta - log1p_delta)


def log1p(x: tf.Tensor) -> tf.Tensor:
    """Returns ln(1 + x), for x >= 0 of any shape, by its power series below 0.1.

    LiteRT's converter makes ln(1 + x) of TensorFlow's log1p, which has no digits where x is tiny.
    """
    near, series = _power_series(x, _CHI_SERIES)
    return tf.where(near, x - series, tf.math.log1p(x))


def mean(alphas: Any) -> tf.Tensor:
    """Returns the expected probabilities p = α/α0, (..., classes)."""
    alphas = tf.convert_to_tensor(alphas)
    return alphas / tf.reduce_sum(alphas, axis=-1, keepdims=True)


def log_mean(alphas: Any) -> tf.Tensor:
    """Returns ln(α/α0), (..., classes); the largest as -ln(1 + rest/largest), which doesn't round to 0.

    A concentration of 0 gives the logarithm of the smallest normal number.
    """
    alphas = tf.convert_to_tensor(alphas)
    is_largest, largest, rest = _split(alphas)
    ratio = alphas / (largest + rest)[..., None]
    log_largest = -log1p(rest / largest)[..., None]
    return tf.where(is_largest, log_largest, tf.math.log(tf.maximum(ratio, np.finfo(ratio.dtype.as_numpy_dtype).tiny)))


def entropy(alphas: Any) -> tf.Tensor:
    """Returns the entropy of the mean, H(α/α0) = -Σ p ln p, (...): total uncertainty.

    Probabilities are alphas too, so this is the stable entropy of a softmax as well; zeros are allowed.
    """
    alphas = tf.convert_to_tensor(alphas)
    return tf.reduce_sum(mean(alphas) * -log_mean(alphas), axis=-1)


def s_sum(alphas: Any) -> tf.Tensor:
    """Returns S = Σ u(α_c) - u(α0), (...), in (0, (classes-1)/2).

    The u of the largest class and that of alpha0 nearly cancel where one class has nearly all, so that their difference
    is taken by itself. Without that, float32 is wrong by 8 % at alphas (3, 1e-7).
    """
    return _s_sum(_at_least_tiny(tf.convert_to_tensor(alphas)))


def _s_sum(alphas: tf.Tensor) -> tf.Tensor:
    found = _us(alphas)
    others = tf.where(found.is_largest, tf.zeros_like(alphas), found.of_alphas)
    return tf.reduce_sum(others, axis=-1) - found.rise


def mutual_information(alphas: Any) -> tf.Tensor:
    """Returns knowledge uncertainty, MI = S/α0, (...).

    It is H(E π) - E H(π) for π drawn from the Dirichlet, without that difference's cancellation.
    """
    alphas = tf.convert_to_tensor(alphas)
    return s_sum(alphas) / tf.reduce_sum(alphas, axis=-1)


def uncertainties(alphas: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns total, data and knowledge uncertainty, (...) each: H(E π), E H(π) and their difference, all at least 0.

    They are `entropy` and `mutual_information`. But the answer to a few inputs takes as long as its operations are
    many, so for float32 they are few, 80 instead of 200, and right to its last digit, data uncertainty to 1e-8 of the
    total: they compute in float64, where u needs no other form for large x, and its slope is the difference of u(m + h)
    and u(m - h) over 2h, with m in the middle between the largest class and alpha0. Other dtypes, and
    `single_precision`, take the long way.
    """
    alphas = tf.convert_to_tensor(alphas)
    if alphas.dtype != tf.float32 or _is_single.get():
        total, knowledge = entropy(alphas), mutual_information(alphas)
        return total, tf.maximum(total - knowledge, 0), knowledge  # rounding takes it below where alpha0 is tiny
    classes = alphas.shape[-1] or tf.shape(alphas)[-1]
    is_largest = tf.one_hot(tf.argmax(alphas, axis=-1), classes, dtype=tf.float64)
    each = tf.cast(_at_least_tiny(alphas), tf.float64)
    others = each - each * is_largest
    rest = tf.reduce_sum(others, axis=-1, keepdims=True)
    largest = tf.reduce_sum(each * is_largest, axis=-1, keepdims=True)
    alpha0, middle = largest + rest, largest + 0.5 * rest
    places = [others + is_largest, largest, alpha0, middle * (1 + _STEP), middle * (1 - _STEP)]
    found = _u_of_double(tf.minimum(tf.concat(places, axis=-1), _LARGE))
    of_others, of_largest, of_alpha0, above, below = tf.split(found, [classes, 1, 1, 1, 1], axis=-1)
    rise = tf.where(rest < 1e-3 * largest, rest * (above - below) / (2 * _STEP * middle), of_alpha0 - of_largest)
    s = tf.reduce_sum(of_others - of_others * is_largest, axis=-1, keepdims=True) - rise
    log_others = tf.math.log(others / alpha0 + is_largest)  # 0 for the largest, whose share comes apart
    total = tf.math.log1p(rest / largest) * largest - tf.reduce_sum(others * log_others, axis=-1, keepdims=True)
    parts = tf.concat([total, tf.maximum(total - s, 0), s], axis=-1) / alpha0
    total, data, knowledge = tf.unstack(tf.cast(parts, tf.float32), 3, axis=-1)
    return total, data, knowledge


def _u_of_double(x: tf.Tensor) -> tf.Tensor:
    """Returns u of float64 x up to 1e7, with 8 digits: the form for small x of `u`, with y = x + 4."""
    q = x * (x + 5)
    y, pairs = x + 4, (q + 4, q + 6)
    harmonic = (2 * x + 5) * ((pairs[0] + pairs[1]) / (pairs[0] * pairs[1]))
    return x * ((0.5 - _odd_series(y, _U_SERIES[:5])) / y + tf.math.log(y / x) - harmonic)


@contextlib.contextmanager
def single_precision() -> Iterator[None]:
    """Within it graphs of float32 alphas are of float32 operations alone: LiteRT has no others."""
    token = _is_single.set(True)
    try:
        yield
    finally:
        _is_single.reset(token)


def reverse_mutual_information(alphas: Any) -> tf.Tensor:
    """Returns E KL(E π ‖ π) = (classes - 1 - S)/α0, (...): mean KL."""
    alphas = tf.convert_to_tensor(alphas)
    return (_degrees(alphas) - s_sum(alphas)) / tf.reduce_sum(alphas, axis=-1)


def expected_pairwise_kl(alphas: Any) -> tf.Tensor:
    """Returns E KL(π ‖ π') for independent π, π', which is (classes - 1)/α0, (...)."""
    alphas = tf.convert_to_tensor(alphas)
    return _degrees(alphas) / tf.reduce_sum(alphas, axis=-1)


def expected_log_probs(alphas: Any) -> tf.Tensor:
    """Returns E ln π_c = ψ(α_c) - ψ(α0), (..., classes).

    With r = α0 - α_c it is ln(α_c/α0) - (1 - u(α_c)) r/(α_c α0) - (u(α0) - u(α_c))/α0, where no term is above 0: the
    largest class keeps its digits too, though there ψ(α_c) and ψ(α0) nearly agree.
    """
    alphas = _at_least_tiny(tf.convert_to_tensor(alphas))
    found = _us(alphas)
    alpha0 = found.alpha0[..., None]
    others = tf.where(found.is_largest, found.rest[..., None], alpha0 - alphas)
    rise = tf.where(found.is_largest, found.rise[..., None], found.of_alpha0[..., None] - found.of_alphas)
    return log_mean(alphas) - (1 - found.of_alphas) * (others / alpha0) / alphas - rise / alpha0


def differential_entropy(alphas: Any) -> tf.Tensor:
    """Returns the differential entropy of the Dirichlet, (...), at most -lnΓ(classes).

    With K classes and p = α/α0 it is ½Σ ln p_c - ½(K-1) ln α0 + ½(K-1) ln 2π + Σ w(α_c) - w(α0) + (K-1-S)
    - Σ (1 - u(α_c))/α_c + K (1 - u(α0))/α0.
    """
    given = tf.convert_to_tensor(alphas)
    log_probs, alphas = log_mean(given), _at_least_tiny(given)  # the former is the entropy's, which allows 0
    found, degrees = _us(alphas), _degrees(alphas)
    alpha0 = found.alpha0
    w_alphas, w_alpha0 = _of_each_and(_w, alphas, alpha0)
    classes = 0.5 * log_probs + w_alphas - (1 - found.of_alphas) / alphas
    whole = degrees * (_HALF_LN_2PI - 0.5 * tf.math.log(alpha0)) - w_alpha0
    whole += (degrees + 1) * (1 - found.of_alpha0) / alpha0
    return tf.reduce_sum(classes, axis=-1) + whole + (degrees - _s_sum(alphas))


def kl_divergence(beta: Any, alphas: Any) -> tf.Tensor:
    """Returns KL(Dir(β) ‖ Dir(α)), (...), at least 0 but for rounding of the size of 1e-15 a class in float64.

    With δ = (α - β)/β it is what the means differ by, α0 KL(α/α0 ‖ β/β0) = α0 Σ (β_c/β0) φ(ε_c) for
    1 + ε_c = (1 + δ_c)/(1 + δ_0), and Σ r(β_c, α_c) - r(β0, α0) with r = ½ χ(δ) + (½ - u(β)) δ + w(α) - w(β). Taken
    class by class, the first part would be a difference of terms as large as α0.

    Args:
        beta: β, (..., classes).
        alphas: α, (..., classes), of the same dtype.
    """
    beta, alphas = _at_least_tiny(tf.convert_to_tensor(beta)), _at_least_tiny(tf.convert_to_tensor(alphas))
    difference = alphas - beta
    classes = _change(beta, alphas, difference)
    sums = [tf.reduce_sum(values, axis=-1, keepdims=True) for values in (beta, alphas, difference)]
    whole = _change(*sums)
    epsilon = (classes.delta - whole.delta) * (sums[0] / sums[1])
    of_means = sums[1] * (beta / sums[0]) * phi(epsilon, classes.log1p_delta - whole.log1p_delta)
    return tf.reduce_sum(of_means + classes.rest, axis=-1) - whole.rest[..., 0]


class _Change(NamedTuple):
    """From β to α: δ = (α - β)/β, ln(1 + δ), and r(β, α) of `kl_divergence`."""

    delta: tf.Tensor
    log1p_delta: tf.Tensor
    rest: tf.Tensor


def _change(beta: tf.Tensor, alpha: tf.Tensor, difference: tf.Tensor) -> _Change:
    """The difference α - β comes apart, since sums of alphas would have rounded it away."""
    largest = np.finfo(beta.dtype.as_numpy_dtype).max
    delta = tf.minimum(difference / beta, largest)
    # The larger over the smaller, so that 1 + δ keeps its digits where α is far below β. `sign` and `abs` would have no
    # gradient at δ = 0, where a student's logits are when they start at 0.
    rises = difference >= 0
    sign = tf.where(rises, tf.ones_like(difference), -tf.ones_like(difference))
    ratio = sign * difference / tf.where(rises, beta, alpha)
    log1p_delta = sign * tf.math.log1p(tf.minimum(ratio, largest))
    rest = 0.5 * chi(delta, log1p_delta) + (0.5 - u(beta)) * delta + w(alpha) - w(beta)
    return _Change(delta, log1p_delta, rest)


def _split(alphas: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns which class is the largest (..., classes), its alpha (...) and the sum of all others (...)."""
    is_largest = tf.one_hot(tf.argmax(alphas, axis=-1), tf.shape(alphas)[-1], True, False, dtype=tf.bool)
    zeros = tf.zeros_like(alphas)
    largest = tf.reduce_sum(tf.where(is_largest, alphas, zeros), axis=-1)
    return is_largest, largest, tf.reduce_sum(tf.where(is_largest, zeros, alphas), axis=-1)


class _Us(NamedTuple):
    """The function `u` of a Dirichlet's concentrations.

    Attributes:
        is_largest: Which class is the largest, (..., classes).
        rest: Sum of all others, (...).
        alpha0: (...).
        of_alphas: u(α_c), (..., classes).
        of_alpha0: u(α0), (...).
        rise: u(α0) - u(largest), (...), with all its digits.
    """

    is_largest: tf.Tensor
    rest: tf.Tensor
    alpha0: tf.Tensor
    of_alphas: tf.Tensor
    of_alpha0: tf.Tensor
    rise: tf.Tensor


def _us(alphas: tf.Tensor) -> _Us:
    """Returns u of concentrations that aren't tiny; a graph computes it once for all that ask for it."""
    is_largest, largest, rest = _split(alphas)
    alpha0 = largest + rest
    of_alphas, of_alpha0 = _of_each_and(_u, alphas, alpha0)
    of_largest = tf.reduce_sum(tf.where(is_largest, of_alphas, tf.zeros_like(of_alphas)), axis=-1)
    rise = _rise_of_u(largest, rest, of_alpha0 - of_largest)
    return _Us(is_largest, rest, alpha0, of_alphas, of_alpha0, rise)


def _of_each_and(
    function: Callable[[tf.Tensor], tf.Tensor], alphas: tf.Tensor, alpha0: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a function of the classes and of their sum, from one call: of a few inputs, calls are what takes time."""
    values = function(tf.concat([alphas, alpha0[..., None]], axis=-1))
    return values[..., :-1], values[..., -1]


def _rise_of_u(x: tf.Tensor, step: tf.Tensor, difference: tf.Tensor) -> tf.Tensor:
    """Returns u(x + step) - u(x) for step >= 0: its difference, or where the step is small a quadrature of the slope.

    Two points of Gauss.
    """
    is_near = step < _GAUSS_SHARE[x.dtype] * x
    near = tf.where(is_near, step, tf.zeros_like(step))
    places = tf.stack([x + share * near for share in (0.5 - math.sqrt(1 / 12), 0.5 + math.sqrt(1 / 12))])
    slopes = _slope_of_u(places)
    return tf.where(is_near, near * 0.5 * (slopes[0] + slopes[1]), difference)


def _slope_of_u(x: tf.Tensor) -> tf.Tensor:
    """Returns u'(x), by the derivative of each term of `u`."""
    x = _at_least_tiny(x)
    parts = _shifted(x)
    small, shift, reciprocal = parts.small, parts.shift, 1 / parts.y
    square = reciprocal * reciprocal
    terms = tuple((2 * n - 1) * c for n, c in enumerate(_U_SERIES, 1))
    slope_large = square * _polynomial(square, terms[: _NUM_TERMS[x.dtype]])
    u_large = 0.5 - _odd_series(parts.y, _U_SERIES)
    gap_slope = 1 / parts.top - 1 / small + sum((1 / (small + i)) ** 2 for i in range(1, shift + 1))
    slope_small = _u_over_small(parts, u_large) + small * (
        reciprocal * (slope_large - reciprocal * u_large) + gap_slope
    )
    return tf.where(parts.is_small, slope_small, slope_large)


def _degrees(alphas: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.shape(alphas)[-1] - 1, alphas.dtype)


def _at_least_tiny(x: tf.Tensor) -> tf.Tensor:
    """Keeps x/(x+n) a normal number: XLA and some CPUs take smaller ones for 0."""
    return tf.maximum(x, 16 * np.finfo(x.dtype.as_numpy_dtype).tiny)


class _Shifted(NamedTuple):
    """What `u` and `w` have in common for x below n, the dtype's shift.

    Attributes:
        is_small: Whether x < n.
        small: x made safe for the branch of small x: both branches of a `where` are differentiated.
        y: x + n where x is small, else x.
        shift: n.
        top: small + n.
        log_ratio: ln(small/top).
        product: Π_{i=1..n} (small + i).
        of_harmonic: `product` Σ_{i=1..n} 1/(small + i), divided by (2 small + n + 1).
    """

    is_small: tf.Tensor
    small: tf.Tensor
    y: tf.Tensor
    shift: int
    top: tf.Tensor
    log_ratio: tf.Tensor
    product: tf.Tensor
    of_harmonic: tf.Tensor


def _shifted(x: tf.Tensor) -> _Shifted:
    """Returns what `u` and `w` have in common; a graph computes it once for both.

    Factors are taken in pairs, (x + i)(x + n + 1 - i) = q + i (n + 1 - i) with q = x (x + n + 1), whose reciprocals add
    up to (2x + n + 1) over their product: one division instead of n.
    """
    shift = _SHIFT[x.dtype]
    is_small = x < shift
    small = tf.where(is_small, x, tf.ones_like(x))
    q = small * (small + (shift + 1))
    product, of_harmonic = q + shift, tf.ones_like(q)
    for i in range(2, shift // 2 + 1):
        pair = q + i * (shift + 1 - i)
        of_harmonic = of_harmonic * pair + product
        product = product * pair
    top = small + shift
    y = tf.where(is_small, top, x)
    return _Shifted(is_small, small, y, shift, top, tf.math.log(small / top), product, of_harmonic)


def _odd_series(y: tf.Tensor, coefficients: tuple[float, ...]) -> tf.Tensor:
    """Returns Σ_n c_n / y^(2n-1), from the dtype's shift on."""
    reciprocal = 1 / y
    return reciprocal * _polynomial(reciprocal * reciprocal, coefficients[: _NUM_TERMS[y.dtype]])


def _power_series(delta: tf.Tensor, coefficients: tuple[float, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns whether |δ| < 0.1, and there δ² Σ_k c_k δ^k."""
    near = tf.abs(delta) < 0.1
    small = tf.where(near, delta, tf.zeros_like(delta))
    return near, small * small * _polynomial(small, coefficients[: _NUM_POWERS[delta.dtype]])


def _polynomial(x: tf.Tensor, coefficients: tuple[float, ...]) -> tf.Tensor:
    total = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        total = total * x + coefficient
    return total
