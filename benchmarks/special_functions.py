"""Relative errors of all that the package makes of digamma, trigamma and log-gamma, against 80 digits of mpmath.

    python benchmarks/special_functions.py [--rows=200]

One line a quantity, the largest error in each family of concentrations from 1e-8 to 1e8, in float64, float32 and in a
LiteRT model's float32. Errors are relative to the value; where a quantity crosses 0 (marked ±), to the largest of its
summands if that is more. A matched precision is judged by the measure it should have.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np
import tensorflow as tf

from end2_tf import dirichlet, losses, precision, uncertainty
from end2_tf.export import savedmodel, signatures

DIGITS = 80
Row = list[Any]  # of mpmath's numbers


class Quantity(NamedTuple):
    """What is computed of concentrations (n, classes), and what it should be."""

    compute: Callable[[np.ndarray], Any]  # in the array's dtype; (n,) or (n, classes)
    exact: Callable[[Row], Any]  # of one row; a number or one for each class
    scale: Callable[[Row], Any] | None = None  # of one row: its largest summand, where the quantity crosses 0
    dtypes: tuple[str, ...] = ("float64", "float32")


def families(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns concentrations (rows, 4) by name, float32 numbers, so that both dtypes see the same."""
    rng = np.random.default_rng(seed)

    def spread(low: float, high: float, *shape: int) -> np.ndarray:
        return 10.0 ** rng.uniform(low, high, shape)

    confident = np.concatenate([spread(-8, -3, rows, 3), spread(0, 8, rows, 1)], axis=1)
    ties = np.repeat(spread(-8, 8, rows, 1), 4, axis=1)
    found = {
        "1e-8 to 1e-3": spread(-8, -3, rows, 4),
        "1e-3 to 1e3": spread(-3, 3, rows, 4),
        "1e3 to 1e8": spread(3, 8, rows, 4),
        "1e-8 to 1e8": spread(-8, 8, rows, 4),
        "confident": rng.permuted(confident, axis=1),
        "ties": ties,
    }
    return {name: values.astype(np.float32).astype(np.float64) for name, values in found.items()}


def _log_beta(a: Row) -> Any:
    return mpmath.fsum(mpmath.loggamma(v) for v in a) - mpmath.loggamma(mpmath.fsum(a))


def _expected_logs(a: Row) -> Row:
    whole = mpmath.digamma(mpmath.fsum(a))
    return [mpmath.digamma(v) - whole for v in a]


def _total(a: Row) -> Any:
    alpha0 = mpmath.fsum(a)
    return -mpmath.fsum(v / alpha0 * mpmath.log(v / alpha0) for v in a)


def _knowledge(a: Row) -> Any:
    alpha0 = mpmath.fsum(a)
    return _total(a) - mpmath.digamma(alpha0 + 1) + mpmath.fsum(v / alpha0 * mpmath.digamma(v + 1) for v in a)


def _mean_kl(a: Row) -> Any:
    return (len(a) - 1) / mpmath.fsum(a) - _knowledge(a)


def _differential_entropy(a: Row) -> Any:
    return _log_beta(a) - mpmath.fsum((v - 1) * e for v, e in zip(a, _expected_logs(a), strict=True))


def _differential_entropy_scale(a: Row) -> Any:
    return max(abs((v - 1) * e) for v, e in zip(a, _expected_logs(a), strict=True))


def exact_kl(b: Row, a: Row) -> Any:
    """Returns KL(Dir(b) ‖ Dir(a)) by the textbook formula."""
    gaps = mpmath.fsum((x - y) * e for x, y, e in zip(b, a, _expected_logs(b), strict=True))
    return _log_beta(a) - _log_beta(b) + gaps


def _pairs(function: Callable[[Any, Any], Any], step: float) -> Callable[[Any], Any]:
    """Returns the function of concentrations and of others a step away, of mpmath's numbers or of an array."""
    factors = [1 + step, 1 / (1 + step), 1 + step / 2, 1]  # rounded once, so that all see the same

    def compute(a: Any) -> Any:
        if isinstance(a, list):
            return function(a, [v * np.float32(f).item() for v, f in zip(a, factors, strict=True)])
        return function(a, (a * np.array(factors, np.float32)).astype(a.dtype))

    return compute


S = (-0.5, -1.5, -3.0, -2.0)  # mean log-probabilities of members that disagree


def _likelihood(a: np.ndarray) -> Any:
    loss = losses.DirichletNLL(targets="statistics", reduction=None)
    return loss.from_statistics(np.tile(S, (len(a), 1)), np.log(a), 1.0)


def _as_from_logits(a: Row) -> Row:
    """Returns what the loss above is given: exponentials of rounded logarithms."""
    return [mpmath.exp(mpmath.mpf(float(np.log(float(v))))) for v in a]


def _exact_likelihood(a: Row) -> Any:
    a = _as_from_logits(a)
    return _log_beta(a) - mpmath.fsum((v - 1) * s for v, s in zip(a, S, strict=True))


def _likelihood_scale(a: Row) -> Any:
    return max(abs((v - 1) * s) for v, s in zip(a, S, strict=True))


def _exact_slope_of_likelihood(a: Row) -> Row:
    """Returns the derivatives by logits."""
    a = _as_from_logits(a)
    return [v * (e - s) for v, e, s in zip(a, _expected_logs(a), S, strict=True)]


def _slope_of_likelihood_scale(a: Row) -> Any:
    return max(abs(v * s) for v, s in zip(a, S, strict=True))


def _gradient(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[np.ndarray], Any]:
    def compute(a: np.ndarray) -> Any:
        variable = tf.constant(a)
        with tf.GradientTape() as tape:
            tape.watch(variable)
            value = function(variable)
        return tape.gradient(value, variable)

    return compute


def _reverse_kl(a: np.ndarray, b: np.ndarray) -> Any:
    return losses.ProxyReverseKL().divergence(tf.constant(a), tf.constant(b), tf.ones(len(a), tf.float64))


def _slope_of_likelihood(a: np.ndarray) -> Any:
    loss = losses.DirichletNLL(targets="statistics", reduction=None)
    return _gradient(lambda logits: loss.from_statistics(np.tile(S, (len(a), 1)), logits, 1.0))(np.log(a))


def _u(v: Any) -> Any:
    return v * (mpmath.digamma(v + 1) - mpmath.log(v))


def _w(v: Any) -> Any:
    return mpmath.loggamma(v) - ((v - 0.5) * mpmath.log(v) - v + mpmath.log(2 * mpmath.pi) / 2)


def _u_slope(v: Any) -> Any:
    return mpmath.digamma(v + 1) - mpmath.log(v) + v * mpmath.psi(1, v + 1) - 1


def _each(function: Callable[[Any], Any]) -> Callable[[Row], Row]:
    return lambda a: [function(v) for v in a]


def _at_least_the_floor(a: Any) -> Any:
    """Scales concentrations up to a sum that a matched precision can have."""
    alpha0 = np.array(a, np.float64).sum(axis=-1, keepdims=True)
    factor = np.exp2(np.ceil(np.log2(np.maximum(1.0, precision.FLOOR / alpha0))))  # a power of 2 rounds nothing
    return a * factor if isinstance(a, np.ndarray) else [v * float(factor[0]) for v in a]


def _matched(match: Callable[..., Any], measure: Callable[[Row], Any]) -> Callable[[np.ndarray], list[Any]]:
    """Returns the measure of the Dirichlet whose precision was matched to the measure of another of the same mean."""

    graph = tf.function(match, reduce_retracing=True)

    def compute(alphas: np.ndarray) -> list[Any]:
        alphas = _at_least_the_floor(alphas)
        means = alphas / alphas.sum(axis=-1, keepdims=True)
        with mpmath.workdps(DIGITS):
            given = [float(measure([mpmath.mpf(float(v)) for v in row])) for row in alphas]
            found = graph(tf.constant(means), tf.constant(given, tf.float64), 1e12).numpy()
            return [
                measure([mpmath.mpf(float(b)) * mpmath.mpf(float(v)) for v in mean])
                for mean, b in zip(means, found, strict=True)
            ]

    return compute


def _of_floored(measure: Callable[[Row], Any]) -> Callable[[Row], Any]:
    return lambda a: measure(_at_least_the_floor(a))


@functools.cache
def _lite() -> Path:
    """Converts the measures of concentrations to LiteRT, as an export does; returns the model's file."""
    folder = Path(tempfile.mkdtemp())
    spec = tf.TensorSpec((None, 4), tf.float32, name=signatures.INPUTS)
    module = tf.Module()
    function = tf.function(uncertainty.from_alphas, input_signature=[spec], autograph=False)
    with dirichlet.single_precision():
        tf.saved_model.save(module, folder, signatures={signatures.SERVING: function.get_concrete_function()})
    (folder / "model.tflite").write_bytes(savedmodel.convert(folder))
    return folder / "model.tflite"


def _in_lite(measure: str) -> Callable[[np.ndarray], Any]:
    return lambda a: savedmodel.ask_lite(_lite(), a)[f"{signatures.SERVING}/{measure}"]


QUANTITIES = {
    "u, from digamma": Quantity(dirichlet.u, _each(_u)),
    "w, from log-gamma": Quantity(dirichlet.w, _each(_w)),
    "slope of u, from trigamma": Quantity(_gradient(dirichlet.u), _each(_u_slope)),
    "E ln π, digamma differences": Quantity(dirichlet.expected_log_probs, _expected_logs),
    "total uncertainty": Quantity(dirichlet.entropy, _total),
    "knowledge uncertainty": Quantity(dirichlet.mutual_information, _knowledge),
    "total uncertainty, served": Quantity(lambda a: dirichlet.uncertainties(a)[0], _total, dtypes=("float32",)),
    "knowledge uncertainty, served": Quantity(lambda a: dirichlet.uncertainties(a)[2], _knowledge, dtypes=("float32",)),
    "mean KL": Quantity(dirichlet.reverse_mutual_information, _mean_kl),
    "EPKL": Quantity(dirichlet.expected_pairwise_kl, lambda a: (len(a) - 1) / mpmath.fsum(a)),
    "differential entropy ±": Quantity(
        dirichlet.differential_entropy, _differential_entropy, _differential_entropy_scale
    ),
    "KL, half to double": Quantity(_pairs(dirichlet.kl_divergence, 1.0), _pairs(exact_kl, 1.0)),
    "KL, 1e-3 apart": Quantity(_pairs(dirichlet.kl_divergence, 1e-3), _pairs(exact_kl, 1e-3)),
    "proxy losses, half to double": Quantity(_pairs(_reverse_kl, 1.0), _pairs(exact_kl, 1.0), dtypes=("float64",)),
    "proxy losses, 1e-3 apart": Quantity(_pairs(_reverse_kl, 1e-3), _pairs(exact_kl, 1e-3), dtypes=("float64",)),
    "precision matched to knowledge": Quantity(
        _matched(precision.matched_mutual_information, _knowledge), _of_floored(_knowledge), dtypes=("float64",)
    ),
    "precision matched to mean KL": Quantity(
        _matched(precision.exact, _mean_kl), _of_floored(_mean_kl), dtypes=("float64",)
    ),
    "total uncertainty, LiteRT": Quantity(_in_lite("total_uncertainty"), _total, dtypes=("float32",)),
    "knowledge uncertainty, LiteRT": Quantity(_in_lite("knowledge_uncertainty"), _knowledge, dtypes=("float32",)),
    "mean KL, LiteRT": Quantity(_in_lite("mkl"), _mean_kl, dtypes=("float32",)),
    "differential entropy ±, LiteRT": Quantity(
        _in_lite("differential_entropy"), _differential_entropy, _differential_entropy_scale, dtypes=("float32",)
    ),
    "likelihood ±": Quantity(_likelihood, _exact_likelihood, _likelihood_scale, dtypes=("float64",)),
    "its gradient ±": Quantity(
        _slope_of_likelihood, _exact_slope_of_likelihood, _slope_of_likelihood_scale, dtypes=("float64",)
    ),
}


def errors(quantity: Quantity, concentrations: np.ndarray, dtype: str) -> np.ndarray:
    """Returns the relative error of each row; of a vector's, the largest."""
    got = quantity.compute(concentrations.astype(dtype))
    got = got if isinstance(got, list) else np.asarray(got, np.float64)
    found = []
    with mpmath.workdps(DIGITS):
        for row, values in zip(concentrations, got, strict=True):
            a = [mpmath.mpf(float(v)) for v in row]
            want = quantity.exact(a)
            least = quantity.scale(a) if quantity.scale else 0
            pairs = zip(values, want, strict=True) if isinstance(want, list) else [(values, want)]
            found.append(max(float(abs(mpmath.mpf(g) - w) / max(abs(w), least)) for g, w in pairs))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200, help="concentrations in each family")
    rows = parser.parse_args().rows
    found = families(rows)
    print("| quantity | dtype | " + " | ".join(found) + " |\n|---|---|" + "--:|" * len(found))
    for name, quantity in QUANTITIES.items():
        for dtype in quantity.dtypes:
            worst = [errors(quantity, values, dtype).max() for values in found.values()]
            print(f"| {name} | {dtype} | " + " | ".join(f"{v:.0e}" for v in worst) + " |", flush=True)


if __name__ == "__main__":
    main()
