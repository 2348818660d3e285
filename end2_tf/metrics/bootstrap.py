"""How sure a difference between two models is: percentile bootstrap intervals from resampled test examples.

Both models are measured on the same resamples, so what makes examples hard for both cancels. The intervals cover the
choice of examples; how much models differ from one training to the next is told by giving several seeds, which are
averaged, and by their spread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from end2_tf.errors import ConfigError, DataError, ShapeError
from end2_tf.metrics import checks

_LEVEL = 0.95
_BATCH = 100  # resamples at once; 10,000 examples each are 8 MB


class Difference(NamedTuple):
    """a minus b, and the ends of its 95 % interval."""

    difference: float
    low: float
    high: float


def paired_auroc_difference(
    scores_a_in: Any,
    scores_a_out: Any,
    scores_b_in: Any,
    scores_b_out: Any,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Returns by how much a's AUROC for telling OOD from in-domain inputs exceeds b's, with a 95 % interval.

    In-domain and OOD inputs are resampled apart, the same ones for both models and all seeds.

    Args:
        scores_a_in: Model a's uncertainties of in-domain inputs, (n,) or (seeds, n); may be infinite. Negate measures
            that fall with uncertainty.
        scores_a_out: Of OOD inputs, (m,) or (seeds, m).
        scores_b_in: Model b's, of the same in-domain inputs; it may have another number of seeds.
        scores_b_out: Of the same OOD inputs.
        num_resamples: Resamples to draw.
        seed: Of the draws.

    Returns:
        The difference of the means over seeds, a fraction, and the interval's ends.

    Raises:
        ShapeError: shapes aren't those, or the models' examples differ in number.
        DataError: a score is NaN or no number.
        ConfigError: `num_resamples` is below 1.

    Source: Efron & Tibshirani, 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    a_in, b_in = _same_examples(_runs(scores_a_in, "scores_a_in"), _runs(scores_b_in, "scores_b_in"))
    a_out, b_out = _same_examples(_runs(scores_a_out, "scores_a_out"), _runs(scores_b_out, "scores_b_out"))
    _check_resamples(num_resamples)
    models = [_ranked(a_in, a_out, "a"), _ranked(b_in, b_out, "b")]
    num_in, num_out = a_in.shape[1], a_out.shape[1]

    def difference(times_in: np.ndarray, times_out: np.ndarray) -> float:
        """Of the sample in which example i occurs times[i] times."""
        a, b = (np.mean([run.wins(times_in, times_out) for run in runs]) for runs in models)
        return float(a - b) / (num_in * num_out)

    rng = np.random.default_rng(seed)
    resampled = [
        difference(*(np.bincount(rng.integers(num, size=num), minlength=num) for num in (num_in, num_out)))
        for _ in range(num_resamples)
    ]
    low, high = np.quantile(resampled, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Difference(difference(np.ones(num_in, int), np.ones(num_out, int)), float(low), float(high))


def paired_mean_difference(values_a: Any, values_b: Any, num_resamples: int = 1000, seed: int = 0) -> Difference:
    """Returns by how much the mean of a's values exceeds that of b's, with a 95 % interval: for errors or NLLs.

    Args:
        values_a: One value for each example, (n,) or (seeds, n), n at least 2: for instance 1 where a prediction is
            wrong, or -ln p(label). Of several seeds the mean counts.
        values_b: Of the same examples; it may have another number of seeds.
        num_resamples: Resamples to draw.
        seed: Of the draws.

    Raises:
        ShapeError: shapes aren't those, or the numbers of examples differ.
        DataError: a value isn't finite.
        ConfigError: `num_resamples` is below 1.
    """
    a, b = _same_examples(_runs(values_a, "values_a"), _runs(values_b, "values_b"))
    _check_resamples(num_resamples)
    if a.shape[1] < 2:
        raise ShapeError("values_a and values_b have 1 example. Allowed: 2 or more, or there is nothing to resample.")
    with np.errstate(invalid="ignore"):
        differences = a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)
    infinite = ~np.isfinite(differences)
    if np.any(infinite):
        raise DataError(
            f"example {int(np.argmax(infinite))} has an infinite value, as have {int(infinite.sum())}. Allowed: finite "
            "ones. For NLLs take logarithms from logits in float64."
        )
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=num_resamples,
        batch=_BATCH,
        confidence_level=_LEVEL,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Difference(float(differences.mean()), float(interval.low), float(interval.high))


class _Ranked(NamedTuple):
    """One model's scores, sorted once, so that a resample takes time in proportion to the examples."""

    order: np.ndarray  # of the in-domain scores, rising, (n,)
    below: np.ndarray  # how many of them lie below each OOD score, (m,)
    up_to: np.ndarray  # and how many at or below it, (m,)

    def wins(self, times_in: np.ndarray, times_out: np.ndarray) -> float:
        """Returns the pairs in which the OOD score is the higher one, ties as halves."""
        total = np.concatenate([[0], np.cumsum(times_in[self.order])])
        return float(times_out @ (total[self.below] + total[self.up_to])) / 2


def _ranked(inside: np.ndarray, outside: np.ndarray, model: str) -> list[_Ranked]:
    if len(inside) != len(outside):
        raise ShapeError(
            f"scores_{model}_in have {len(inside)} seeds and scores_{model}_out {len(outside)}. Give the same models' "
            "scores in both."
        )
    ranked = []
    for one, other in zip(inside, outside, strict=True):
        order = np.argsort(one, kind="stable")
        rising = one[order]
        ranked.append(_Ranked(order, np.searchsorted(rising, other, "left"), np.searchsorted(rising, other, "right")))
    return ranked


def _runs(values: Any, name: str) -> np.ndarray:
    """Returns checked values as (seeds, n)."""
    values = np.asarray(values)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ShapeError(f"{name} have shape {values.shape}. Allowed: (n,) or (seeds, n), with 1 example or more.")
    rows = np.atleast_2d(values)
    for row in rows:
        checks.vector(row, name)
    return rows


def _same_examples(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if a.shape[1] != b.shape[1]:
        raise ShapeError(f"a has {a.shape[1]} examples and b has {b.shape[1]}. Allowed: the same examples for both.")
    return a, b


def _check_resamples(num: int) -> None:
    if num < 1:
        raise ConfigError(f"num_resamples is {num!r}. Allowed: 1 or more. 1000 is common.")
