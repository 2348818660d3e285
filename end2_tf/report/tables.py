"""The page's numbers as text: headline, results, share of the gap closed, every row, definitions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from end2_tf import metrics
from end2_tf.report import style
from end2_tf.report.inputs import Evaluation

_IN_DOMAIN_COLUMNS = ("error", "nll", "ece", "prr")
_SHIFTED_COLUMNS = ("error", "nll", "ece", "knowledge_mean")
_OOD_COLUMNS = ("ood_auroc_total", "ood_auroc_knowledge")
_SAME_AUROC = 0.02  # smaller differences count as none: 2 sd over seeds are up to 0.018 in the EnD² paper's table 4
_LITTLE_AUROC = 0.6
_OF_KNOWLEDGE = {
    "knowledge_mean": "Mean knowledge uncertainty in nats; on shifted inputs it should be higher than in-domain.",
    "knowledge_rank_correlation": "Spearman's rank correlation of a student's knowledge uncertainty with the "
    "ensemble's, on the same inputs.",
    "knowledge_mean_ratio": "A student's mean knowledge uncertainty divided by the ensemble's, on the same inputs.",
}


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of the results table."""

    metric: str
    dataset: str
    head: str
    unit: str
    group: str = ""  # the OOD or shifted set, printed once above its columns

    @property
    def arrow(self) -> str:
        return {1: "↑", -1: "↓", 0: ""}[style.metric(self.metric).better]


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value as printed, its spread, and whether no student is better."""

    text: str
    spread: str = ""
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Line:
    """One model's row: its name, colour, a note on what it is, its cells."""

    label: str
    colour: str
    note: str
    cells: list[Cell]
    is_published: bool = False  # what a paper reports, not a measurement of this run


def columns(evaluation: Evaluation) -> list[Column]:
    """Returns the columns that any model has a value for."""
    wanted = [Column(m, evaluation.split, style.metric(m).label, style.metric(m).unit) for m in _IN_DOMAIN_COLUMNS]
    wanted.append(Column("knowledge_rank_correlation", evaluation.split, "Rank corr.", "of knowledge"))
    for name in evaluation.ood_names:
        wanted += [Column(m, name, m.rsplit("_", 1)[1], "AUROC, %", group=name) for m in _OOD_COLUMNS]
    return [c for c in wanted if any(evaluation.value(m, c.metric, c.dataset) is not None for m in evaluation.models)]


def results(evaluation: Evaluation) -> tuple[list[Column], list[Line]]:
    """Returns the results table: columns, and a line per model, below it what is published of such a model."""
    heads = columns(evaluation)
    own = dict(zip(evaluation.models, _lines(evaluation, heads, evaluation.models), strict=True))
    published = _published_lines(evaluation, heads)
    elsewhere = [line for model, line in published.items() if model not in own]
    beside = [[line, *([published[model]] if model in published else [])] for model, line in own.items()]
    return heads, [*(line for lines in beside for line in lines), *elsewhere]


def shifted(evaluation: Evaluation) -> tuple[list[Column], list[Line]]:
    """Returns the table of shifted sets beside the in-domain set; both empty where there are none.

    Of a shift at several severities, which have a picture, it shows the strongest.
    """
    weaker = {name for sets in evaluation.shifts.values() for name in list(sets.values())[:-1]}
    names = [name for name in evaluation.shifted_names if name not in weaker]
    datasets = [evaluation.split, *names] if names else []
    heads = [
        Column(m, name, style.metric(m).label, style.metric(m).unit, group=name)
        for name in datasets
        for m in _SHIFTED_COLUMNS
    ]
    models = [m for m in evaluation.models if any(evaluation.row(m, "error", name) for name in names)]
    return heads, _lines(evaluation, heads, models)


def _lines(evaluation: Evaluation, heads: list[Column], models: list[str]) -> list[Line]:
    best = [_best(evaluation, column) for column in heads]
    lines = []
    for model in models:
        cells = []
        for column, top in zip(heads, best, strict=True):
            row = evaluation.row(model, column.metric, column.dataset)
            text = style.number(row["value"] if row else None, column.metric)
            spread = _spread(row, column.metric) if text != "–" else ""
            cells.append(Cell(text, spread, best=text == top and style.is_student(model)))
        look = evaluation.style(model)
        note = _note(evaluation, model)
        lines.append(Line(evaluation.label(model), look.colour, note, cells))
    return lines


def _published_lines(evaluation: Evaluation, heads: list[Column]) -> dict[str, Line]:
    """Returns a line for each model of which a paper reports any of the columns; papers report of test sets."""
    lines = {}
    for model in style.in_order(evaluation.published.get("test", {}) if evaluation.split == "test" else ()):
        figures = [evaluation.published_figure(model, head.metric, head.dataset) for head in heads]
        if any(figure is not None for figure in figures):
            look = evaluation.style(model)
            cells = [_published_cell(figure, head.metric) for figure, head in zip(figures, heads, strict=True)]
            lines[model] = Line(f"{look.label}, published", look.colour, "", cells, is_published=True)
    return lines


def _published_cell(figure: tuple[float, float | None] | None, metric: str) -> Cell:
    """Returns a published figure with a digit less than our own have, as papers print them."""
    if figure is None:
        return Cell("–")
    how = style.metric(metric)
    mean, spread = (None if part is None else f"{part * how.scale:.{max(1, how.digits - 1)}f}" for part in figure)
    return Cell(mean or "–", "" if spread is None else f"± {spread}")


def _best(evaluation: Evaluation, column: Column) -> str | None:
    """Returns the best student's value as printed, so that equal prints are equally marked; None without a rival."""
    better = style.metric(column.metric).better
    found = [evaluation.value(m, column.metric, column.dataset) for m in evaluation.students]
    values = [v for v in found if v is not None]
    if better == 0 or len(values) < 2:
        return None
    return style.number(max(values, key=lambda v: better * v), column.metric)


def _spread(row: dict[str, Any] | None, metric: str) -> str:
    """Returns "± sd (n)", or nothing where there is only one value."""
    sd = row.get("sd") if row else None
    if row is None or sd is None or not math.isfinite(sd):
        return ""
    return f"± {style.number(sd, metric)} ({row.get('n', '?')})"


def _note(evaluation: Evaluation, model: str) -> str:
    """Returns what a model is: the loss that its config names, or its part in the comparison."""
    fixed = {
        "single": "mean over members" if evaluation.num_members != 1 else "trained on labels",
        "single_matched": "labels only, trained like a student",
        "ensemble": "the teacher" if "teacher" not in evaluation.models else "all members",
        "teacher": "the members that students learn from",
        "bayes": "the best there can be",
    }
    method = evaluation.results["config"].get("methods", {}).get(model)
    if model not in fixed and isinstance(method, dict) and "loss" in method:
        return f"loss {method['loss']}"
    return fixed.get(model, "")


def gaps(evaluation: Evaluation) -> tuple[list[tuple[str, str]], list[Line]]:
    """Returns the share of the way from a single member to the ensemble, per cent, per student and metric.

    Heads are pairs: the metric, and how wide its gap is.
    """
    given = evaluation.results["gap_closed"]
    names = list(dict.fromkeys(g["metric"] for g in given))
    found = {(g["model"], g["metric"]): g["value"] for g in given}
    lines = []
    for model in style.in_order(g["model"] for g in given):
        cells = [Cell(_per_cent(found.get((model, metric)))) for metric in names]
        lines.append(Line(evaluation.label(model), evaluation.style(model).colour, "", cells))
    return [(style.metric(m).label, _size(given, m)) for m in names], lines


def _size(given: list[dict[str, Any]], metric: str) -> str:
    """Returns "of 1.05 %", the gap itself, where the evaluation gives it: shares of a tiny gap are noise."""
    size = next((g["gap"] for g in given if g["metric"] == metric and g.get("gap") is not None), None)
    unit = style.metric(metric).unit
    return "" if size is None else f"of {style.number(size, metric)} {unit}"


def _per_cent(share: float | None) -> str:
    if share is None or not math.isfinite(share):
        return "–"
    return f"{100 * share:.0f} %"


def every_row(evaluation: Evaluation) -> list[list[str]]:
    """Returns results.json's rows as text, values at six digits in its own units."""

    def plain(value: Any) -> str:
        return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

    return [
        [
            evaluation.label(r["model"]),
            r["dataset"],
            r["metric"],
            plain(r["value"]),
            plain(r.get("sd")),
            plain(r.get("n")),
        ]
        for r in evaluation.rows
    ]


def definitions(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Returns (label, sentence, unit) for every kind of metric in the rows; results.json's own sentences go first."""
    sentences = metrics.DEFINITIONS | _OF_KNOWLEDGE | evaluation.results["definitions"]
    bins = evaluation.results["num_bins"]
    found = []
    for prefix in dict.fromkeys(style.metric_prefix(row["metric"]) for row in evaluation.rows):
        how = style.metric(prefix)
        sentence = sentences.get(prefix, "")
        if prefix == "ece":
            sentence += f" Number of bins here: {bins}."
        found.append((how.label, sentence, how.unit))
    return found


def headline(evaluation: Evaluation) -> list[str]:
    """Returns one or two sentences: how accurate and how cheap the student is, and whether it knows what it doesn't."""
    student, members = evaluation.recommended, evaluation.num_members
    values = {m: evaluation.value(m, "error") for m in (student, "ensemble", "single") if m in evaluation.models}
    wrong = {m: f"{style.number(v, 'error')}\u00a0%" for m, v in values.items() if v is not None}
    parts = []
    if student in wrong:
        parts.append(
            f"{evaluation.label(student)} gets {wrong[student]} of the {evaluation.split} inputs wrong with one "
            "forward pass"
        )
    if "ensemble" in wrong:
        passes = f" with {members} passes" if members and student in wrong else ""
        parts.append(f"the {evaluation.label('ensemble').lower()} gets {wrong['ensemble']} wrong{passes}")
    if "single" in wrong:
        parts.append(f"a single member {wrong['single']}" if parts else f"a single member gets {wrong['single']} wrong")
    if not parts:
        return [f"No model's {evaluation.split} error is among the results."]
    text = "; ".join(parts[:2]) + "".join(f", and {part}" for part in parts[2:]) + "."
    first = text[0].upper() + text[1:]
    if student not in wrong:
        return [first, "No distilled student was evaluated."]
    return [first, *_knows(evaluation, student)]


def _knows(evaluation: Evaluation, student: str) -> list[str]:
    """Says how the student's knowledge uncertainty compares with the ensemble's, by rank and by OOD detection."""
    parts = []
    rank = evaluation.value(student, "knowledge_rank_correlation")
    if rank is not None:
        how = next(word for least, word in _RANK_WORDS if rank >= least)
        parts.append(f"ranks {evaluation.split} inputs {how} the ensemble's (rank correlation {rank:.2f})")
    own = _mean_auroc(evaluation, student)
    if own is not None:
        teacher = _mean_auroc(evaluation, "ensemble")
        names = _unknown_sets(evaluation)
        sets = names[0] if len(names) == 1 else f"{len(names)} OOD sets, on average"
        against = "" if teacher is None else f" against {100 * teacher:.1f}\u00a0%"
        if max(own, teacher or 0.0) < _LITTLE_AUROC:
            how = "poorly" if teacher is None else "poorly, as the ensemble's does"
            chance = "; 50\u00a0% is chance"
        else:
            how, chance = _compared(own, teacher), ""
        parts.append(
            f"tells {evaluation.split} inputs from OOD inputs ({sets}) {how} "
            f"(AUROC {100 * own:.1f}\u00a0%{against}{chance})"
        )
    return [f"Its knowledge uncertainty {' and '.join(parts)}."] if parts else []


_RANK_WORDS = ((0.8, "much like"), (0.5, "roughly like"), (0.2, "only loosely like"), (-math.inf, "hardly like"))


def _compared(own: float, teacher: float | None) -> str:
    if teacher is None:
        return "well" if own >= 0.8 else "in part"
    if abs(own - teacher) < _SAME_AUROC:
        return "about as well as the ensemble's"
    return "better than the ensemble's" if own > teacher else "less well than the ensemble's"


def _mean_auroc(evaluation: Evaluation, model: str) -> float | None:
    """Mean over the OOD sets, by knowledge uncertainty; None unless every set has a value."""
    values = [evaluation.value(model, "ood_auroc_knowledge", name) for name in _unknown_sets(evaluation)]
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _unknown_sets(evaluation: Evaluation) -> list[str]:
    """Returns the OOD sets of other classes: those that are shifted sets too are no test of knowing the unknown."""
    return [name for name in evaluation.ood_names if name not in evaluation.shifted_names]
