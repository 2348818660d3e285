"""The answer in words. Every sentence is put together from the differences; none knows how they will come out."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from end2_tf.compare.differences import (
    BEST,
    PAPER,
    QUESTION,
    TO_ENSEMBLE,
    TO_LABELS,
    TO_MIXUP,
    Difference,
    Outcome,
    amount,
)
from end2_tf.compare.runs import Run
from end2_tf.compare.saved import Found

_VERBS: dict[Outcome, str] = {
    "wins": "wins on",
    "ties": "ties on",
    "loses": "loses on",
    "unknown": "isn't judged (one seed) on",
}
_NAMES = {"error": "error", "nll": "NLL"}
_CONTROLS = {
    TO_LABELS: "the same network trained on labels alone",
    TO_MIXUP: "the same network trained on labels alone but on the students' inputs",
}


def overall(found: Found) -> list[str]:
    """Returns the answer over all runs: a headline, then a sentence for each kind of measure.

    Args:
        found: Runs and their differences.
    """
    asked = [(run, d) for run, differences in found for d in differences if d.pair in QUESTION]
    if not asked:
        return ["No run has both EnD and EnD², so there is nothing to answer."]
    kinds = (
        ("By the score a user would choose, knowledge uncertainty of EnD² and total uncertainty of EnD", "score", BEST),
        ("By total uncertainty of both", "score", "total"),
        ("In error", "metric", "error"),
        ("In NLL", "metric", "nll"),
    )
    lines = [_headline([d for _, d in asked])]
    for lead, field, value in kinds:
        some = [(run, d) for run, d in asked if getattr(d, field) == value]
        if some:
            lines.append(f"{lead}, EnD² {_tally(some)}.")
    paper = [(run, d) for run, differences in found for d in differences if d.pair == PAPER and d.score == BEST]
    if paper:
        lines.append(f"The paper's likelihood as EnD², with auxiliary data and by that score, {_tally(paper)}.")
    return lines


def _headline(asked: Sequence[Difference]) -> str:
    """Says yes, no or in between for OOD detection by each model's best score, and how it is with accuracy."""
    ood = {
        "better": "Yes: EnD², by knowledge uncertainty, tells OOD inputs better than EnD, by total, in every "
        "comparison",
        "partly": "In part: EnD², by knowledge uncertainty, tells OOD inputs better than EnD, by total, in some "
        "comparisons and worse in none",
        "mixed": "It depends: EnD², by knowledge uncertainty, tells OOD inputs better than EnD, by total, in some "
        "comparisons and worse in others",
        "same": "No: at telling OOD inputs, EnD² and EnD differ by no more than noise, or by too little to matter",
        "worse": "No: EnD², by knowledge uncertainty, tells OOD inputs worse than EnD, by total, in some comparisons "
        "and better in none",
        "unknown": "Not known yet: of one seed a method, OOD detection can't be told from luck",
        "absent": "No OOD set was measured",
    }
    accuracy = {
        "better": "it has the lower error and NLL in every comparison",
        "partly": "its error or NLL is lower in some comparisons and higher in none",
        "mixed": "its error or NLL is lower in some comparisons and higher in others",
        "same": "error and NLL differ by no more than noise, or by too little to matter",
        "worse": "its error or NLL is higher in some comparisons and lower in none",
        "unknown": "error and NLL can't be told either",
    }
    at_ood, at_test = ([d for d in asked if d.score == BEST], [d for d in asked if d.dataset == "test"])
    return f"{ood[_verdict(at_ood)]}{_known(at_ood)}; {accuracy[_verdict(at_test)]}{_known(at_test)}."


def _known(some: Sequence[Difference]) -> str:
    """Says how many comparisons an answer rests on, where others couldn't be told."""
    told = sum(d.outcome != "unknown" for d in some)
    return f" (of those that can be told, {told} of {len(some)})" if 0 < told < len(some) else ""


def _verdict(some: Sequence[Difference]) -> str:
    every = {d.outcome for d in some}
    outcomes = every - {"unknown"}
    if not outcomes:
        return "unknown" if some else "absent"
    if every == {"wins"}:
        return "better"
    if "wins" in outcomes:
        return "mixed" if "loses" in outcomes else "partly"
    return "worse" if "loses" in outcomes else "same"


def _tally(some: Sequence[tuple[Run, Difference]]) -> str:
    """Returns "wins 3 of 4 comparisons, ties in 1 and loses 0: +4.1 points on average (near +1.0, far +7.2)"."""
    counted = collections.Counter(d.outcome for _, d in some)
    text = f"wins {counted['wins']} of {len(some)} comparisons, ties in {counted['ties']} and loses {counted['loses']}"
    if counted["unknown"]:
        text += f" ({counted['unknown']} of one seed aren't told)"
    text += f": {_mean([d for _, d in some])} on average over all"
    means = {
        distance: [d for run, d in some if d.score and run.distance(d.dataset) == distance]
        for distance in ("near", "far")
    }
    if all(means.values()):
        text += f" ({', '.join(f'{distance} {_mean(of_it)}' for distance, of_it in means.items())})"
    return text


def _mean(some: Sequence[Difference]) -> str:
    return amount(sum(d.value for d in some) / len(some), some[0].metric)


def of_run(run: Run, differences: Sequence[Difference]) -> list[str]:
    """Returns the answer on one data set: a sentence for each pair of models, then what the controls say."""
    leads = {
        QUESTION[0]: "Without auxiliary data, EnD² against EnD",
        QUESTION[1]: "With auxiliary data, EnD² against EnD",
        TO_ENSEMBLE: f"{run.label(TO_ENSEMBLE.a)} against the ensemble",
        **{pair: f"{run.label(pair.a)} against {control}" for pair, control in _CONTROLS.items()},
    }
    lines = []
    for pair in dict.fromkeys(d.pair for d in differences):
        lead = leads.get(pair, f"{run.label(pair.a)} against {run.label(pair.b)}")
        lines.append(_sentence(run, [d for d in differences if d.pair == pair], lead))
    return [*lines, *_gain(run, differences)]


def _sentence(run: Run, some: Sequence[Difference], lead: str) -> str:
    kinds = [run.best_kind(model) for model in some[0].pair]
    by_best = f"by {' against '.join(dict.fromkeys(kinds))} uncertainty"
    parts = [_clause([d for d in some if d.dataset == "test"], run)]
    # Where neither model has knowledge uncertainty, the best score is total uncertainty, and this says it once.
    for words, score in {"by total uncertainty": "total", by_best: BEST}.items():
        of_score = [d for d in some if d.score == score]
        if of_score:
            parts.append(f"{words} it {_clause(of_score, run)}")
    return f"{lead}: {'; '.join(parts)}."


def _clause(some: Sequence[Difference], run: Run) -> str:
    """Returns "wins on mnist (near, +3.0 points), ties on ring (−0.1 points)", by outcome."""
    parts = []
    for outcome in ("wins", "ties", "loses", "unknown"):
        names = [_item(d, run) for d in some if d.outcome == outcome]
        if names:
            parts.append(f"{_VERBS[outcome]} {_listed(names)}")
    return ", ".join(parts)


def _item(difference: Difference, run: Run) -> str:
    name = _NAMES.get(difference.metric, difference.dataset)
    distance = run.distance(difference.dataset) if difference.metric == "ood_auroc" else ""
    return f"{name} ({f'{distance}, ' if distance else ''}{amount(difference.value, difference.metric)})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _gain(run: Run, differences: Sequence[Difference]) -> list[str]:
    """Says whether what a student gains is distillation's: it must beat networks trained on labels in NLL and OOD."""
    asked = [d for d in differences if d.pair in _CONTROLS and (d.metric == "nll" or d.score == BEST)]
    asked = [d for d in asked if not (d.score and d.is_negligible and d.excludes_zero)]  # AUROCs near 100 %: no gain
    pairs = list(dict.fromkeys(d.pair for d in asked))
    beaten, level = (
        [
            (_CONTROLS[pair], _listed(["NLL" if d.metric == "nll" else d.dataset for d in some]))
            for pair in pairs
            if (some := [d for d in asked if d.pair == pair and d.outcome == outcome])
        ]
        for outcome in ("loses", "ties")
    )
    lines = []
    if beaten:
        by = "; ".join(f"{control} beats it on {names}" for control, names in beaten)
        lines.append(f"Not all that {run.label(asked[0].pair.a)} gains is distillation's: {by}.")
    if level:
        by = "; ".join(f"on {names} it can't be told from {control}" for control, names in level)
        lines.append(f"Not all that {run.label(asked[0].pair.a)} gains is shown to be distillation's: {by}.")
    if lines or not asked or any(d.outcome == "unknown" for d in asked):
        return lines
    measures = "NLL and OOD detection" if any(d.score for d in asked) else "NLL"
    beats = f"{run.label(asked[0].pair.a)} beats {' and '.join(_CONTROLS[pair] for pair in pairs)} in {measures}"
    if TO_MIXUP in pairs:
        return [f"{beats}. So its gain is distillation's, not that of its size, training or in-domain inputs."]
    return [
        f"{beats}. So its gain isn't that of its size or training alone; but that network has the members' inputs, not "
        "the students', so a part of it may be the inputs'."
    ]
