"""results.csv of a zoo, and the tables that its pages show of it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from end2_tf import tables
from end2_tf.errors import ZooError
from end2_tf.reading import texts

COLUMNS = ("entry", "dataset", "metric", "mean", "sd", "n", "command", "commit")
Row = dict[str, str]
Table = list[list[str]]  # a heading, then lines

# Of the test set: heading, metric, factor, decimals.
_TEST = (
    ("error %", "error", 100.0, 2),
    ("NLL", "nll", 1.0, 3),
    ("ECE %", "ece", 100.0, 2),
    ("PRR", "prr", 1.0, 1),
    ("rank corr.", "knowledge_rank_correlation", 1.0, 3),
)
_KINDS = ("total", "knowledge")


def rows_of(metadata: Mapping[str, Any]) -> list[Row]:
    """Returns an entry's rows, from its metadata."""
    fixed = {"command": metadata["command"], "commit": metadata["commit"] or "unknown"}
    return [
        {
            "entry": metadata["entry"],
            "dataset": row["dataset"],
            "metric": row["metric"],
            "mean": _text(row["mean"]),
            "sd": _text(row["sd"]),
            "n": str(row["n"]),
            **fixed,
        }
        for row in metadata["results"]
    ]


def _text(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.8g}"


def read(path: Path) -> list[Row]:
    """Returns the rows of a results.csv; none where there is no file.

    Raises:
        ZooError: it can't be read, or has other columns.
    """
    if not path.is_file():
        return []
    text = texts.read_text(path, ZooError, "Restore or delete it.")
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        columns, rows = tuple(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise ZooError(f"{path} can't be read ({error}). Restore or delete it.") from None
    if columns != COLUMNS:
        raise ZooError(
            f"{path} has the columns {texts.listed(columns)}, not {', '.join(COLUMNS)}. Restore or delete it."
        )
    for number, row in enumerate(rows, 2):
        if fault := _fault(row):
            raise ZooError(f"{path}, row {number}: {fault}. Restore or delete it.")
    return rows


def _fault(row: Mapping[str, str | None]) -> str:
    """Returns what a row has that none of ours could; nothing if it is sound."""
    for column in COLUMNS:
        cell = row.get(column)
        if cell is None or not cell.isprintable():
            return f"{column} is {texts.listed([repr(cell)])}"
        if column in ("mean", "sd") and cell:
            try:
                is_finite = math.isfinite(float(cell))
            except ValueError:
                is_finite = False
            if not is_finite:
                return f"{column} is {texts.listed([repr(cell)])}, no finite number"
    return "it has more cells than columns" if None in row else ""


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Returns the rows of a zoo in the order of its entries."""
    return sorted(rows, key=lambda row: sort_key(row["entry"]))  # stable: an entry's own rows keep their order


def sort_key(entry: str) -> tuple[str, int, str]:
    """Returns the place of an entry: by data set and backbone, then in the order in which readers compare methods."""
    methods = sorted(tables.MODELS, key=len, reverse=True)  # `end2_aux` before `aux`
    method = next((m for m in methods if entry.endswith(f"_{m}")), "")
    place = tables.MODELS.index(method) if method else len(tables.MODELS)
    return entry.removesuffix(f"_{method}") if method else entry, place, entry


def to_csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class Results:
    """Rows of some entries as tables, an entry a line.

    Args:
        rows: As in results.csv.
        labels: Entries and what the first column calls them, in order.
    """

    def __init__(self, rows: Iterable[Row], labels: Mapping[str, str]):
        self.labels = labels
        self._values = {(r["entry"], r["dataset"], r["metric"]): r for r in rows if r["entry"] in labels}

    def _datasets(self, metric: str) -> list[str]:
        return list(dict.fromkeys(d for _, d, m in self._values if m == metric))

    def value(self, entry: str, dataset: str, metric: str) -> float | None:
        row = self._values.get((entry, dataset, metric))
        return float(row["mean"]) if row is not None and row["mean"] else None

    @property
    def ood(self) -> list[str]:
        """OOD sets of other classes than the test set's."""
        return [name for name in self._datasets("ood_auroc_total") if name not in self._shifted]

    @property
    def controls(self) -> list[str]:
        """OOD sets that are shifted sets too: they have the test set's classes, so mustn't be told from it."""
        return [name for name in self._datasets("ood_auroc_total") if name in self._shifted]

    @property
    def _shifted(self) -> list[str]:
        return [name for name in self._datasets("error") if name != "test"]

    def test(self) -> Table:
        """Returns error, NLL, calibration, rejection and rank correlation on the test set: mean ± sd (n)."""
        cells = [
            [self._cell(entry, "test", metric, factor, digits) for _, metric, factor, digits in _TEST]
            for entry in self.labels
        ]
        return self._table([heading for heading, *_ in _TEST], cells)

    def detection(self) -> Table:
        """Returns AUROC % against the test set, by total and by knowledge uncertainty; empty without OOD sets."""
        headings = {name: name for name in self.ood} | {name: f"{name} (control)" for name in self.controls}
        columns = [(name, kind) for name in headings for kind in _KINDS]
        cells = [[self._cell(e, name, f"ood_auroc_{kind}", 100.0, 1) for name, kind in columns] for e in self.labels]
        return self._table([f"{headings[name]}, {kind}" for name, kind in columns], cells) if columns else []

    def shifted(self) -> Table:
        """Returns the error % on further sets with labels; empty without any."""
        names = self._shifted
        cells = [[self._cell(entry, name, "error", 100.0, 1) for name in names] for entry in self.labels]
        return self._table([f"{name}, error %" for name in names], cells) if names else []

    def _table(self, headings: list[str], cells: list[list[str]]) -> Table:
        return [
            ["model", *headings],
            *([label, *line] for label, line in zip(self.labels.values(), cells, strict=True)),
        ]

    def _cell(self, entry: str, dataset: str, metric: str, factor: float, digits: int) -> str:
        row = self._values.get((entry, dataset, metric))
        if row is None or not row["mean"]:
            return "–"
        mean = f"{factor * float(row['mean']):.{digits}f}"
        return f"{mean} ± {factor * float(row['sd']):.{digits}f} ({row['n']})" if row["sd"] else mean


def markdown(table: Table, text: Collection[int] = (0,)) -> str:
    """Returns a table as Markdown; names that hold a `|` don't break it."""
    return tables.markdown([[cell.replace("|", "/") for cell in line] for line in table], text)
