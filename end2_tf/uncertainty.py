"""Every uncertainty measure, from a Dirichlet's concentrations, members' logits, or a single network's probabilities.

TensorFlow tensors give tensors: differentiable, the same in eager, graph and XLA, in the input's dtype (float16 and
bfloat16 are computed and returned as float32, integers as float64). NumPy arrays and lists give NumPy arrays, computed
in chunks of rows; float32 and float64 arrays keep their dtype, lists and integers count as float64. Leading dimensions
are free. Values are checked in eager mode only, shapes always. Nats.

Total uncertainty is the entropy of the mean, data uncertainty the mean entropy, knowledge uncertainty their difference,
the mutual information MI. `mkl`, the reverse mutual information, is the mean KL(mean ‖ prediction), and `epkl`, the
mean KL over all ordered pairs of predictions, is MI + mkl.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from end2_tf import dirichlet
from end2_tf.errors import DataError, ShapeError
from end2_tf.measures import MEASURES as MEASURES

_CHUNK_ELEMENTS = 2**20  # of NumPy input at a time; temporaries then take about 200 MB
_SUM_TOLERANCE = 1e-2  # how far a float16 softmax of thousands of classes may sum from 1


@tf.autograph.experimental.do_not_convert  # AutoGraph wraps errors in its own, and there is nothing to convert
def from_alphas(alphas: Any) -> dict[str, Any]:
    """Returns the measures of Dirichlet distributions in closed form.

    Knowledge uncertainty is exact up to the largest precision, where the difference of two entropies is noise.

    Args:
        alphas: Concentrations, (..., classes), above 0, at least two classes.

    Returns:
        `probs` (..., classes), and of shape (...) `alpha0`, `total_uncertainty`, `data_uncertainty`,
        `knowledge_uncertainty`, `epkl`, `mkl`, `differential_entropy`, `max_prob`.

    Raises:
        ShapeError: no class axis, or fewer than two classes.
        DataError: eager only; a value isn't above 0 and finite, or a row's sum isn't a normal number of its dtype.

    Example:
        >>> measures = from_alphas([[2.0, 3.0, 5.0]])
        >>> float(measures["epkl"][0])  # (classes - 1) / alpha0
        0.2

    Source: Malinin & Gales, 2018, arXiv:1802.10501, appendix; the stable forms are derived in `end2_tf.dirichlet`.
    """
    return _apply(_of_alphas, alphas, "alphas", ("classes",), _check_alphas)


@tf.autograph.experimental.do_not_convert
def from_members(logits: Any) -> dict[str, Any]:
    """Returns the measures of ensembles, from their members' logits.

    Members that nearly agree keep the digits of their disagreement. A logit of -inf is a probability of 0; where a
    member excludes a class that another allows, `mkl` and `epkl` are infinite.

    Args:
        logits: Members' logits, (..., members, classes), at least one member and two classes.

    Returns:
        `probs`, the mean over members, (..., classes), and of shape (...) `total_uncertainty`, `data_uncertainty`,
        `knowledge_uncertainty`, `epkl` (over all ordered pairs, a member with itself included), `mkl`, `max_prob`.

    Raises:
        ShapeError: fewer than two axes, no member, or fewer than two classes.
        DataError: eager only; a logit is NaN or +inf, or all logits of a member are -inf.

    Example:
        >>> measures = from_members(np.log([[[0.7, 0.3], [0.5, 0.5]]]))
        >>> float(measures["max_prob"][0])
        0.6

    Source: Malinin, Mlodozeniec & Gales, ICLR 2020; Malinin & Gales, ICLR 2021 (reverse mutual information).
    """
    return _apply(_of_members, logits, "logits", ("members", "classes"), _check_logits)


@tf.autograph.experimental.do_not_convert
def from_probs(probs: Any) -> dict[str, Any]:
    """Returns the measures of a single network's predictions; data and knowledge uncertainty can't be told apart.

    Args:
        probs: Probabilities, (..., classes), each row summing to 1.

    Returns:
        `probs` as given, and of shape (...) `total_uncertainty`, `max_prob`.

    Raises:
        ShapeError: no class axis, or fewer than two classes.
        DataError: eager only; a value is negative or not finite, or a row doesn't sum to 1.
    """
    return _apply(_of_probs, probs, "probs", ("classes",), _check_probs)


def _of_alphas(alphas: tf.Tensor) -> dict[str, tf.Tensor]:
    probs = dirichlet.mean(alphas)
    total, data, knowledge = dirichlet.uncertainties(alphas)
    return {
        "probs": probs,
        "alpha0": tf.reduce_sum(alphas, axis=-1),
        "total_uncertainty": total,
        "data_uncertainty": data,
        "knowledge_uncertainty": knowledge,
        "epkl": dirichlet.expected_pairwise_kl(alphas),
        "mkl": dirichlet.reverse_mutual_information(alphas),
        "differential_entropy": dirichlet.differential_entropy(alphas),
        "max_prob": tf.reduce_max(probs, axis=-1),
    }


def _of_members(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """With δ = (π - p)/p: MI = mean Σ p φ(δ) and mean KL = mean Σ p χ(δ), sums of terms that are at least 0."""
    log_probs = tf.nn.log_softmax(logits)
    member_probs = tf.exp(log_probs)
    mean_probs = tf.reduce_mean(member_probs, axis=-2, keepdims=True)
    divisor = tf.maximum(mean_probs, np.finfo(logits.dtype.as_numpy_dtype).tiny)
    delta = (member_probs - mean_probs) / divisor
    is_zero = tf.math.is_inf(log_probs)
    # 1 + δ has no digits where a member is much below the mean: take the logarithms' difference there.
    log_ratio = tf.where(
        delta > -0.5,
        tf.math.log1p(tf.maximum(delta, -0.5)),
        tf.where(is_zero, tf.zeros_like(log_probs), log_probs) - tf.math.log(divisor),
    )
    kl_terms = mean_probs * dirichlet.chi(delta, log_ratio)
    kl_terms = tf.where(
        is_zero & (mean_probs > 0), tf.fill(tf.shape(kl_terms), tf.cast(np.inf, logits.dtype)), kl_terms
    )
    knowledge = tf.reduce_mean(tf.reduce_sum(mean_probs * dirichlet.phi(delta, log_ratio), axis=-1), axis=-1)
    mkl = tf.reduce_mean(tf.reduce_sum(kl_terms, axis=-1), axis=-1)
    probs = tf.squeeze(mean_probs, axis=-2)
    return {
        "probs": probs,
        "total_uncertainty": dirichlet.entropy(probs),
        "data_uncertainty": tf.reduce_mean(dirichlet.entropy(member_probs), axis=-1),
        "knowledge_uncertainty": knowledge,
        "epkl": knowledge + mkl,
        "mkl": mkl,
        "max_prob": tf.reduce_max(probs, axis=-1),
    }


def _of_probs(probs: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"probs": probs, "total_uncertainty": dirichlet.entropy(probs), "max_prob": tf.reduce_max(probs, axis=-1)}


def _apply(
    measure: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    values: Any,
    name: str,
    axes: tuple[str, ...],
    check_values: Callable[[np.ndarray, str], None],
) -> dict[str, Any]:
    """Checks `values`, then computes tensors whole and arrays in chunks."""
    if tf.is_tensor(values):
        tensor = _floating(tf.convert_to_tensor(values), name)
        _check_shape(tensor.shape.as_list() if tensor.shape.rank is not None else None, name, axes)
        if tf.executing_eagerly():
            check_values(tensor.numpy(), name)
        return measure(tensor)
    array = _floating_array(values, name)
    _check_shape(list(array.shape), name, axes)
    check_values(array, name)
    with tf.init_scope():  # arrays are known, also while a graph is being traced
        return _in_chunks(measure, array, len(axes))


def _in_chunks(
    measure: Callable[[tf.Tensor], dict[str, tf.Tensor]], array: np.ndarray, item_rank: int
) -> dict[str, np.ndarray]:
    leading, item = array.shape[:-item_rank], array.shape[-item_rank:]
    num_rows = math.prod(leading)
    rows = array.reshape(num_rows, *item)
    size = max(1, _CHUNK_ELEMENTS // math.prod(item))
    if num_rows > size:
        measure = _graph(measure)
    out: dict[str, np.ndarray] = {}
    for start in range(0, max(num_rows, 1), size):  # an empty batch still tells the outputs' shapes
        chunk = measure(tf.convert_to_tensor(rows[start : start + size]))
        for key, value in chunk.items():
            if key not in out:
                out[key] = np.empty((num_rows, *value.shape[1:]), array.dtype)
            out[key][start : start + size] = value.numpy()
    return {key: value.reshape((*leading, *value.shape[1:])) for key, value in out.items()}


@functools.cache
def _graph(measure: Callable[[tf.Tensor], dict[str, tf.Tensor]]) -> Any:
    """A graph shares subexpressions: 3 times faster, after about 1 s of tracing, once."""
    return tf.function(measure, autograph=False, reduce_retracing=True)


def _floating(tensor: tf.Tensor, name: str) -> tf.Tensor:
    if tensor.dtype in (tf.float32, tf.float64):
        return tensor
    if tensor.dtype in (tf.float16, tf.bfloat16):
        return tf.cast(tensor, tf.float32)
    if tensor.dtype.is_integer:
        return tf.cast(tensor, tf.float64)
    raise DataError(f"{name} have dtype {tensor.dtype.name}. Allowed: floating point or integers. Cast them first.")


def _floating_array(values: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:
        raise ShapeError(
            f"{name} are nested lists of unequal length. Allowed: a regular array. Pad or split them."
        ) from None
    if array.dtype.name in ("float16", "bfloat16"):
        return array.astype(np.float32)
    if array.dtype.kind not in "fiu":
        raise DataError(f"{name} have dtype {array.dtype}. Allowed: floating point or integers. Convert them first.")
    is_float32 = array.dtype == np.float32
    return array.astype(np.float32 if is_float32 else np.float64, copy=False)


def _check_shape(shape: list[int | None] | None, name: str, axes: tuple[str, ...]) -> None:
    if shape is None:
        return
    wanted = f"(..., {', '.join(axes)})"
    shown = tuple(shape)
    if len(shape) < len(axes):
        raise ShapeError(f"{name} have shape {shown}. Allowed: {wanted}. Add the missing axis.")
    if shape[-1] is not None and shape[-1] < 2:
        raise ShapeError(
            f"{name} have shape {shown}, so {shape[-1]} classes. Allowed: {wanted} with 2 classes or more. "
            "Give a binary network's two classes one column each."
        )
    if len(axes) == 2 and shape[-2] == 0:
        raise ShapeError(f"{name} have shape {shown}, so no members. Allowed: {wanted} with 1 member or more. Add one.")


def _check_alphas(alphas: np.ndarray, name: str) -> None:
    with np.errstate(over="ignore"):
        alpha0 = alphas.sum(axis=-1)
    limits = np.finfo(alphas.dtype)
    if np.all(alphas > 0) and np.all((alpha0 >= limits.tiny) & (alpha0 <= limits.max)):
        return
    _refuse(
        name,
        alphas,
        ~((alphas > 0) & np.isfinite(alphas)),
        "above 0 and finite",
        "Pass exp(logits), the Dirichlet head's output.",
    )
    _refuse(
        f"alpha0 of {name}",
        alpha0,
        ~((alpha0 >= limits.tiny) & (alpha0 <= limits.max)),
        f"{limits.tiny:.2g} to {limits.max:.2g} in {alphas.dtype}",
        "Keep logits within about [-30, 30], or use float64.",
    )


def _check_logits(logits: np.ndarray, name: str) -> None:
    largest = logits.max(axis=-1)
    if np.all(np.isfinite(largest)):
        return
    _refuse(
        name, logits, np.isnan(logits) | (logits == np.inf), "below +inf, and not NaN", "Check the member's weights."
    )
    _refuse(
        f"largest of {name}",
        largest,
        ~np.isfinite(largest),
        "a finite number",
        "A member must leave one class a probability above 0.",
    )


def _check_probs(probs: np.ndarray, name: str) -> None:
    next_step = "Pass softmax(logits)."
    _refuse(name, probs, ~((probs >= 0) & np.isfinite(probs)), "0 to 1", next_step)
    sums = probs.sum(axis=-1)
    _refuse(f"sum of {name}", sums, np.abs(sums - 1) > _SUM_TOLERANCE, "1", next_step)


def _refuse(name: str, values: np.ndarray, is_bad: np.ndarray, allowed: str, next_step: str) -> None:
    """Raises DataError that names the first bad value and its index, if there is one."""
    if not np.any(is_bad):
        return
    index = tuple(int(i) for i in np.argwhere(is_bad)[0])
    where = f"{name}[{', '.join(map(str, index))}]" if index else name
    raise DataError(f"{where} is {values[index]}. Allowed: {allowed}. {next_step}")
