"""Rows of results as CSV and as the table in the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

CSV_HEADER = "model,dataset,metric,value,sd,n"
MODELS = (
    "bayes",
    "single",
    "single_matched",
    "single_mixup",
    "ensemble",
    "teacher",
    "prior_network",
    "self_distribution",
    "logit_gaussian",
    "logit_gaussian_aux",
    "hydra",
    "hydra_aux",
    "end",
    "end_aux",
    "end2_nll",
    "end2_nll_aux",
    "end2_proxy",
    "end2_proxy_aux",
    "end2",
    "end2_aux",
)


def group(data: str, path: str | None, members: str) -> str:
    """Returns what the models of one data set and ensemble are called together, in a zoo and in comparisons.

    Args:
        data: Name of the data set.
        path: Of own data; the file's name tells one from another.
        members: Their backbone; "own" where they were brought.
    """
    file = re.sub(r"[^a-z0-9]+", "_", Path(path or "").stem.lower()).strip("_")
    return re.sub(r"[^A-Za-z0-9._-]", "_", "_".join(part for part in (data, file, members) if part))


def rows_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Returns rows as CSV; an undefined value or spread is empty."""
    lines = [
        f"{r['model']},{r['dataset']},{r['metric']},{_number(r['value'])},{_number(r['sd'])},{r['n']}" for r in rows
    ]
    return "\n".join([CSV_HEADER, *lines]) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.8g}"


_COLUMNS = (  # heading, in-domain metric, factor, decimals
    ("error %", "error", 100.0, 2),
    ("NLL", "nll", 1.0, 3),
    ("ECE %", "ece", 100.0, 2),
    ("PRR", "prr", 1.0, 1),
    ("rank corr.", "knowledge_rank_correlation", 1.0, 3),
)


def ordered_models(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the models that rows speak of, in the order a reader compares them."""
    present = list(dict.fromkeys(r["model"] for r in rows))
    return [m for m in MODELS if m in present] + [m for m in present if m not in MODELS]


def without_lone_member(models: Sequence[str], num_members: int | None) -> list[str]:
    """Returns models without an ensemble of one member that nothing is compared with: it is that member."""
    is_lone = num_members == 1 and not set(models) - {"single", "ensemble", "bayes"}
    return [model for model in models if not (is_lone and model == "ensemble")]


def cells(results: dict[str, Any]) -> list[list[str]]:
    """Returns the results table: a heading, then a line a model, with the share of the gap that each student closes."""
    rows, split = results["rows"], results.get("split", "test")
    values = {(r["model"], r["dataset"], r["metric"]): r for r in rows}
    gaps = {(g["model"], g["metric"]): g["value"] for g in results["gap_closed"]}
    ood = _ood_sets(rows)
    lines = [["model", "n", *(c[0] for c in _COLUMNS), *ood, "gap closed %"]]
    for model in without_lone_member(ordered_models(rows), results.get("num_members")):
        line = [model, str(values[model, split, "error"]["n"])]
        line += [_cell(values.get((model, split, metric)), factor, digits) for _, metric, factor, digits in _COLUMNS]
        for dataset in ood:
            both = (values.get((model, dataset, f"ood_auroc_{m}")) for m in ("total", "knowledge"))
            line.append(" / ".join("–" if r is None else f"{100 * r['value']:.1f}" for r in both))
        shares = [gaps.get((model, metric)) for metric in ("error", "nll")]
        has_gap = any((model, metric) in gaps for metric in ("error", "nll"))
        line.append(" / ".join("–" if share is None else f"{100 * share:.0f}" for share in shares) if has_gap else "")
        lines.append(line)
    return lines


def shifted_cells(results: dict[str, Any]) -> list[list[str]]:
    """Returns the table of shifted sets, error and NLL: a heading, then a line a set; nothing where there are none."""
    values = {(r["model"], r["dataset"], r["metric"]): r for r in results["rows"]}
    datasets = list(dict.fromkeys(r["dataset"] for r in results["rows"] if r["metric"] == "error"))
    if len(datasets) < 2:
        return []
    models = [m for m in ordered_models(results["rows"]) if any((m, d, "error") in values for d in datasets[1:])]
    lines = [["error % / NLL on", *models]]
    for dataset in datasets:
        pairs = [(values.get((m, dataset, "error")), values.get((m, dataset, "nll"))) for m in models]
        cells = [f"{_mean(error, 100.0, 1)} / {_mean(nll, 1.0, 2)}" for error, nll in pairs]
        lines.append([dataset, *cells])
    return lines


def legend(results: dict[str, Any]) -> list[str]:
    """Returns what the table's columns mean, with the numbers of examples, a sentence an item."""
    counts = ", ".join(f"{name} {num:,}" for name, num in results["counts"].items())
    sentences = [f"n: members of the ensemble for 'single', student seeds else (± sd). Examples: {counts}."]
    ood = _ood_sets(results["rows"])
    if ood:
        split = results.get("split", "test")
        sentences.append(f"{', '.join(ood)}: AUROC % against {split}, by total / knowledge uncertainty.")
    models = {row["model"] for row in results["rows"]}
    told = {
        "bayes": "the true posterior",
        "single_matched": "one network trained on labels for as long as a student",
    }
    known = [f"{name}: {what}." for name, what in told.items() if name in models]
    if any(model.endswith("_aux") for model in models):
        known.append("_aux: shown inputs from outside too.")
    if any(row["metric"] == "knowledge_rank_correlation" for row in results["rows"]):
        known.append("Rank corr.: Spearman's, of knowledge uncertainty with the ensemble's.")
    sentences += [" ".join(known)] if known else []
    sentences.append("PRR: 100 is the oracle, 0 random. Gap closed: of error / NLL between single model and ensemble.")
    return sentences


def summary(results: dict[str, Any]) -> str:
    """Returns the results table, that of shifted sets where there are any, and their legend as plain text."""
    shifted = shifted_cells(results)
    more = ["", *_ruled(shifted), ""] if shifted else []
    return "\n".join([*_ruled(cells(results)), *more, *legend(results)])


def _ruled(lines: Sequence[Sequence[str]]) -> list[str]:
    heading, *rest = aligned(lines)
    return [heading, "-" * len(heading), *rest]


def aligned(lines: Sequence[Sequence[str]], text: Collection[int] = (0,)) -> list[str]:
    """Returns rows of cells as lines with columns of one width: those numbered in `text` to the left, others right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(w) if place in text else cell.rjust(w)
            for place, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def _ood_sets(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(r["dataset"] for r in rows if r["metric"] == "ood_auroc_total"))


def _cell(row: dict[str, Any] | None, factor: float, decimals: int) -> str:
    spread = f" ±{factor * row['sd']:.{decimals}f}" if row is not None and row["sd"] is not None else ""
    mean = _mean(row, factor, decimals)
    return mean if mean == "–" else mean + spread


def _mean(row: dict[str, Any] | None, factor: float, decimals: int) -> str:
    return "–" if row is None or row["value"] is None else f"{factor * row['value']:.{decimals}f}"


def markdown(table: Sequence[Sequence[str]], text: Collection[int] = (0,)) -> str:
    """Returns a table as Markdown, columns of `text` to the left, numbers to the right.

    Args:
        table: A heading, then lines; cells as they should stand, a `|` in them escaped.
        text: Numbers of the columns that hold words.
    """
    heading, *lines = table
    ruler = "".join("|---" if column in text else "|--:" for column in range(len(heading))) + "|"
    first, *rest = (f"| {' | '.join(line)} |" for line in (heading, *lines))
    return "\n".join([first, ruler, *rest])
