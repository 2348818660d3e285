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
    Difference,
    Outcome,
    amount,
)
from end2_tf.compare.runs import Run

Found = list[tuple[Run, list[Difference]]]

_VERBS: dict[Outcome, str] = {
    "wins": "wins on",
    "ties": "ties on",
    "loses": "loses on",
    "unknown": "with one seed can't be told from luck on",
}
_NAMES = {"error": "error", "nll": "NLL"}


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
        "better": "Yes: EnD² tells OOD inputs better than EnD in every comparison",
        "partly": "In part: EnD² tells OOD inputs better than EnD in some comparisons and worse in none",
        "mixed": "It depends: EnD² tells OOD inputs better than EnD in some comparisons and worse in others",
        "same": "No: at telling OOD inputs, EnD² and EnD differ by no more than noise",
        "worse": "No: EnD² tells OOD inputs worse than EnD in some comparisons and better in none",
        "unknown": "Not known yet: of one seed a method, OOD detection can't be told from luck",
        "absent": "No OOD set was measured",
    }
    accuracy = {
        "better": "it has the lower error and NLL in every comparison",
        "partly": "its error or NLL is lower in some comparisons and higher in none",
        "mixed": "its error or NLL is lower in some comparisons and higher in others",
        "same": "error and NLL differ by no more than noise",
        "worse": "its error or NLL is higher in some comparisons and lower in none",
        "unknown": "error and NLL can't be told either",
    }
    at_ood, at_test = ([d for d in asked if d.score == BEST], [d for d in asked if d.dataset == "test"])
    return f"{ood[_verdict(at_ood)]}; {accuracy[_verdict(at_test)]}."


def _verdict(some: Sequence[Difference]) -> str:
    outcomes = {d.outcome for d in some} - {"unknown"}
    if not outcomes:
        return "unknown" if some else "absent"
    if outcomes == {"wins"}:
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
    text += f": {_mean([d for _, d in some])} on average"
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
    """Returns the answer on one data set, a sentence for each pair of models that was compared."""
    leads = {
        QUESTION[0]: "Without auxiliary data, EnD² against EnD",
        QUESTION[1]: "With auxiliary data, EnD² against EnD",
        TO_ENSEMBLE: f"{run.label(TO_ENSEMBLE.a)} against the ensemble",
        TO_LABELS: f"{run.label(TO_LABELS.a)} against the same network trained on labels alone",
    }
    lines = []
    for pair in dict.fromkeys(d.pair for d in differences):
        lead = leads.get(pair, f"{run.label(pair.a)} against {run.label(pair.b)}")
        some = [d for d in differences if d.pair == pair]
        lines.append(_sentence(run, some, lead) + (_control(some) if pair == TO_LABELS else ""))
    return lines


def _sentence(run: Run, some: Sequence[Difference], lead: str) -> str:
    kinds = [run.best_kind(model) for model in some[0].pair]
    by_best = "by knowledge uncertainty" if kinds[0] == kinds[1] else f"by {kinds[0]} against {kinds[1]} uncertainty"
    parts = [_clause([d for d in some if d.dataset == "test"], run)]
    for score, words in (("total", "by total uncertainty"), (BEST, by_best)):
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


def _control(some: Sequence[Difference]) -> str:
    """Says whether the gain is distillation's: a student must beat its network trained on labels in NLL and OOD."""
    told = [d for d in some if d.outcome != "unknown" and (d.metric == "nll" or d.score == BEST)]
    if not told:
        return ""
    if all(d.outcome == "wins" for d in told):
        return " So its gain is distillation's, not that of its size or training."
    lost = _listed(["NLL" if d.metric == "nll" else d.dataset for d in told if d.outcome != "wins"])
    return f" On {lost} it doesn't beat that control: there distillation gains nothing that labels alone don't give."
