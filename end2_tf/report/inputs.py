"""What the evaluation stage left on disk, read lazily: results.json, arrays, training histories.

Only results.json must be there: the page lacks the sections whose files are missing. A broken file is an error.
"""

from __future__ import annotations

import csv
import functools
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from end2_tf import tables
from end2_tf.errors import DataError
from end2_tf.reading import npz, texts
from end2_tf.report import style

_AGAIN = "Delete it and run the evaluation again."


# Every field of results.json that the page reads, and what stands for it where it is missing.
_DEFAULTS: dict[str, Any] = {
    "experiment": "experiment",
    "created": "",
    "command": "",
    "commit": "",
    "config": {},
    "versions": {},
    "seconds": {},
    "class_names": [],
    "counts": {},
    "split": "test",
    "num_bins": 15,
    "num_members": None,
    "rows": [],
    "severities": {},
    "gap_closed": [],
    "definitions": {},
    "notes": [],
}


@dataclass(frozen=True)
class Row:
    """A measure of a model: the mean over n trainings, with their standard deviation where there are several.

    Names stand in tables, pages and files' names; an undefined value is null or NaN.
    """

    model: texts.FileName
    dataset: texts.Name
    metric: texts.Name
    value: float | None
    sd: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class _Results:
    """What the fields of results.json must be."""

    experiment: texts.Name
    created: str
    command: str
    commit: str
    config: dict[str, Any]
    versions: dict[texts.Name, str]
    seconds: dict[str, float]
    class_names: tuple[texts.Name, ...]
    counts: dict[texts.Name, int]
    split: texts.Name
    num_bins: Annotated[int, Field(ge=1, le=10_000)]
    num_members: int | None
    rows: list[Row]
    severities: dict[texts.Name, tuple[texts.Name, int]]
    gap_closed: list[dict[str, Any]]
    definitions: dict[str, str]
    notes: list[str]


class Evaluation:
    """One evaluation folder.

    Args:
        folder: Holds results.json and, optionally, labels.npz, predictions/, map.npz, simplex.npz and history/.

    Raises:
        DataError: results.json is missing or isn't what an evaluation writes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.results = _read_results(self.folder / "results.json")
        self._keys: dict[str, list[str]] = {}

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        return self.results["rows"]

    @functools.cached_property
    def models(self) -> list[str]:
        """In the order of the page."""
        return tables.without_lone_member(style.in_order(row["model"] for row in self.rows), self.num_members)

    @property
    def published(self) -> dict[str, Any]:
        """What a paper reports of the experiment, as `config.Published`; empty where there is nothing."""
        return self.results["config"].get("published") or {}

    def published_figure(self, model: str, metric: str, dataset: str) -> tuple[float, float | None] | None:
        """Returns mean and spread that a paper reports; None where it reports none."""
        by_model = self.published["test"] if dataset == "test" else self.published["ood"].get(dataset, {})
        found = by_model.get(model, {}).get(metric)
        return None if found is None else (found[0], found[1])

    @functools.cached_property
    def pictured(self) -> list[str]:
        """Models with predictions on disk, in order."""
        return [m for m in self.models if (self.folder / "predictions" / f"{m}.npz").is_file()]

    @functools.cached_property
    def students(self) -> list[str]:
        return [m for m in self.models if style.is_student(m)]

    @functools.cached_property
    def recommended(self) -> str | None:
        """The student to show first: EnD² with auxiliary data if there is one, then EnD², then any other."""
        preferred = [m for m in style.PREFERRED_STUDENTS if m in self.students]
        return next(iter(preferred or self.students), None)

    @property
    def split(self) -> str:
        """The in-domain examples that everything was measured on: `test`, or `validation`."""
        return self.results["split"]

    @functools.cached_property
    def ood_names(self) -> list[str]:
        """OOD test sets, in the order of results.json."""
        return list(dict.fromkeys(row["dataset"] for row in self.rows if row["metric"].startswith("ood_")))

    @functools.cached_property
    def shifted_names(self) -> list[str]:
        """Further sets with labels, in the order of results.json."""
        found = dict.fromkeys(row["dataset"] for row in self.rows if row["metric"] == "error")
        return [name for name in found if name != self.split]

    @functools.cached_property
    def shifts(self) -> dict[str, dict[int, str]]:
        """The set at each severity, ascending, of shifts that were measured at several; 0 is the in-domain set."""
        found: dict[str, dict[int, str]] = {}
        for dataset, (shift, severity) in self.results["severities"].items():
            if dataset in self.shifted_names:
                found.setdefault(shift, {0: self.split})[int(severity)] = dataset
        return {shift: dict(sorted(sets.items())) for shift, sets in found.items() if len(sets) > 2}

    @property
    def num_members(self) -> int | None:
        """Of the ensemble; `single` rows are means over them."""
        counted = [row.get("n") for row in self.rows if row["model"] == "single"]
        return self.results["num_members"] or next((n for n in counted if n), None)

    def style(self, model: str) -> style.ModelStyle:
        return style.of(model, self.models)

    def label(self, model: str) -> str:
        """A model's name on the page; the ensemble's says how many members it has."""
        if model == "ensemble" and model not in self.models:  # see `tables.without_lone_member`
            return self.style("single").label
        if model == "ensemble" and self.num_members:
            return f"Ensemble of {self.num_members}"
        return self.style(model).label

    def picture_label(self, model: str) -> str:
        """A model's name in pictures of predictions, where a single member is the first and no mean over members."""
        return "First member" if model == "single" else self.label(model)

    def training_label(self, model: str) -> str:
        """A model's name in pictures of trainings, where the ensemble's history is the mean of its members'."""
        is_several = model == "ensemble" and (self.num_members or 0) > 1
        return f"Members, mean of {self.num_members}" if is_several else self.label(model)

    def row(self, model: str, metric: str, dataset: str | None = None) -> dict[str, Any] | None:
        return self._index.get((model, metric, dataset or self.split))

    def value(self, model: str, metric: str, dataset: str | None = None) -> float | None:
        """A metric's value, in-domain unless a set is named; None where it wasn't measured or is undefined (NaN)."""
        row = self.row(model, metric, dataset)
        value = None if row is None else row.get("value")
        return float(value) if value is not None and math.isfinite(value) else None

    @functools.cached_property
    def _index(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        return {(row["model"], row["metric"], row["dataset"]): row for row in self.rows}

    def has(self, name: str, key: str) -> bool:
        """Says whether one .npz file is there and holds an array."""
        return key in self.keys(name)

    def has_prediction(self, model: str, key: str) -> bool:
        return self.has(f"predictions/{model}.npz", key)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Class numbers of the in-domain inputs, (n,)."""
        return self.array("labels.npz", self.split)

    def probs(self, model: str, dataset: str) -> np.ndarray:
        """A model's probabilities, (n, classes)."""
        return self.array(f"predictions/{model}.npz", f"{dataset}/probs")

    def uncertainty(self, model: str, dataset: str, kind: str) -> np.ndarray:
        """A model's total, data or knowledge uncertainty in nats, (n,).

        Total uncertainty is computed from the probabilities where it isn't stored.
        """
        key = f"{dataset}/{kind}_uncertainty"
        if kind == "total" and not self.has_prediction(model, key):
            p = self.probs(model, dataset).astype(np.float64)
            return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0), axis=1)
        return self.array(f"predictions/{model}.npz", key)

    def array(self, name: str, key: str) -> np.ndarray:
        """Returns one array of one .npz file.

        Raises:
            DataError: the file or the key is missing, or the file can't be read.
        """
        if key not in self.keys(name):
            raise DataError(f"{self.folder / name} has no {key!r}. Run the evaluation again.")
        try:
            return npz.read(self.folder / name, [key])[key]
        except DataError as error:
            raise DataError(f"{error} {_AGAIN}") from error

    def keys(self, name: str) -> list[str]:
        """Returns the names of one .npz file's arrays; none where there is no such file."""
        if name not in self._keys:
            path = self.folder / name
            try:
                self._keys[name] = npz.names(path) if path.is_file() else []
            except DataError as error:
                raise DataError(f"{error} {_AGAIN}") from error
        return self._keys[name]

    def history(self, model: str) -> dict[str, np.ndarray]:
        """Columns of history/<model>.csv, (epochs,); empty cells are NaN. Empty where there is no such file."""
        path = self.folder / "history" / f"{model}.csv"
        if not path.is_file():
            return {}
        text = texts.read_text(path, DataError, _AGAIN)
        try:
            lines = list(csv.DictReader(io.StringIO(text, newline="")))
            return {
                name: np.array([float(line[name]) if line[name] else math.nan for line in lines])
                for name in (lines[0] if lines else {})
            }
        except (TypeError, ValueError, KeyError, csv.Error) as error:
            raise DataError(f"{path} has a cell that is no number ({error}). {_AGAIN}") from error

    @functools.cached_property
    def histories(self) -> dict[str, dict[str, np.ndarray]]:
        names = {path.stem for path in (self.folder / "history").glob("*.csv")}
        found = {m: self.history(m) for m in style.in_order(names)}
        return {m: columns for m, columns in found.items() if len(columns.get("epoch", ()))}


def _read_results(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise DataError(f"{path} is missing, so there is nothing to report. Run the evaluation first.")
    results = texts.read_object(path, DataError, _AGAIN)
    rows = results.get("rows")
    needed = {"model", "dataset", "metric", "value"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and needed <= row.keys() for row in rows):
        raise DataError(
            f"{path} has no list 'rows' of rows with model, dataset, metric, value, so no evaluation wrote it. {_AGAIN}"
        )
    found = {name: default if results.get(name) is None else results[name] for name, default in _DEFAULTS.items()}
    texts.fit(_Results, found, f"{path}", DataError, _AGAIN)
    return found
