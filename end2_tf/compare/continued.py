"""A run that goes on where an earlier one ended: further students, or more seeds of them, of the same ensemble."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from end2_tf.compare.differences import PAIRS, Difference
from end2_tf.compare.runs import METHODS, TEACHERS, Run

_SAME = 1e-3  # as far as predictions of a published ensemble may be from its members', whose weights it rounds
_OF_MEMBERS = (*TEACHERS, "single")


def begun(run: Run, earlier: Iterable[Run]) -> Run | None:
    """Returns the earlier run that a run goes on with, if there is one.

    It is one of the same experiment whose ensemble has the same results on the same sets, to 1e-3 (PRR, in percent, to
    0.1); a run that trained members of its own begins anew.
    """
    return next(
        (e for e in earlier if run.is_brought and _facts(e) == _facts(run) and _has_same_ensemble(run, e)), None
    )


def _facts(run: Run) -> tuple[object, ...]:
    return run.experiment, run.data, run.num_members, run.counts


def _has_same_ensemble(run: Run, earlier: Run) -> bool:
    rows = [row for row in run.rows if row.model == "ensemble"]
    found = [(row.metric, row.value, earlier.value("ensemble", row.metric, row.dataset)) for row in rows]
    return bool(found) and all(
        a is not None and b is not None and abs(a - b) <= _SAME * (100 if metric == "prr" else 1)
        for metric, a, b in found
    )


def join(earlier: tuple[Run, list[Difference]], run: Run, found: list[Difference]) -> tuple[Run, list[Difference]]:
    """Returns an earlier run with a later one's students in the place of its own.

    Differences between a student that was replaced and one that wasn't are left out: they were of other trainings.

    Args:
        earlier: The run that it goes on with, and its differences.
        run: What it adds.
        found: The differences between its own models.
    """
    before, differences = earlier
    new = [model for model in run.models if model not in _OF_MEMBERS]
    models = list(dict.fromkeys([*before.models, *new]))
    joined = dataclasses.replace(
        before,
        models=[m for m in METHODS if m in models] + [m for m in models if m not in METHODS],
        rows=[row for row in before.rows if row.model not in new] + [row for row in run.rows if row.model in new],
        gap_closed=[g for g in before.gap_closed if g.model not in new] + [g for g in run.gap_closed if g.model in new],
        epochs_of={m: e for m, e in before.epochs_of.items() if m not in new} | _other_epochs(run, new, before.epochs),
        commits_of={m: c for m, c in before.commits_of.items() if m not in new} | dict.fromkeys(new, run.commit),
        **{
            name: getattr(before, name) | {m: value for m, value in getattr(run, name).items() if m in new}
            for name in ("labels", "label_shares", "scores", "kept")
        },
    )
    kept = [d for d in differences if not set(d.pair) & set(new)]
    return joined, sorted([*kept, *found], key=lambda d: PAIRS.index(d.pair))


def _other_epochs(run: Run, models: Iterable[str], epochs: int | None) -> dict[str, int]:
    found = {model: run.epochs_of.get(model, run.epochs) for model in models}
    return {model: own for model, own in found.items() if own and own != epochs}
