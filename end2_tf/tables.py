"""Rows of results as CSV and as the table in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

CSV_HEADER = "model,dataset,metric,value,sd,n"
MODELS = (
    "bayes",
    "single",
    "single_matched",
    "ensemble",
    "end",
    "end_aux",
    "end2_nll",
    "end2_nll_aux",
    "end2",
    "end2_aux",
)


def rows_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Returns rows as CSV; an undefined value or spread is empty."""
    lines = [
        f"{r['model']},{r['dataset']},{r['metric']},{_number(r['value'])},{_number(r['sd'])},{r['n']}" for r in rows
    ]
    return "\n".join([CSV_HEADER, *lines]) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.8g}"


_COLUMNS = (  # heading, metric on the test set, factor, decimals
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


def cells(results: dict[str, Any]) -> list[list[str]]:
    """Returns the results table: a heading, then a line a model, with the share of the gap that each student closes."""
    rows = results["rows"]
    values = {(r["model"], r["dataset"], r["metric"]): r for r in rows}
    gaps = {(g["model"], g["metric"]): g["value"] for g in results["gap_closed"]}
    ood = _ood_sets(rows)
    lines = [["model", "n", *(c[0] for c in _COLUMNS), *ood, "gap closed %"]]
    for model in ordered_models(rows):
        line = [model, str(values[model, "test", "error"]["n"])]
        line += [_cell(values.get((model, "test", metric)), factor, digits) for _, metric, factor, digits in _COLUMNS]
        for dataset in ood:
            both = (values.get((model, dataset, f"ood_auroc_{m}")) for m in ("total", "knowledge"))
            line.append(" / ".join("–" if r is None else f"{100 * r['value']:.1f}" for r in both))
        shares = [gaps.get((model, metric)) for metric in ("error", "nll")]
        has_gap = any((model, metric) in gaps for metric in ("error", "nll"))
        line.append(" / ".join("–" if share is None else f"{100 * share:.0f}" for share in shares) if has_gap else "")
        lines.append(line)
    return lines


def legend(results: dict[str, Any]) -> list[str]:
    """Returns what the table's columns mean, with the numbers of examples, a sentence an item."""
    counts = ", ".join(f"{name} {num:,}" for name, num in results["counts"].items())
    sentences = [f"n: members of the ensemble for 'single', student seeds else (± sd). Examples: {counts}."]
    ood = _ood_sets(results["rows"])
    if ood:
        sentences.append(f"{', '.join(ood)}: AUROC % against test, by total / knowledge uncertainty.")
    sentences.append("PRR: 100 is the oracle, 0 random. Gap closed: of error / NLL between single model and ensemble.")
    return sentences


def summary(results: dict[str, Any]) -> str:
    """Returns the results table and its legend as plain text."""
    lines = cells(results)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.rjust(w) if place else cell.ljust(w) for place, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    text.insert(1, "-" * len(text[0]))
    return "\n".join([*text, *legend(results)])


def _ood_sets(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(r["dataset"] for r in rows if r["metric"] == "ood_auroc_total"))


def _cell(row: dict[str, Any] | None, factor: float, decimals: int) -> str:
    if row is None or row["value"] is None:
        return "–"
    spread = f" ±{factor * row['sd']:.{decimals}f}" if row["sd"] is not None else ""
    return f"{factor * row['value']:.{decimals}f}{spread}"
