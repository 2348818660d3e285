"""What a study found, as CSV rows and as a page in Markdown."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Container, Iterator, Mapping
from typing import Any

from end2_tf.measures import MEASURES, Measure

Results = dict[str, Any]  # the content of an evaluation's results.json
Table = list[list[str]]  # a heading, then lines

CSV_COLUMNS = ("variant", "method", "dataset", "metric", "mean", "sd", "n")
SPLIT = "validation"

_SHOWN = {  # metric: heading, factor, decimals
    "error": ("error %", 100.0, 2),
    "nll": ("NLL", 1.0, 3),
    "brier": ("Brier", 1.0, 4),
    "kl_to_ensemble": ("KL", 1.0, 4),
    "prr": ("PRR", 1.0, 1),
    "ece": ("ECE %", 100.0, 2),
    "misclassification_auroc": ("misclassification AUROC %", 100.0, 1),
    "misclassification_aupr": ("misclassification AUPR %", 100.0, 1),
    "knowledge_mean": ("knowledge", 1.0, 4),
    "knowledge_rank_correlation": ("rank corr.", 1.0, 3),
    "knowledge_mean_ratio": ("knowledge ratio", 1.0, 2),
}
_OOD = "ood_"
_WIDE = 10  # columns of a table that still fits a page
_MEANINGS = {
    "kl_to_ensemble": "KL: of the mean prediction from the ensemble's, KL(ensemble ‖ student), nats.",
    "prr": "PRR: prediction rejection ratio by total uncertainty; 100 is the oracle.",
    "knowledge_rank_correlation": "Rank corr.: Spearman's, of knowledge uncertainty with the ensemble's.",
    "knowledge_mean_ratio": "Knowledge ratio: mean knowledge uncertainty over the ensemble's.",
}


@dataclasses.dataclass(frozen=True)
class Line:
    """One model of a study: what its line is called, whose results hold it, and its name there."""

    label: str
    variant: str  # "" where the model is every variant's
    model: str
    results: Results

    def row(self, dataset: str, metric: str) -> dict[str, Any] | None:
        key = (self.model, dataset, metric)
        return next((r for r in self.results["rows"] if (r["model"], r["dataset"], r["metric"]) == key), None)


def lines(results: Mapping[str, Results], ensembles: Mapping[str, str]) -> list[Line]:
    """Returns a study's lines: each variant's students, or without any its members, after their teachers.

    Where all variants have one ensemble, it and its members stand first.

    Args:
        results: Of each variant's evaluation, by label.
        ensembles: Each variant's ensemble, by its digest.
    """
    shared = len(set(ensembles.values())) == 1
    found: list[Line] = []
    taught = set()
    for number, (label, each) in enumerate(results.items()):
        if number == 0 or not shared:
            suffix = "" if shared else f", {label}"
            found.append(Line(f"ensemble of {each['num_members']}{suffix}", "" if shared else label, "ensemble", each))
        models = list(dict.fromkeys(row["model"] for row in each["rows"]))
        methods = each["config"]["student"]["methods"]
        if number == 0 and shared and methods:
            found.append(Line("one member", "", "single", each))
        num = each["config"]["transfer"]["num_members"]
        if "teacher" in models and (num, ensembles[label]) not in taught:
            taught.add((num, ensembles[label]))
            first = "the first member" if num == 1 else f"ensemble of the first {num}"
            found.append(Line(first, label, "teacher", each))
        if not methods:
            found.append(Line(f"one member, {label}", label, "single", each))
        found += [Line(label if len(methods) == 1 else f"{label}: {m}", label, m, each) for m in methods]
    return found


def to_csv(found: list[Line], columns: Container[str] | None = None) -> str:
    """Returns the lines' numbers as CSV; the page beside it says by which command they were made.

    Args:
        found: The study's lines.
        columns: OOD metrics that aren't among these are left out, which are most of the numbers; None keeps all.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for line in found:
        for r in line.results["rows"]:
            is_wanted = columns is None or not r["metric"].startswith(_OOD) or r["metric"] in columns
            if r["model"] == line.model and is_wanted:
                numbers = [_plain(r["value"]), _plain(r["sd"]), r["n"]]
                writer.writerow([line.variant, line.model, r["dataset"], r["metric"], *numbers])
    return text.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.8g}"


def in_domain(found: list[Line], columns: tuple[str, ...]) -> Table:
    """Returns the table of what was measured on validation inputs: mean ± sd (n)."""
    metrics = [metric for metric in columns if not metric.startswith(_OOD)]
    return _table(found, [(SPLIT, metric, *_SHOWN.get(metric, (metric, 1.0, 4))) for metric in metrics])


def detection(found: list[Line], columns: tuple[str, ...]) -> list[Table]:
    """Returns tables of how OOD sets are told from validation inputs, per cent: one, or one a set where it is wide."""
    metrics = [metric for metric in columns if metric.startswith(_OOD)]
    by_set = [
        [
            (name, metric, f"{name}, {metric.removeprefix(_OOD).removeprefix('auroc_').replace('_', ' ')}", 100.0, 1)
            for metric in metrics
        ]
        for name in ood_sets(found)
    ]
    if sum(map(len, by_set)) <= _WIDE:
        by_set = [[column for shown in by_set for column in shown]]
    return [_table(found, shown) for shown in by_set if shown]


def ood_sets(found: list[Line]) -> list[str]:
    """Returns the names of the OOD sets that were measured on."""
    rows = (row for line in found for row in line.results["rows"])
    return list(dict.fromkeys(row["dataset"] for row in rows if row["metric"].startswith(_OOD)))


def _table(found: list[Line], shown: list[tuple[str, str, str, float, int]]) -> Table:
    cells = [
        [line.label, *(_cell(line.row(name, metric), factor, digits) for name, metric, _, factor, digits in shown)]
        for line in found
    ]
    return [["variant", *(heading for _, _, heading, *_ in shown)], *cells]


def _cell(row: dict[str, Any] | None, factor: float, decimals: int) -> str:
    if row is None or row["value"] is None:
        return "–"
    mean = f"{factor * row['value']:.{decimals}f}"
    return mean if row["sd"] is None else f"{mean} ± {factor * row['sd']:.{decimals}f} ({row['n']})"


def protocol(found: list[Line], experiment: str, methods: tuple[str, ...]) -> str:
    """Returns what was done, in sentences: sets, members, methods, seeds, epochs.

    Args:
        found: The study's lines.
        experiment: Its name.
        methods: By which students are trained unless a variant says otherwise; empty where each variant does.
    """
    first = found[0].results
    evaluations = {id(line.results): line.results for line in found}
    students = [student for each in evaluations.values() if (student := each["config"]["student"])["methods"]]
    trained = ""
    if students:
        used = [tuple(student["methods"]) for student in students]
        if methods and methods not in used:  # a user may have set others for all
            methods = used[0]
        by = f"by `{', '.join(methods)}` unless a line says otherwise" if methods else "by the method that a line names"
        seeds = sorted(
            {
                student.get("seeds_of", {}).get(m, student["num_seeds"])
                for student in students
                for m in student["methods"]
            }
        )
        epochs = sorted({_epochs(each["config"], m) for each in evaluations.values() for m in _methods(each)})
        trained = f", students {by}, {_range(epochs)} epochs, {_range(seeds)} seed{'' if seeds == [1] else 's'} each"
    members = _range(sorted({each["num_members"] for each in evaluations.values()}))
    further = [f"{name} {num:,}" for name, num in first["counts"].items() if name != SPLIT]
    sets = f", told from {', '.join(further)}" if further else ""
    return (
        f"One thing at a time is changed in the experiment `{experiment}`: {members} members{trained}. Measured on "
        f"{first['counts'][SPLIT]:,} validation inputs{sets}. No number here is of the test set, or of an OOD set that "
        f"the experiment is tested on. Mean ± standard deviation over {'seeds' if students else 'members'} (n)"
        f"{', of one member over the members' if students else ''}; without them n is 1."
    )


def _methods(results: Results) -> list[str]:
    return results["config"]["student"]["methods"]


def _epochs(config: Mapping[str, Any], method: str) -> int:
    own = config.get("methods", {}).get(method, {}).get("epochs")
    return config["student"]["epochs"] if own is None else own


def _range(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def legend(columns: tuple[str, ...]) -> str:
    """Returns what the columns mean that need it."""
    sentences = [sentence for metric, sentence in _MEANINGS.items() if metric in columns]
    by = [_explained(measure) for measure in MEASURES.values() if f"{_OOD}auroc_{measure.column}" in columns]
    if by:
        listed = f"{', '.join(by[:-1])} and {by[-1]}" if len(by) > 1 else by[0]
        sentences.append(f"OOD sets: AUROC % against validation inputs, by {listed}.")
    return " ".join(sentences)


def _explained(measure: Measure) -> str:
    """Returns "total uncertainty" where a heading's word is in it, else "epkl (expected pairwise KL)"."""
    heading, label = measure.column.replace("_", " "), measure.label.split(" (")[0]
    label = f"{label[0].lower()}{label[1:]}"
    return label if heading in label else f"{heading} ({label})"


def changes(variants: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields what each variant changes, a list item each; values are plain, as in a config."""
    for label, paths in variants.items():
        listed = ", ".join(f"`{path}={json.dumps(value, ensure_ascii=False)}`" for path, value in paths.items())
        yield f"- {label}: {listed or 'the experiment as it is'}"
