"""What a recommended student should reach, and whether it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from end2_tf.compare.differences import amount, digits_apart
from end2_tf.compare.runs import KINDS, Run


@dataclasses.dataclass(frozen=True)
class Targets:
    """Thresholds: fractions for error, ECE and AUROC (0.01 is a point), nats for NLL.

    Where the error gap between a single model and the ensemble is below `small_gap`, a share of it means little, and
    being close to the ensemble counts instead.
    """

    gap_closed: float = 0.80  # share of the way from single model to ensemble
    gap_closed_of: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"fashion_mnist_mlp": 0.95})
    small_gap: float = 0.007
    error_above_ensemble: float = 0.002
    nll_above_ensemble: float = 0.005
    error_above_end: float = 0.001
    nll_above_end: float = 0.005
    prr_below_ensemble: float = 0.5  # of 100
    ece_above_ensemble: float = 0.005
    auroc_below_ensemble: float = 0.005
    rank_correlation: float = 0.9
    knowledge_mean_off: float = 0.2  # of the ensemble's


@dataclasses.dataclass(frozen=True)
class Check:
    """One target for one student.

    Args:
        student: Its method.
        what: What is checked.
        target: The threshold in words.
        value: What was found; for "better" than several models, the smallest lead. None where it wasn't measured.
        found: The same in words.
        passed: Whether it passes; None where it can't be told.
    """

    student: str
    what: str
    target: str
    value: float | None
    found: str
    passed: bool | None


STUDENTS = {"end2_aux": "end_aux", "end2": "end"}  # each beside the EnD that saw the same data

_NAMES = {"single": "a single member", "single_matched": "the same network on labels", "end": "EnD", "end_aux": "EnD"}


def checks(run: Run, targets: Targets | None = None) -> list[Check]:
    """Returns every check of every recommended student that the run has; means over seeds are compared."""
    return [
        check
        for student, end in STUDENTS.items()
        if student in run.models
        for check in _Checks(run, student, end, targets or Targets()).all()
    ]


class _Checks:
    def __init__(self, run: Run, student: str, end: str, targets: Targets):
        self.run, self.student, self.end, self.targets = run, student, end, targets

    def all(self) -> Iterator[Check]:
        targets = self.targets
        yield from self._gaps()
        yield self._at_most("Error against EnD", "error", self.end, targets.error_above_end)
        yield self._at_most("NLL against EnD", "nll", self.end, targets.nll_above_end)
        yield self._at_least("PRR against the ensemble", "prr", targets.prr_below_ensemble)
        yield self._at_most("ECE against the ensemble", "ece", "ensemble", targets.ece_above_ensemble)
        for dataset in self.run.ood:
            for kind in KINDS:
                what, metric = f"AUROC on {dataset} by {kind}", f"ood_auroc_{kind}"
                yield self._at_least(f"{what} against the ensemble", metric, targets.auroc_below_ensemble, dataset)
                yield self._better(what, metric, (self.end, "single"), dataset)
        yield self._rank()
        yield self._mean()
        yield self._better("NLL", "nll", ("single_matched",))
        kind = self.run.best_kind(self.student)
        for dataset in self.run.ood:
            yield self._better(f"AUROC on {dataset} by {kind}", f"ood_auroc_{kind}", ("single_matched",), dataset)

    def _gaps(self) -> Iterator[Check]:
        targets = self.targets
        single, ensemble = (self.run.value(model, "error") for model in ("single", "ensemble"))
        if single is not None and ensemble is not None and single - ensemble < targets.small_gap:
            yield self._at_most("Error against the ensemble", "error", "ensemble", targets.error_above_ensemble)
            yield self._at_most("NLL against the ensemble", "nll", "ensemble", targets.nll_above_ensemble)
            return
        least = targets.gap_closed_of.get(self.run.name, targets.gap_closed)
        for metric, label in (("error", "Error"), ("nll", "NLL")):
            found = gap_closed(self.run, self.student, metric)
            passed = None if found is None else found >= least
            text = share(found, least if passed is False else None)
            yield Check(self.student, f"{label} gap closed", f"≥ {share(least)}", found, text, passed)

    def _at_most(self, what: str, metric: str, other: str, allowed: float) -> Check:
        """Checks that the student's value lies at most `allowed` above the other's."""
        found = self._difference(metric, other)
        passed = None if found is None else found <= allowed
        text = amount(found, metric, limit=allowed if passed is False else None)
        return Check(self.student, what, f"≤ {amount(allowed, metric)}", found, text, passed)

    def _at_least(self, what: str, metric: str, allowed: float, dataset: str = "test") -> Check:
        """Checks that the student's value lies at most `allowed` below the ensemble's."""
        found = self._difference(metric, "ensemble", dataset)
        passed = None if found is None else found >= -allowed
        text = amount(found, metric, limit=-allowed if passed is False else None)
        return Check(self.student, what, f"≥ {amount(-allowed, metric)}", found, text, passed)

    def _better(self, what: str, metric: str, others: tuple[str, ...], dataset: str = "test") -> Check:
        """Checks that the student beats each of the others."""
        what = f"{what} against {' and '.join(_NAMES[other] for other in others)}"
        found = [self._difference(metric, other, dataset) for other in others]
        text = ", ".join(amount(difference, metric, limit=0.0) for difference in found)
        sign = -1 if metric == "nll" else 1
        leads = [sign * difference for difference in found if difference is not None]
        if len(leads) < len(others):
            return Check(self.student, what, "better", None, text, None)
        return Check(self.student, what, "better", sign * min(leads), text, min(leads) > 0)

    def _rank(self) -> Check:
        value, least = self.run.value(self.student, "knowledge_rank_correlation"), self.targets.rank_correlation
        what, target = "Rank correlation of knowledge", f"≥ {least:g}"
        if value is None:
            return Check(self.student, what, target, None, "–", None)
        passed = value >= least
        return Check(self.student, what, target, value, _number(value, 3, None if passed else least), passed)

    def _mean(self) -> Check:
        value, off = self.run.value(self.student, "knowledge_mean_ratio"), self.targets.knowledge_mean_off
        what, target = "Mean knowledge over the ensemble's", f"{1 - off:g} to {1 + off:g}"
        if value is None:
            return Check(self.student, what, target, None, "–", None)
        passed, nearest = abs(value - 1) <= off, 1 + off if value > 1 else 1 - off
        return Check(self.student, what, target, value, _number(value, 2, None if passed else nearest), passed)

    def _difference(self, metric: str, other: str, dataset: str = "test") -> float | None:
        """Returns the student's value minus the other's; knowledge is met by total where the other has total only."""
        theirs = f"ood_auroc_{self.run.best_kind(other)}" if metric == "ood_auroc_knowledge" else metric
        a, b = self.run.value(self.student, metric, dataset), self.run.value(other, theirs, dataset)
        return None if a is None or b is None else a - b


def gap_closed(run: Run, model: str, metric: str) -> float | None:
    """Returns the share of the gap between single model and ensemble that a student closes; None within noise."""
    return next((g.value for g in run.gap_closed if g.model == model and g.metric == metric), None)


def share(of_gap: float | None, missed: float | None = None) -> str:
    """Returns a share of a gap in per cent; None is a gap that is no larger than noise.

    Args:
        of_gap: The share.
        missed: A share that it didn't reach, and mustn't look like.
    """
    if of_gap is None:
        return "within noise"
    return f"{_number(100 * of_gap, 0, None if missed is None else 100 * missed)} %"


def _number(value: float, digits: int, missed: float | None) -> str:
    """Returns a number with at least so many decimals, more if it would look like a limit that it missed."""
    digits = digits if missed is None else digits_apart(value, missed, digits)
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
