"""Differences between two models on the same test examples, and whether they are more than noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from end2_tf import metrics
from end2_tf.compare.runs import Finished, Run
from end2_tf.progress import Report

Outcome = Literal["wins", "ties", "loses", "unknown"]
BEST = "best"  # of each model the one score that a user would choose


class Pair(NamedTuple):
    """Two models; differences are a minus b."""

    a: str
    b: str


# Distribution against mean, without and with auxiliary data: the question itself.
QUESTION = (Pair("end2", "end"), Pair("end2_aux", "end_aux"))
TO_ENSEMBLE = Pair("end2_aux", "ensemble")
TO_LABELS = Pair("end2_aux", "single_matched")  # the controls: no teacher; on the members' inputs,
TO_MIXUP = Pair("end2_aux", "single_mixup")  # and on the students'
PAPER = Pair("end2_nll_aux", "end_aux")  # the paper's own loss in EnD²'s place
PAIRS = (
    *QUESTION,
    TO_ENSEMBLE,
    TO_LABELS,
    TO_MIXUP,
    Pair("end2_nll_aux", "end2_aux"),
    PAPER,
    Pair("end2_proxy_aux", "end_aux"),
)


@dataclasses.dataclass(frozen=True)
class Difference:
    """One measure of model a minus that of model b, seeds averaged.

    Args:
        pair: The models.
        dataset: "test", or an OOD set.
        metric: "error" (fraction), "nll" (nats) or "ood_auroc" (fraction).
        score: For "ood_auroc": "total", or `BEST`.
        value: The difference, in the metric's own unit.
        low: Lower end of its 95 % interval over test examples.
        high: Upper end.
        spread: Standard deviation over seeds of a difference of one seed each, the root of the summed squares of both
            models'; the ensemble counts as given. None where a student has one seed only.
    """

    pair: Pair
    dataset: str
    metric: str
    score: str
    value: float
    low: float
    high: float
    spread: float | None

    @property
    def outcome(self) -> Outcome:
        """How a does against b: wins and losses are beyond chance over both examples and seeds."""
        if self.spread is None:
            return "unknown"
        if not self.excludes_zero or abs(self.value) <= self.spread or self.is_negligible:
            return "ties"
        return "wins" if (self.value > 0) == (self.metric == "ood_auroc") else "loses"

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval over test examples does."""
        return not self.low <= 0 <= self.high

    @property
    def is_negligible(self) -> bool:
        """Whether it is printed as 0, as that of two AUROCs near 100 % is: it may be sure, and doesn't matter."""
        return _rounded(self.value, self.metric) == 0


def of(finished: Finished, num_resamples: int = 1000, report: Report = lambda *args: None) -> list[Difference]:
    """Returns all differences between the models of `PAIRS` that the run has.

    Args:
        finished: A finished run.
        num_resamples: Of each interval's bootstrap.
        report: Called with progress.
    """
    pairs = [pair for pair in PAIRS if all(model in finished.run.kept for model in pair)]
    found: list[Difference] = []
    for done, pair in enumerate(pairs):
        report(f"comparing on {finished.run.name}", done, len(pairs), {})
        found += _of_pair(finished, pair, num_resamples)
    report(f"comparing on {finished.run.name}", len(pairs), len(pairs), {})
    return found


def _of_pair(finished: Finished, pair: Pair, num_resamples: int) -> Iterator[Difference]:
    run, (a, b) = finished.run, pair
    for metric, values in (("error", finished.wrong), ("nll", finished.nll)):
        found = metrics.paired_mean_difference(values(a), values(b), num_resamples)
        yield Difference(pair, "test", metric, "", *found, _spread(run, pair, "test", (metric, metric)))
    for dataset in run.ood:
        for score in ("total", BEST):
            kinds = (run.best_kind(a), run.best_kind(b)) if score == BEST else ("total", "total")
            a_in, a_out = (finished.scores(a, place, kinds[0]) for place in ("test", dataset))
            b_in, b_out = (finished.scores(b, place, kinds[1]) for place in ("test", dataset))
            found = metrics.paired_auroc_difference(a_in, a_out, b_in, b_out, num_resamples)
            spread = _spread(run, pair, dataset, (f"ood_auroc_{kinds[0]}", f"ood_auroc_{kinds[1]}"))
            yield Difference(pair, dataset, "ood_auroc", score, *found, spread)


def _spread(run: Run, pair: Pair, dataset: str, names: tuple[str, str]) -> float | None:
    """Returns the root of the summed variances over seeds."""
    squares = 0.0
    for model, name in zip(pair, names, strict=True):
        if model == "ensemble":
            continue
        sd = run.sd(model, name, dataset)
        if sd is None:
            return None
        squares += sd**2
    return math.sqrt(squares)


_UNITS = {
    "nll": ("nats", 1.0, 3),
    "prr": ("points", 1.0, 1),
    "error": ("points", 100.0, 2),
    "ece": ("points", 100.0, 2),
}
_AUROC = ("points", 100.0, 1)
_MOST_DIGITS = 9  # from there on, two numbers differ by no more than floats err


def amount(difference: float | None, metric: str, with_unit: bool = True, limit: float | None = None) -> str:
    """Returns a difference with its sign, as people read it: "+1.3 points", "−0.012 nats"; "–" for None.

    Args:
        difference: In the metric's own unit.
        metric: Of which it is a difference.
        with_unit: Whether to name the unit.
        limit: What it mustn't look like unless it is the same: more digits are printed if it would.
    """
    if difference is None:
        return "–"
    unit, factor, digits = _UNITS.get(metric, _AUROC)
    if limit is not None:
        digits = digits_apart(factor * difference, factor * limit, digits)
    rounded = round(factor * difference, digits)
    text = f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"
    return f"{text} {unit}" if with_unit else text


def digits_apart(value: float, limit: float, digits: int) -> int:
    """Returns how many decimals a value is printed with, at least `digits`, so that it doesn't look like a limit."""
    enough = (more for more in range(digits, _MOST_DIGITS) if round(value, more) != round(limit, more))
    return next(enough, digits)


def _rounded(difference: float, metric: str) -> float:
    """Returns a difference in the unit and with the digits in which it is printed."""
    _, factor, digits = _UNITS.get(metric, _AUROC)
    return round(factor * difference, digits)
